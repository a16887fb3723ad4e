"""Remarks on padding: words that depend on the input's size, sides, order, defaults, and crops of transposed layers."""

from __future__ import annotations

from convspec.layers.remarks.port import Port, Remark, Remarks, per_axis
from convspec.layers.sentences import listed, times, unit
from convspec.spec import Pads, resolve_padding, same_pads

_MOST_CASES = 3


def strided_same(port: Port) -> Remarks:
    """``"same"`` with a stride depends on the input's size; no number does."""
    spec = port.spec
    if spec.transposed or not isinstance(spec.padding, str) or max(spec.effective_kernel) == 1:
        return
    halves = per_axis([(ke - 1) // 2 for ke in spec.effective_kernel], port.letters)
    naive = per_axis([((ke - 1) // 2,) * 2 for ke in spec.effective_kernel], port.letters)
    number = f"padding={halves}" if halves.isdigit() else "half the kernel as padding"
    if port.spatial is None:
        rules = [_rule(port, axis) for axis in range(spec.ndim)]
        alike = len(set(rules)) == 1
        rule = rules[0] if alike else "; ".join(f"{a}: {r}" for a, r in zip(port.letters, rules, strict=True))
        text = f'"{spec.padding}" with a stride depends on the input\'s size: {rule}. '
        text += f"{_capital(number)} always pads {naive}."
    else:
        pads = [_same(port, axis, size) for axis, size in enumerate(port.spatial)]
        text = (
            f'"{spec.padding}" with a stride pads an input of {times(port.spatial)} by {per_axis(pads, port.letters)}'
        )
        if all(pair == ((ke - 1) // 2,) * 2 for pair, ke in zip(pads, spec.effective_kernel, strict=True)):
            text += f", as {number} does; at other sizes they differ."
        else:
            text += f"; {number} pads by {naive}."
    yield Remark("strided-same", text)


def _capital(text: str) -> str:
    return text if "=" in text else text[0].upper() + text[1:]


def _same(port: Port, axis: int, size: int) -> tuple[int, int]:
    spec, lower = port.spec, port.spec.padding == "same_lower"
    return same_pads(size, spec.kernel_size[axis], spec.stride[axis], spec.dilation[axis], lower=lower)


def _rule(port: Port, axis: int) -> str:
    """Return the pads of an axis for every size: they depend on the size modulo the stride."""
    kernel, stride = port.spec.effective_kernel[axis], port.spec.stride[axis]
    by_pads: dict[tuple[int, int], list[int]] = {}
    for rest in range(stride):
        by_pads.setdefault(_same(port, axis, rest + stride * kernel), []).append(rest)
    if len(by_pads) == 1:
        return f"{next(iter(by_pads))} for every size"
    if stride == 2:
        (even, _), (odd, _) = sorted(by_pads.items(), key=lambda item: item[1])
        return f"{even} for an even size, {odd} for an odd one"
    cases = [f"{pads} where size mod {stride} is {listed([*map(str, rests)])}" for pads, rests in by_pads.items()]
    return ", ".join([*cases[:_MOST_CASES], *(["…"] if len(cases) > _MOST_CASES else [])])


def numbers_are_not_same(port: Port) -> Remarks:
    """Symmetric pads with a stride, in a framework that has ``"same"``."""
    spec, pads = port.spec, port.pads
    strided = max(spec.stride) > 1 and not spec.transposed
    if not strided or pads is None or not any(map(any, pads)) or port.to == "torch":
        return
    if any(pair != ((ke - 1) // 2,) * 2 for pair, ke in zip(pads, spec.effective_kernel, strict=True)):
        return
    word = {"keras": 'padding="same"', "flax": 'padding="SAME"', "onnx": 'auto_pad="SAME_UPPER"'}.get(port.to, '"same"')
    axes = zip(spec.kernel_size, spec.stride, spec.dilation, strict=True)
    sizes = port.spatial or tuple(s * (k - 1) * d + s for k, s, d in axes)
    other = [_same(port, axis, size) for axis, size in enumerate(sizes)]
    when = "if the stride divides the size" if port.spatial is None else f"an input of {times(sizes)}"
    if tuple(other) == pads:
        text = f"{word} pads as this layer does at this input size, but not at others."
    else:
        text = (
            f"{word} gives an output of the same shape with different numbers: it pads {when} by "
            f"{per_axis(other, port.letters)}, this layer by {per_axis(pads, port.letters)}."
        )
    yield Remark("same-is-not-symmetric", text)


def odd_pad(port: Port) -> Remarks:
    """The odd pad of an even kernel."""
    spec, pads = port.spec, port.pads
    if spec.transposed or max(spec.stride) > 1 or pads is None:
        return
    halves = [((ke - 1) // 2, ke // 2) for ke in spec.effective_kernel]
    if all(lo == hi for lo, hi in halves):
        return
    if list(pads) == halves and "same" not in port.text.lower():
        half = per_axis([ke // 2 for ke in spec.effective_kernel], port.letters)
        pairs = per_axis(halves, port.letters)
        text = f"An even kernel needs pads {pairs}: {half} on both sides makes the output too large by 1."
        yield Remark("even-kernel", text)
    elif list(pads) == [(hi, lo) for lo, hi in halves]:
        yield Remark("odd-cell-before", _BEFORE.format(per_axis(pads, port.letters)))


_BEFORE = (
    'The odd pad is before the input, {}: "same" in PyTorch, Flax and Keras, and SAME_UPPER in ONNX, put it after.'
)


def same_lower(port: Port) -> Remarks:
    if port.spec.padding == "same_lower" and max(port.spec.effective_kernel) > 1:
        yield Remark("odd-cell-before", _BEFORE.format("if there is one"))


def causal(port: Port) -> Remarks:
    """All pads before the input, in a framework that has no word for it."""
    spec, pads = port.spec, port.pads
    reach = spec.effective_kernel[0] - 1
    if spec.ndim != 1 or spec.transposed or reach == 0 or pads != ((reach, 0),):
        return
    if "causal" not in port.text.lower():
        text = f"Causal: all {reach} pads are before the input. padding={reach} would let outputs depend on the future."
        yield Remark("causal", text)


def order_of_pads(port: Port) -> Remarks:
    """Unequal pads, whose order in a flat list matters."""
    spec, pads = port.spec, port.pads
    if pads is None or len({n for pair in pads for n in pair}) == 1:
        return
    if port.to == "onnx" and spec.ndim > 1 and "pads=" in port.text:
        begins, ends = zip(*pads, strict=True)
        names = ", ".join([f"{letter} begin" for letter in port.letters] + [f"{letter} end" for letter in port.letters])
        yield Remark("order-of-pads", f"ONNX lists all begins, then all ends: {[*begins, *ends]} is {names}.")
    elif port.to == "torch" and spec.ndim > 1 and "F.pad(" in port.text:
        yield Remark("order-of-pads", f"F.pad takes the last axis first: {', '.join(reversed(port.letters))}.")
    elif port.of == "onnx" and spec.ndim > 1:
        yield Remark("order-of-pads", f"ONNX: all begins, then all ends; {port.sides[1]}: one pair per axis.")


def flax_default(port: Port) -> Remarks:
    """Flax alone pads by default."""
    if port.of == "flax" and "padding" not in port.arguments:
        yield Remark("default-padding", 'Default padding. Flax: "SAME"; all other frameworks: none.')
    elif port.to == "flax" and '"VALID"' in port.text and port.of != "flax":
        yield Remark("default-padding", 'Flax needs padding="VALID": its default is "SAME".')


def own_pads_of_modes(port: Port) -> Remarks:
    """Flax' circular and reflecting padding, which fixes its own pads."""
    word = str(port.arguments.get("padding", "")).upper()
    if port.of == "flax" and word in ("CIRCULAR", "REFLECT"):
        text = f"Flax' {word!r} pads {per_axis(port.pads or (), port.letters)} at any stride"
        yield Remark("padding-mode", f"{text}, with {unit(port.spec.ndim)}s of the input instead of zeros.")


def auto_pad(port: Port) -> Remarks:
    """ONNX' words for padding, which runtimes interpret differently."""
    word = port.arguments.get("auto_pad", "NOTSET") if port.of == "onnx" else "NOTSET"
    if word not in ("NOTSET", "VALID") and port.spec.dilation != (1,) * port.spec.ndim:
        text = f"ONNX Runtime rejects auto_pad={word} with a dilation: the source may never have run on it."
        yield Remark("auto-pad", text)
    if port.to != "onnx" or "auto_pad=" not in port.text:
        return
    text = "auto_pad depends on the input's size, as this layer does, but tools interpret it differently, some wrongly."
    if port.spatial is not None:
        pairs = [_same(port, axis, size) for axis, size in enumerate(port.spatial)]
        pads = [lo for lo, _ in pairs] + [hi for _, hi in pairs]
        text += f" For this input size alone, pads={pads} is equivalent."
    yield Remark("auto-pad", text)


# -- transposed layers: the rows of the full result that are kept ------------------------------------------------------


def net_crops(port: Port) -> Pads:
    """Return the crops before and, less the output padding, after; a negative crop extends the result."""
    pads, extra = resolve_padding(port.spec, (1,) * port.spec.ndim)
    return tuple((lo, hi - op) for (lo, hi), op in zip(pads, extra, strict=True))


def same_crops(port: Port) -> Pads:
    """Return the crops of Keras' and Flax' ``"same"``, which leave L·s pixels; the smaller half is before."""
    totals = [ke - s for ke, s in zip(port.spec.effective_kernel, port.spec.stride, strict=True)]
    return tuple((max(t, 0) // 2, t - max(t, 0) // 2) for t in totals)


def same_size_other_rows(port: Port) -> Remarks:
    """PyTorch's usual numbers and the others' ``"same"`` give the same size, shifted by a pixel."""
    if not port.spec.transposed:
        return
    same, crops = same_crops(port), net_crops(port)
    if port.to in ("keras", "flax") and crops != same and [sum(c) for c in crops] == [sum(c) for c in same]:
        word = '"same"' if port.to == "keras" else '"SAME"'
        yield Remark(
            "same-size-other-rows",
            f"padding={word} gives an output of the same size, but shifted: of the full result it crops "
            f"{_rows(port, same)}; this layer crops {_rows(port, crops)}.",
        )
    elif port.to in ("torch", "onnx") and port.spec.padding == "same":
        usual = [(ke - 1) // 2 for ke in port.spec.effective_kernel]
        extra = [s - ke + 2 * p for s, ke, p in zip(port.spec.stride, port.spec.effective_kernel, usual, strict=True)]
        other = tuple((p, p - op) for p, op in zip(usual, extra, strict=True))
        if other != same and min(extra) >= 0:
            numbers = f"padding={per_axis(usual, port.letters)}, output_padding={per_axis(extra, port.letters)}"
            yield Remark(
                "same-size-other-rows",
                f"{numbers} gives an output of the same size, but shifted: of the full result it crops "
                f'{_rows(port, other)}; "same" crops {_rows(port, same)}.',
            )


def _rows(port: Port, crops: Pads) -> str:
    ends = (f"{hi} after" if hi >= 0 else f"adds {-hi} after" for _, hi in crops)
    return per_axis([f"{lo} before and {end}" for (lo, _), end in zip(crops, ends, strict=True)], port.letters)


def numbers_pad_the_input(port: Port) -> Remarks:
    """Flax' numbers are pads of the dilated input; all other frameworks' are crops of the result."""
    spec = port.spec
    if not spec.transposed or port.to == port.of or "flax" not in (port.to, port.of) or '"SAME"' in port.text:
        return
    if port.of == "flax" and isinstance(port.arguments.get("padding", "SAME"), str):
        return
    crops = net_crops(port)
    if not any(map(any, crops)):
        return
    pads = [(ke - 1 - lo, ke - 1 - hi) for ke, (lo, hi) in zip(spec.effective_kernel, crops, strict=True)]
    text = f"Flax' numbers pad the dilated input, by kernel span - 1 - crop: {per_axis(pads, port.letters)}"
    yield Remark("pads-of-the-input", f"{text} crops {_rows(port, crops)}.")


def output_padding(port: Port) -> Remarks:
    """Output padding keeps rows and adds no zeros; Keras gives it another meaning."""
    spec = port.spec
    if not any(spec.output_padding):
        return
    text = f"output_padding={per_axis(spec.output_padding, port.letters)} keeps rows of the full result at the end"
    beyond = any(op > hi for op, (_, hi) in zip(spec.output_padding, port.pads or (), strict=False))
    text += "; beyond its last row there is only the bias." if beyond else " and adds no zeros."
    if port.to == "keras":
        text += " Keras' own output_padding counts from another size: its default None is not 0."
    yield Remark("output-padding", text)


def short_kernel(port: Port) -> Remarks:
    """Keras' and Flax' ``"valid"`` extends the output to stride pixels for every pixel of the input."""
    spec = port.spec
    short = [max(s - ke, 0) for s, ke in zip(spec.stride, spec.effective_kernel, strict=True)]
    if not spec.transposed or not any(short):
        return
    filled = net_crops(port) == tuple((0, -n) for n in short)
    (source, target), added = port.sides, f"{per_axis(short, port.letters)} {unit(spec.ndim)}(s)"
    if port.of in ("keras", "flax") and port.to in ("torch", "onnx") and filled:
        text = (
            f"The kernel is shorter than the stride. {source}: {added} added at the end; {target}: as output_padding."
        )
        yield Remark("short-kernel", text)
    elif port.of in ("torch", "onnx") and port.to in ("keras", "flax") and not filled:
        text = f'The kernel is shorter than the stride. {target}: "valid" adds {added} at the end; {source}: none.'
        yield Remark("short-kernel", text)


REMARKS = (
    *(strided_same, numbers_are_not_same, odd_pad, same_lower, causal),
    *(order_of_pads, flax_default, own_pads_of_modes, auto_pad),
    *(same_size_other_rows, numbers_pad_the_input, output_padding, short_kernel),
)
