"""Activations."""

from __future__ import annotations

import numpy as np

from convspec.contract.tracing import NoWord, OperatorStep
from convspec.spec import steps
from convspec.spec.steps import Step
from convspec_onnx.steps.operation import Builder, Operation, plain

_SELU = (1.6732632, 1.0507010)  # alpha and gamma, as the standard writes them
_CLOSE = 1e-6


def _setting(make: type[Step], **fields: tuple[str, float]) -> Builder:
    """Return the builder of an activation; ``fields``: the attribute of each field, and its default."""
    return lambda call: OperatorStep(make(**{name: _float(call.attributes.get(*own)) for name, own in fields.items()}))


def _float(value: float) -> float:
    return plain(np.float32(value))  # attributes are float32


def _plain(step: Step) -> Builder:
    return lambda _: OperatorStep(step)


def _selu(call: Operation) -> OperatorStep:
    given = call.attributes.get("alpha", _SELU[0]), call.attributes.get("gamma", _SELU[1])
    if any(abs(own - usual) > _CLOSE for own, usual in zip(given, _SELU, strict=True)):
        raise NoWord(f"alpha {given[0]:g}, gamma {given[1]:g}")
    return OperatorStep(steps.SELU())


def _gelu(call: Operation) -> OperatorStep:
    return OperatorStep(steps.GELU(call.attributes.get("approximate", "none")))


def _fast_gelu(call: Operation) -> OperatorStep:
    if call.has(1):
        raise NoWord("with a bias")
    return OperatorStep(steps.GELU("tanh"))


def _prelu(call: Operation) -> OperatorStep:
    slope, ndim = call.constant(1), call.x.ndim
    shape = (1,) * (ndim - slope.ndim) + slope.shape
    if ndim < 2 or slope.ndim > ndim or shape[0] != 1:
        raise NoWord(f"slopes of shape {slope.shape} for {ndim} axes")
    step = steps.PReLU(shape[1:])
    return OperatorStep(step, arrays={"slope": slope.reshape(step.shape)}, sources={"slope": 1})


def _shrink(call: Operation) -> OperatorStep:
    threshold, bias = (_float(call.attributes.get(name, default)) for name, default in (("lambd", 0.5), ("bias", 0.0)))
    if bias not in (0.0, threshold):
        raise NoWord(f"threshold {threshold:g}, bias {bias:g}")
    return OperatorStep(steps.SoftShrink(threshold) if bias else steps.HardShrink(threshold))


def _clip(call: Operation) -> OperatorStep:
    if call.opset < 11:
        given = call.attributes.get("min"), call.attributes.get("max")
        return OperatorStep(steps.Clip(*(None if n is None or abs(n) > 3e38 else _float(n) for n in given)))
    return OperatorStep(steps.Clip(call.number(1), call.number(2)))


def _power(call: Operation) -> OperatorStep:
    call.require_floats()
    exponent = call.number(1)
    if exponent is None or call.y.shape != call.x.shape:
        raise NoWord
    return OperatorStep(steps.Pointwise("square") if exponent == 2 else steps.Power(exponent))


def _pointwise(function: str) -> Builder:
    def build(call: Operation) -> OperatorStep:
        call.require_floats()
        return OperatorStep(steps.Pointwise(function))

    return build


def _softmax(log: bool) -> Builder:
    def build(call: Operation) -> OperatorStep:
        shape, axis = call.x.shape, call.attributes.get("axis", 1 if call.opset < 13 else -1)
        if call.opset < 13:  # over that axis and all later ones
            long = [i for i in range(axis % max(len(shape), 1), len(shape)) if shape[i] != 1]
            if len(long) > 1:
                raise NoWord(f"over axes {long}")
            axis = long[0] if long else axis
        return OperatorStep(steps.Softmax(axis, log))

    return build


TABLE: dict[str, Builder] = {
    "Relu": _plain(steps.ReLU()), "Sigmoid": _plain(steps.Sigmoid()), "Tanh": _plain(steps.Tanh()),
    "Softplus": _plain(steps.Softplus()), "Softsign": _plain(steps.Softsign()), "Mish": _plain(steps.Mish()),
    "HardSwish": _plain(steps.HardSwish()), "Selu": _selu, "Gelu": _gelu, "PRelu": _prelu,
    "com.microsoft.Gelu": _plain(steps.GELU()), "com.microsoft.FastGelu": _fast_gelu,
    "com.microsoft.QuickGelu": _setting(steps.SiLU, beta=("alpha", 1.702)),
    "Swish": _setting(steps.SiLU, beta=("alpha", 1.0)), "LeakyRelu": _setting(steps.LeakyReLU, slope=("alpha", 0.01)),
    "Elu": _setting(steps.ELU, alpha=("alpha", 1.0)), "Celu": _setting(steps.CELU, alpha=("alpha", 1.0)),
    "HardSigmoid": _setting(steps.HardSigmoid, slope=("alpha", 0.2), offset=("beta", 0.5)),
    "ThresholdedRelu": _setting(steps.ThresholdedReLU, threshold=("alpha", 1.0)),
    "Shrink": _shrink, "Clip": _clip, "Pow": _power, "Softmax": _softmax(log=False), "LogSoftmax": _softmax(log=True),
}  # fmt: skip
for _function in steps.FUNCTIONS:
    _name = {"negative": "Neg"}.get(_function, _function.capitalize())
    if _function not in ("rsqrt", "square"):
        TABLE[_name] = _pointwise(_function)
