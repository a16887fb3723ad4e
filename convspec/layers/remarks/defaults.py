"""What is beside the numbers of the layer: arguments that stay behind, initialisers, the layer that often follows."""

from __future__ import annotations

from convspec.layers.remarks import layout, weights
from convspec.layers.remarks.port import NAMES, Port, Remark, Remarks, listed

_STARTS = {
    "torch": "kernel and bias uniform in ±1/√fan_in",
    "keras": "glorot_uniform kernels and zero biases",
    "flax": "lecun_normal kernels and zero biases",
}
_EPSILON = {"torch": "1e-5", "flax": "1e-5", "keras": "1e-3", "onnx": "1e-5"}
_MOMENTUM = {
    "torch": "momentum=0.1, the weight of the new statistics",
    "keras": "momentum=0.99, the weight of the old ones",
    "flax": "momentum=0.99, the weight of the old ones",
    "onnx": "momentum=0.9, the weight of the old ones",
}
_EMPTY = (None, "linear")


def left_behind(port: Port) -> Remarks:
    """Arguments of the source that no ConvSpec has."""
    activation = port.arguments.get("activation")
    if activation not in _EMPTY:
        shown = repr(activation) if isinstance(activation, str) else "…"
        yield Remark("activation", f"activation={shown} is not part of the convolution: apply it behind the layer.")
    kinds = ("_initializer", "_regularizer", "_constraint", "_init")
    others = [name for name, value in port.arguments.items() if name.endswith(kinds) and value is not None]
    if port.arguments.get("mask") is not None:
        others.append("mask")
    if others:
        yield Remark("left-behind", f"{listed(others)} {'is' if len(others) == 1 else 'are'} not translated.")
    if not isinstance(port.arguments.get("dtype"), str | None):
        yield Remark("dtype", "The dtype of the source is not translated: ask for it.")


def int_kernel(port: Port) -> Remarks:
    """An int is one axis in Flax, and all axes elsewhere."""
    size = port.spec.kernel_size
    if port.of == "flax" and type(port.arguments.get("kernel_size")) is int:
        yield Remark("int-kernel-size", f"kernel_size={size[0]}, an int, is one spatial axis in Flax.")
    elif port.to == "flax" and port.of in ("torch", "keras") and port.spec.ndim > 1 and port.text:
        yield Remark("int-kernel-size", f"kernel_size={size} must be a tuple: an int is one spatial axis in Flax.")


def initialisers(port: Port) -> Remarks:
    """New layers start with other weights."""
    if port.of != port.to and port.of in _STARTS and port.to in _STARTS:
        there, here = _STARTS[port.of], _STARTS[port.to]
        if there != here:
            text = f"Trained from scratch it starts elsewhere: {there} there, {here} here."
            yield Remark("initialisers", text)


def batch_norm(port: Port) -> Remarks:
    """The defaults of a batch norm that may follow."""
    if port.of not in _EPSILON or port.to not in _EPSILON or port.of == port.to:
        return
    there, here = _EPSILON[port.of], _EPSILON[port.to]
    if there != here or _MOMENTUM[port.of] != _MOMENTUM[port.to]:
        text = (
            f"A batch norm behind it has other defaults: epsilon {there} and {_MOMENTUM[port.of]} in {NAMES[port.of]}, "
            f"{here} and {_MOMENTUM[port.to]} in {NAMES[port.to]}."
        )
        yield Remark("batch-norm", text)


REMARKS = (left_behind, int_kernel, *weights.NOTES, *layout.NOTES, initialisers, batch_norm)
