"""Data: where the channels stand, and what follows from it."""

from __future__ import annotations

from convspec.errors import ShapeError
from convspec.layers.remarks.port import NAMES, Port, Remark, Remarks
from convspec.spec import layouts, output_spatial, product

_ROWS_FIRST = ("torch", "onnx", None)  # their dense layers keep (out, in); Keras and Flax (in, out)


def data_layout(port: Port) -> Remarks:
    """The tensors of both sides have their axes in different orders."""
    ndim = port.spec.ndim
    if port.layout == port.source_layout:
        return
    before, after = layouts.name(port.source_layout, ndim), layouts.name(port.layout, ndim)
    axes = layouts.permutation(layouts.order(port.source_layout, ndim), layouts.order(port.layout, ndim), ndim)
    text = f"The tensors are {before} there and {after} here: transpose them, a reshape would mix pixels and channels."
    yield Remark("data-layout", text, f"x = np.transpose(x, {axes})")


def flatten_order(port: Port) -> Remarks:
    """A flatten behind the layer walks the axes as they lie."""
    spec = port.spec
    if port.layout == port.source_layout:
        return
    there, here = (layouts.name(layout, spec.ndim)[1:] for layout in (port.source_layout, port.layout))
    text = (
        f"A flatten behind this layer walks the axes as ({', '.join(here)}) and no longer as ({', '.join(there)}): "
        f"the weights of the dense layer after it must be permuted."
    )
    yield Remark("flatten-order", text, _permuted_dense(port))


def _permuted_dense(port: Port) -> str:
    """The code for the weights of the dense layer, where the sizes are known."""
    spec = port.spec
    if port.spatial is None:
        return ""
    try:
        spatial = output_spatial(spec, port.spatial)
    except ShapeError:
        return ""
    first, last = (1, spec.out_channels, *spatial), port.source_layout
    there = layouts.shape_in(first, last, spec.ndim)[1:]
    axes = layouts.permutation(layouts.order(last, spec.ndim), layouts.order(port.layout, spec.ndim), spec.ndim)
    features = product(there)
    if not features:
        return ""
    shape: tuple[int, ...] = (-1, *there) if port.of in _ROWS_FIRST else (*there, -1)
    shift = 0 if port.of in _ROWS_FIRST else -1
    moved = [a + shift for a in axes[1:]]
    out = 0 if port.of in _ROWS_FIRST else len(there)
    order = (out, *moved) if port.to in _ROWS_FIRST else (*moved, out)
    end = (-1, features) if port.to in _ROWS_FIRST else (features, -1)
    return f"dense = dense.reshape{shape}.transpose{order}.reshape{end}"


def bias_along_the_width(port: Port) -> Remarks:
    """A released bug of Keras on TensorFlow."""
    spec = port.spec
    inside = port.to == "keras" and port.layout == layouts.CHANNELS_FIRST and spec.bias
    if not inside or "channels_first" not in port.text or "self.bias" in port.text:
        return
    text = (
        f"Keras on TensorFlow adds a channels_first bias along the width where the output is as wide as it has "
        f"filters ({spec.out_channels})"
    )
    if port.spatial is None:
        yield Remark("keras-bias-along-the-width", f"{text}.")
        return
    try:
        width = output_spatial(spec, port.spatial)[-1]
    except ShapeError:
        return
    here = "here it is, and the numbers are wrong" if width == spec.out_channels else f"here it is {width} wide"
    yield Remark("keras-bias-along-the-width", f"{text}; {here}.")


def batch_axis(port: Port) -> Remarks:
    """PyTorch and Flax take a single sample, the others do not."""
    if port.of in ("torch", "flax") and port.to in ("keras", "onnx"):
        text = (
            f"{NAMES[port.of]} takes a single sample without a batch axis, {NAMES[port.to]} does not: give it x[None]."
        )
        yield Remark("batch-axis", text)


REMARKS = (data_layout, flatten_order, bias_along_the_width)
NOTES = (batch_axis,)
