"""Remarks on everything but padding: axis orders of data and kernels, defaults, arguments that are not translated."""

from __future__ import annotations

from convspec.errors import ShapeError
from convspec.layers import kernel_orders
from convspec.layers.remarks.port import Port, Remark, Remarks
from convspec.layers.sentences import listed
from convspec.spec import layouts, output_spatial, product

_ROWS_FIRST = ("torch", "onnx", None)  # their dense layers store (out, in); those of Keras and Flax (in, out)
_INITIALISERS = {
    "torch": "kernel and bias uniform in ±1/√fan_in",
    "keras": "glorot_uniform kernels, zero biases",
    "flax": "lecun_normal kernels, zero biases",
}
_BATCH_NORM = {  # epsilon, momentum, which statistics momentum weights
    "torch": ("1e-5", "0.1", "new"),
    "keras": ("1e-3", "0.99", "old"),
    "flax": ("1e-5", "0.99", "old"),
    "onnx": ("1e-5", "0.9", "old"),
}


def support(port: Port) -> Remarks:
    """Why the target cannot express the layer, or needs extra steps: one remark for each reason."""
    if port.support == "unsupported":
        yield Remark("unsupported", f"{port.support.reason}.")
    elif port.support == "composed":
        for reason in port.support.reason.split("; "):
            yield Remark("composed", f"{reason}.")


# -- data --------------------------------------------------------------------------------------------------------------


def data_layout(port: Port) -> Remarks:
    """The axes of the tensors have different orders."""
    ndim = port.spec.ndim
    if port.layout == port.source_layout:
        return
    before, after = layouts.name(port.source_layout, ndim), layouts.name(port.layout, ndim)
    axes = layouts.permutation(layouts.order(port.source_layout, ndim), layouts.order(port.layout, ndim), ndim)
    text = f"{_both(port, before, after)}. Transpose the tensors; a reshape would mix pixels and channels."
    yield Remark("data-layout", text, f"x = np.transpose(x, {axes})")


def flatten_order(port: Port) -> Remarks:
    """A flatten after the layer follows the order of the axes."""
    if port.layout == port.source_layout:
        return
    names = (layouts.name(layout, port.spec.ndim) for layout in (port.source_layout, port.layout))
    before, after = (f"({', '.join(name[1:])})" for name in names)
    text = f"A flatten after this layer orders the features by axes. {_both(port, before, after)}. "
    text += "Permute the weights of the dense layer that follows."
    yield Remark("flatten-order", text, _permuted_dense(port))


def _permuted_dense(port: Port) -> str:
    """Return the code for the weights of the dense layer; empty if the sizes are unknown."""
    spec, last, spatial = port.spec, port.source_layout, _output(port)
    if spatial is None or not product(spatial):
        return ""
    shape = layouts.shape_in((1, spec.out_channels, *spatial), last, spec.ndim)[1:]
    axes = layouts.permutation(layouts.order(last, spec.ndim), layouts.order(port.layout, spec.ndim), spec.ndim)
    rows_first = port.of in _ROWS_FIRST
    whole: tuple[int, ...] = (-1, *shape) if rows_first else (*shape, -1)
    moved = [a - (not rows_first) for a in axes[1:]]
    out = 0 if rows_first else len(shape)
    order = (out, *moved) if port.to in _ROWS_FIRST else (*moved, out)
    end = (-1, product(shape)) if port.to in _ROWS_FIRST else (product(shape), -1)
    return f"dense = dense.reshape{whole}.transpose{order}.reshape{end}"


def _output(port: Port) -> tuple[int, ...] | None:
    """Return the spatial sizes of the output; None if they are unknown, or there is no output."""
    try:
        return None if port.spatial is None else output_spatial(port.spec, port.spatial)
    except ShapeError:
        return None


def bias_along_the_width(port: Port) -> Remarks:
    """A released bug of Keras on TensorFlow."""
    spec, sizes = port.spec, _output(port)
    affected = port.to == "keras" and port.layout == layouts.CHANNELS_FIRST and spec.bias
    if not affected or "channels_first" not in port.text or "self.bias" in port.text:
        return
    text = (
        f"Keras on TensorFlow adds a channels_first bias along the width if the output's width equals the number of "
        f"filters ({spec.out_channels})"
    )
    if port.spatial is None:
        yield Remark("keras-bias-along-the-width", f"{text}.")
    elif sizes is not None:
        width = sizes[-1]
        result = "it does, and the result is wrong" if width == spec.out_channels else f"the output's width is {width}"
        yield Remark("keras-bias-along-the-width", f"{text}. For this input {result}.")


def batch_axis(port: Port) -> Remarks:
    """PyTorch and Flax accept a single sample, the others do not."""
    if port.of in ("torch", "flax") and port.to in ("keras", "onnx"):
        source, target = port.sides
        text = f"{source} accepts a single sample without a batch axis; {target} does not: pass x[None]."
        yield Remark("batch-axis", text)


# -- weights -----------------------------------------------------------------------------------------------------------


def kernel_order(port: Port) -> Remarks:
    """The axes of the kernel have another order, or the kernel is flipped."""
    spec, (before, after) = port.spec, port.stored
    code = kernel_orders.moves(spec, before, after) if port.text else ()
    if not code:
        return
    sides = (f"{stored.shape(spec)} as {stored.axes(spec)}" for stored in (before, after))
    text = f"Kernel axes. {_both(port, *sides)}"
    if before.shape(spec) == after.shape(spec):
        text += "; the shapes are equal, so a wrong order raises no error"
    yield Remark("kernel-order", f"{text}.{_special(before, after)}", "\n".join(code))


def _special(before: kernel_orders.Stored, after: kernel_orders.Stored) -> str:
    words = ""
    if "depthwise" in (before.kind, after.kind):
        words += " Filter m of channel c is output channel c·M + m."
    if "split" in (before.kind, after.kind):
        words += " The kernels are a list, one for each group."
    if before.flipped != after.flipped:
        words += " The kernel is also flipped along every spatial axis."
    return words


def transpose_kernel(port: Port) -> Remarks:
    """The argument of Flax' ConvTranspose that decides how its kernel is stored."""
    if port.of == "flax" and port.function == "ConvTranspose" and not port.arguments.get("transpose_kernel", False):
        text = "With transpose_kernel=False, its default, Flax stores the kernel flipped, with channel axes (I, O)"
        yield Remark("transpose-kernel", f"{text}; no other framework does.")
    elif port.to == "flax" and port.of != "flax" and "transpose_kernel=True" in port.text:
        text = "Flax needs transpose_kernel=True: by default it expects a flipped kernel with channel axes (I, O)."
        yield Remark("transpose-kernel", text)


def built_late(port: Port) -> Remarks:
    """Layers that have no weights before they know their input."""
    if not port.text:
        return
    if port.to == "keras" and port.of != "keras":
        text = "Keras creates the weights when the layer is built or first called, on an input of"
    elif port.target.startswith("flax-linen") and port.source != port.target:
        text = "Linen keeps no weights in the layer: layer.init creates them, for an input of"
    else:
        return
    yield Remark("built-late", f"{text} {port.spec.in_channels} channels.")


# -- arguments and defaults --------------------------------------------------------------------------------------------


def left_behind(port: Port) -> Remarks:
    """Arguments of the source that a ConvSpec does not have."""
    activation = port.arguments.get("activation")
    if activation not in (None, "linear"):
        shown = repr(activation) if isinstance(activation, str) else "…"
        yield Remark("activation", f"activation={shown} is not part of the convolution: apply it after the layer.")
    kinds = ("_initializer", "_regularizer", "_constraint", "_init")
    others = [name for name, value in port.arguments.items() if name.endswith(kinds) and value is not None]
    if port.arguments.get("mask") is not None:
        others.append("mask")
    if others:
        yield Remark("left-behind", f"{listed(others)} {'is' if len(others) == 1 else 'are'} not translated.")
    if not isinstance(port.arguments.get("dtype"), str | None):
        yield Remark("dtype", "The source's dtype is not translated: pass dtype yourself.")


def int_kernel(port: Port) -> Remarks:
    """An int is one axis in Flax, and all axes elsewhere."""
    size = port.spec.kernel_size
    if port.of == "flax" and type(port.arguments.get("kernel_size")) is int:
        yield Remark("int-kernel-size", f"In Flax, kernel_size={size[0]}, an int, means one spatial axis.")
    elif port.to == "flax" and port.of in ("torch", "keras") and port.spec.ndim > 1 and port.text:
        yield Remark("int-kernel-size", f"In Flax, kernel_size={size} must be a tuple: an int means one spatial axis.")


def initialisers(port: Port) -> Remarks:
    """New layers start with other weights."""
    before, after = (_INITIALISERS.get(name or "") for name in (port.of, port.to))
    if before and after and before != after:
        yield Remark("initialisers", f"Default initialisers differ. {_both(port, before, after)}.")


def batch_norm(port: Port) -> Remarks:
    """The defaults of batch normalisation, which often follows."""
    before, after = (_BATCH_NORM.get(name or "") for name in (port.of, port.to))
    if before and after and before != after:
        texts = (
            f"epsilon={epsilon}, momentum={momentum} (weight of the {which} statistics)"
            for epsilon, momentum, which in (before, after)
        )
        yield Remark("batch-norm", f"Batch normalisation defaults differ. {_both(port, *texts)}.")


def _both(port: Port, before: str, after: str) -> str:
    """Return ``PyTorch: NCHW; Keras: NHWC``."""
    source, target = port.sides
    return f"{source[0].upper()}{source[1:]}: {before}; {target}: {after}"


ORDERS = (data_layout, flatten_order, bias_along_the_width, kernel_order, transpose_kernel)
NOTES = (left_behind, int_kernel, built_late, batch_axis, initialisers, batch_norm)
