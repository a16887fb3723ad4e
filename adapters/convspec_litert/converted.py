"""Write what LiteRT's users write: the layer in Keras, converted by TensorFlow."""

from __future__ import annotations

from convspec.contract import ConvSpec, resolve_padding

_TEXT = """\
import keras
import tensorflow as tf

model = keras.Sequential([
    keras.Input({shape}, batch_size=1),
{layers}
])
layer = tf.lite.TFLiteConverter.from_keras_model(model).convert()
"""
_SIZE = 32  # of the example's input; a model is converted for one size


def converted(spec: ConvSpec, padding: str) -> str:
    """Return the program; empty where Keras has no such layers.

    Args:
        spec: of a float32 layer that LiteRT has.
        padding: the word for the padding of the operator in the plan, ``"SAME"`` or ``"VALID"``.
    """
    depthwise = spec.depthwise and spec.in_channels > 1
    uneven = depthwise and len(set(spec.stride)) > 1
    if spec.padding_mode != "zeros" or uneven or (max(spec.stride) > 1 and max(spec.dilation) > 1):
        return ""
    arguments = ["" if depthwise else str(spec.out_channels), str(_short(spec.kernel_size))]
    for name, value in (("strides", spec.stride), ("dilation_rate", spec.dilation)):
        arguments.append(f"{name}={_short(value)}" if set(value) != {1} else "")
    arguments.append('padding="same"' if padding == "SAME" else "")
    before = after = ""
    if spec.transposed:
        around = None if padding == "SAME" else _around(spec)
        if around is None and padding != "SAME":
            return ""
        extra, after = around or ("", "")
        arguments.append(extra)
    elif padding == "VALID" and not isinstance(spec.padding, str) and any(map(any, spec.padding)):
        before = f"keras.layers.ZeroPadding{spec.ndim}D({_pairs(spec.padding)})"
    if depthwise:
        multiplier = spec.out_channels // spec.groups
        arguments.append(f"depth_multiplier={multiplier}" if multiplier > 1 else "")
    elif spec.groups > 1:
        arguments.append(f"groups={spec.groups}")
    arguments.append("" if spec.bias else "use_bias=False")
    name = f"{'Depthwise' if depthwise else ''}Conv{spec.ndim}D{'Transpose' * spec.transposed}"
    conv = f"keras.layers.{name}({', '.join(filter(None, arguments))})"
    size = max(_SIZE, 2 * max(spec.effective_kernel))
    layers = "\n".join(f"    {layer}," for layer in (before, conv, after) if layer)
    return _TEXT.format(shape=(*(size,) * spec.ndim, spec.in_channels), layers=layers)


def _around(spec: ConvSpec) -> tuple[str, str] | None:
    """Return ``output_padding`` and the crop of a transposed layer; None where Keras has no such sizes."""
    pads, extra = resolve_padding(spec, (1,) * spec.ndim)
    ends = [e - hi for (_, hi), e in zip(pads, extra, strict=True)]
    more = tuple(max(e, 0) for e in ends)
    if any(m >= s for m, s in zip(more, spec.stride, strict=True)):
        return None
    filled = tuple(max(s - k, 0) for s, k in zip(spec.stride, spec.kernel_size, strict=True))
    crops = tuple((lo, max(-e, 0)) for (lo, _), e in zip(pads, ends, strict=True))
    crop = f"keras.layers.Cropping{spec.ndim}D({_pairs(crops)})" if any(map(any, crops)) else ""
    return (f"output_padding={_short(more)}" if more != filled else ""), crop


def _short(values: tuple[int, ...]) -> int | tuple[int, ...]:
    return values[0] if len(set(values)) == 1 else values


def _pairs(pads: tuple[tuple[int, int], ...]) -> str:
    return str(pads[0] if len(pads) == 1 else pads)
