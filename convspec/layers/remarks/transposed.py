"""Transposed layers: which rows of the full result are kept."""

from __future__ import annotations

from convspec.layers.remarks.port import Port, Remark, Remarks, per_axis
from convspec.spec import Pads, resolve_padding


def net_crops(port: Port) -> Pads:
    """Cells cropped in front and, less the output padding, at the end; negative: cells added there."""
    pads, extra = resolve_padding(port.spec, (1,) * port.spec.ndim)
    return tuple((lo, hi - op) for (lo, hi), op in zip(pads, extra, strict=True))


def same_crops(port: Port) -> Pads:
    """What Keras' and Flax' ``"same"`` crops: L·s cells are left, of the crop the smaller half is in front."""
    totals = [ke - s for ke, s in zip(port.spec.effective_kernel, port.spec.stride, strict=True)]
    return tuple((max(t, 0) // 2, t - max(t, 0) // 2) for t in totals)


def same_size_other_rows(port: Port) -> Remarks:
    """PyTorch's usual numbers and the others' ``"same"`` give the same size, shifted by a cell."""
    if not port.spec.transposed:
        return
    same, crops = same_crops(port), net_crops(port)
    if port.to in ("keras", "flax") and crops != same and [sum(c) for c in crops] == [sum(c) for c in same]:
        word = '"same"' if port.to == "keras" else '"SAME"'
        yield Remark(
            "same-size-other-rows",
            f"padding={word} gives an output of the same size, shifted: it drops {_rows(port, same)} of the full "
            f"result, this layer {_rows(port, crops)}.",
        )
    elif port.to in ("torch", "onnx") and port.spec.padding == "same":
        usual = [(ke - 1) // 2 for ke in port.spec.effective_kernel]
        extra = [s - ke + 2 * p for s, ke, p in zip(port.spec.stride, port.spec.effective_kernel, usual, strict=True)]
        other = tuple((p, p - op) for p, op in zip(usual, extra, strict=True))
        if other != same and min(extra) >= 0:
            numbers = f"padding={per_axis(usual, port.letters)}, output_padding={per_axis(extra, port.letters)}"
            yield Remark(
                "same-size-other-rows",
                f"{numbers} gives an output of the same size, shifted: it drops {_rows(port, other)} of the full "
                f'result, "same" {_rows(port, same)}.',
            )


def _rows(port: Port, crops: Pads) -> str:
    words = []
    for lo, hi in crops:
        end = f"{hi} at the end" if hi >= 0 else f"adds {-hi} at the end"
        words.append(f"{lo} in front and {end}")
    return per_axis(words, port.letters)


def numbers_pad_the_input(port: Port) -> Remarks:
    """Flax' numbers are pads of the dilated input, everybody else's are crops of the result."""
    spec = port.spec
    if not spec.transposed or port.to == port.of or "flax" not in (port.to, port.of) or '"SAME"' in port.text:
        return
    if port.of == "flax" and isinstance(port.arguments.get("padding", "SAME"), str):
        return
    crops = net_crops(port)
    if not any(map(any, crops)):
        return
    pads = [(ke - 1 - lo, ke - 1 - hi) for ke, (lo, hi) in zip(spec.effective_kernel, crops, strict=True)]
    text = f"Flax' numbers pad the dilated input, with kernel span - 1 - crop: {per_axis(pads, port.letters)}"
    yield Remark("pads-of-the-input", f"{text} here crops {_rows(port, crops)}.")


def output_padding(port: Port) -> Remarks:
    """It keeps rows, it does not add zeros; and Keras means something else by it."""
    spec = port.spec
    if not any(spec.output_padding):
        return
    text = f"output_padding={per_axis(spec.output_padding, port.letters)} keeps rows of the full result at the end"
    beyond = any(op > hi for op, (_, hi) in zip(spec.output_padding, port.pads or (), strict=False))
    text += "; beyond its last row there is the bias alone." if beyond else ": it adds no zeros."
    if port.to == "keras":
        text += " Keras' own output_padding counts from another size: None, its default, is not 0."
    yield Remark("output-padding", text)


def short_kernel(port: Port) -> Remarks:
    """Keras' and Flax' ``"valid"`` fills up to stride cells for every cell of the input."""
    spec = port.spec
    short = [max(s - ke, 0) for s, ke in zip(spec.stride, spec.effective_kernel, strict=True)]
    if not spec.transposed or not any(short):
        return
    filled = net_crops(port) == tuple((0, -n) for n in short)
    if port.of in ("keras", "flax") and port.to in ("torch", "onnx") and filled:
        text = (
            f"The kernel is shorter than the stride: the source adds {per_axis(short, port.letters)} cell(s) at the end"
        )
        yield Remark("short-kernel", f"{text}, which is output_padding here.")
    elif port.of in ("torch", "onnx") and port.to in ("keras", "flax") and not filled:
        text = f'The kernel is shorter than the stride: "valid" would add {per_axis(short, port.letters)} cell(s)'
        yield Remark("short-kernel", f"{text} at the end, which this layer does not have.")


REMARKS = (same_size_other_rows, numbers_pad_the_input, output_padding, short_kernel)
