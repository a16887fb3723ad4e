"""Padding: words that depend on the input's size, sides, orders, defaults."""

from __future__ import annotations

from convspec.layers.remarks.port import Port, Remark, Remarks, listed, per_axis
from convspec.spec import same_pads

_MOST_CASES = 3


def strided_same(port: Port) -> Remarks:
    """``"same"`` at a stride pads by the input's size, which no number does."""
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
        text = f'"{spec.padding}" with a stride pads by the input\'s size – {rule} – and not {naive}, as {number} does.'
    else:
        pads = [_same(port, axis, size) for axis, size in enumerate(port.spatial)]
        size = " × ".join(map(str, port.spatial))
        text = f'"{spec.padding}" with a stride pads {per_axis(pads, port.letters)} for an input of {size} cells'
        if all(pair == ((ke - 1) // 2,) * 2 for pair, ke in zip(pads, spec.effective_kernel, strict=True)):
            text += f", as {number} does; for other sizes they differ."
        else:
            text += f", and not {naive}, as {number} does."
    yield Remark("strided-same", text)


def _same(port: Port, axis: int, size: int) -> tuple[int, int]:
    spec = port.spec
    lower = spec.padding == "same_lower"
    return same_pads(size, spec.kernel_size[axis], spec.stride[axis], spec.dilation[axis], lower=lower)


def _rule(port: Port, axis: int) -> str:
    """The pads of an axis for every size: they follow from the rest that the stride leaves of it."""
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
    """Symmetric pads at a stride, in a framework whose habit is the word."""
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
    here = "" if port.spatial is None else " here"
    when = " where the stride divides the size" if port.spatial is None else here
    if tuple(other) == pads:
        text = f"{word} pads the same as this layer at this size, and otherwise at others."
    else:
        text = (
            f"{word} would give an output of the same shape, and other numbers: it pads "
            f"{per_axis(other, port.letters)}{when}, this layer {per_axis(pads, port.letters)}."
        )
    yield Remark("same-is-not-symmetric", text)


def odd_cell(port: Port) -> Remarks:
    """The extra cell of an even kernel."""
    spec, pads = port.spec, port.pads
    if spec.transposed or max(spec.stride) > 1 or pads is None:
        return
    halves = [((ke - 1) // 2, ke // 2) for ke in spec.effective_kernel]
    if all(lo == hi for lo, hi in halves):
        return
    if list(pads) == halves and "same" not in port.text.lower():
        half = per_axis([ke // 2 for ke in spec.effective_kernel], port.letters)
        text = f"An even kernel pads {per_axis(halves, port.letters)}: {half} on both sides gives a cell too many."
        yield Remark("even-kernel", text)
    elif list(pads) == [(hi, lo) for lo, hi in halves]:
        yield Remark("odd-cell-before", _BEFORE.format(per_axis(pads, port.letters)))


_BEFORE = (
    "The odd cell stands before the input, {}: "
    '"same" of PyTorch, Flax and Keras, and SAME_UPPER of ONNX, have it after.'
)


def same_lower(port: Port) -> Remarks:
    if port.spec.padding == "same_lower" and max(port.spec.effective_kernel) > 1:
        yield Remark("odd-cell-before", _BEFORE.format("where there is one"))


def causal(port: Port) -> Remarks:
    """All pads in front, in a framework that has no word for it."""
    spec, pads = port.spec, port.pads
    reach = spec.effective_kernel[0] - 1
    if spec.ndim != 1 or spec.transposed or reach == 0 or pads != ((reach, 0),):
        return
    if "causal" not in port.text.lower():
        text = f"Causal: all {reach} pads stand before the input. padding={reach} would let outputs see the future."
        yield Remark("causal", text)


def order_of_pads(port: Port) -> Remarks:
    """Where pads differ, their order in a flat list matters."""
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
        yield Remark("order-of-pads", "ONNX lists all begins, then all ends; here every axis has its own pair.")


def flax_default(port: Port) -> Remarks:
    """Flax alone pads where nothing is said."""
    if port.of == "flax" and "padding" not in port.arguments:
        yield Remark("default-padding", 'Flax pads "SAME" where no padding is given; the others do not pad.')
    elif port.to == "flax" and '"VALID"' in port.text and port.of != "flax":
        yield Remark("default-padding", 'padding="VALID" must be written: Flax pads "SAME" where no padding is given.')


def own_pads_of_modes(port: Port) -> Remarks:
    """Flax' circular and reflecting padding has pads of its own."""
    word = str(port.arguments.get("padding", "")).upper()
    if port.of == "flax" and word in ("CIRCULAR", "REFLECT"):
        text = f"Flax' {word!r} pads {per_axis(port.pads or (), port.letters)} whatever the stride"
        yield Remark("padding-mode", f"{text}, with cells of the input and not with zeros.")


def auto_pad(port: Port) -> Remarks:
    """ONNX' words for padding, which runtimes read differently."""
    word = port.arguments.get("auto_pad", "NOTSET") if port.of == "onnx" else "NOTSET"
    if word not in ("NOTSET", "VALID") and port.spec.dilation != (1,) * port.spec.ndim:
        text = f"ONNX Runtime refuses auto_pad={word} with a dilation: the source itself may never have run there."
        yield Remark("auto-pad", text)
    if port.to != "onnx" or "auto_pad=" not in port.text:
        return
    text = "auto_pad follows the input's size, as this layer must, but tools read it differently, some wrongly."
    if port.spatial is not None:
        pairs = [_same(port, axis, size) for axis, size in enumerate(port.spatial)]
        pads = [lo for lo, _ in pairs] + [hi for _, hi in pairs]
        text += f" For this size alone, pads={pads} says the same."
    yield Remark("auto-pad", text)


REMARKS = (
    *(strided_same, numbers_are_not_same, odd_cell, same_lower, causal),
    *(order_of_pads, flax_default, own_pads_of_modes, auto_pad),
)
