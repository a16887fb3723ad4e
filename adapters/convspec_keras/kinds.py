"""The kind of Keras layer for a spec, its compute precision, and the kernels that TensorFlow lacks."""

from __future__ import annotations

from convspec.contract import ComputePrecision, ConvSpec, LayerRequest, copies, layouts, same_pads

CHANNELS_LAST_ONLY = ("float16", "float64")


def compute_precision(spec: ConvSpec, request: LayerRequest) -> ComputePrecision:
    """How Keras computes the layer: sums in float32 at least, the bias added to a result that is rounded already.

    Gradients of elements that a pad has copied are summed in the layer's own dtype.
    """
    roundings = 1
    if request.direction == "forward":
        roundings += spec.bias
    if request.direction == "input" and request.input_shape:
        roundings += copies(spec, request.input_shape[2:]) - 1
    tf32 = request.device != "cpu" and (request.dtype, request.precision) == ("float32", "shipped")
    return ComputePrecision(
        accumulator="float64" if request.dtype == "float64" else "float32",
        output_roundings=roundings,
        flushes_subnormals=True,
        inputs="tf32" if tf32 else None,
    )


def missing_on_tensorflow_cpu(spec: ConvSpec, dtype: str) -> str:
    """Why TensorFlow on the CPU cannot run the plan; empty where it can."""
    if spec.transposed and max(spec.dilation) > 1 and dtype in CHANNELS_LAST_ONLY:
        return (
            f"TensorFlow has no dilated transposed convolution in {dtype} on the CPU (Current CPU implementations do "
            f"not yet support dilation rates larger than 1)"
        )
    return ""


def sums_halves_on_tensorflow_cpu(spec: ConvSpec, dtype: str, direction: str, layout: str) -> bool:
    """Whether TensorFlow on the CPU sums half-precision products in half precision.

    Measured: 2048 + 1 + 1 + … stays 2048 in float16, 256 + 1 + 1 + … stays 256 in bfloat16. Layers that XLA compiles
    – grouped ones, and 3-D ones in channels_first – keep their sums in float32, except for the bias.
    """
    if direction == "bias":
        return dtype == "bfloat16" or (layout == layouts.CHANNELS_FIRST and not needs_channels_last(spec))
    if dtype != "float16":
        return False
    own = depthwise_layer(spec) or (spec.groups == 1 and not (spec.ndim == 3 and layout == layouts.CHANNELS_FIRST))
    if spec.transposed:
        return direction != "input" or spec.ndim == 3
    return own and (direction != "forward" or depthwise_layer(spec) or spec.ndim == 3)


def depthwise_layer(spec: ConvSpec) -> bool:
    """Return whether it is a ``DepthwiseConv``: Keras has none in 3-D, for unequal strides, or with causal padding."""
    return spec.depthwise and spec.ndim < 3 and len(set(spec.stride)) == 1 and padding_word(spec) != "causal"


def needs_channels_last(spec: ConvSpec) -> bool:
    """Whether TensorFlow on the CPU has no float16 and float64 for this layer in channels_first."""
    return spec.transposed or (spec.ndim < 3 and spec.groups == 1)


def padding_word(spec: ConvSpec) -> str | None:
    """The word that Keras has for this padding, None where it has none."""
    if isinstance(spec.padding, str):
        return (
            spec.padding
            if spec.padding == "same" and spec.padding_mode == "zeros" and not strided_and_dilated(spec)
            else None
        )
    if not any(map(any, spec.padding)):
        return "valid"
    if spec.padding_mode != "zeros":
        return None
    unit = all(s == 1 for s in spec.stride)
    axes = zip(spec.kernel_size, spec.dilation, strict=True)
    if unit and spec.padding == tuple(same_pads(k, k, 1, d) for k, d in axes):
        return "same"
    causal = spec.ndim == 1 and not strided_and_dilated(spec) and spec.padding == ((spec.effective_kernel[0] - 1, 0),)
    return "causal" if causal else None


def strided_and_dilated(spec: ConvSpec) -> bool:
    return max(spec.stride) > 1 and max(spec.dilation) > 1
