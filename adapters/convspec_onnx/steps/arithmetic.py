"""Arithmetic of tensors, linear layers and norms."""

from __future__ import annotations

from typing import Any

import numpy as np

from convspec.contract.tracing import NoWord, OperatorStep
from convspec.spec import steps
from convspec_onnx.graph import epsilon_of
from convspec_onnx.loading import Array
from convspec_onnx.steps.operation import FIRST, Builder, Operation, plain


def _elementwise(make: type[steps.Elementwise]) -> Builder:
    """Return the builder of an operation on two tensors, or more; a number in the file is a constant of the step."""

    def build(call: Operation) -> OperatorStep:
        call.require_floats()
        places = range(len(call.values))
        if len(places) == 2:
            for own, other in ((1, 0), (0, 1)):
                number = call.value(own)
                if (
                    call.fixed[own]
                    and not call.fixed[other]
                    and number.size == 1
                    and number.ndim <= call.value(other).ndim
                ):
                    first = {"reflected": True} if own == 0 and issubclass(make, steps.Subtract | steps.Divide) else {}
                    return OperatorStep(make(constant=plain(number.reshape(-1)[0]), **first), reads=(other,))
        if len(places) == 1:
            return OperatorStep(steps.Identity())
        return OperatorStep(make(), reads=tuple(places))

    return build


def _matmul(call: Operation) -> OperatorStep:
    call.require_floats()
    kernel = call.value(1)
    if call.fixed[1] and kernel.ndim == 2 and call.x.ndim > 1:
        step = steps.Linear(kernel.shape[0], kernel.shape[1], bias=False)
        return OperatorStep(step, arrays={"weight": kernel.T}, sources={"weight": 1})
    if min(call.x.ndim, kernel.ndim) < 2:
        raise NoWord("of a vector")
    return OperatorStep(steps.MatMul(), reads=(0, 1))


def _gemm(call: Operation) -> OperatorStep:
    call.require_floats()
    given = call.attributes
    if given.get("transA") or given.get("alpha", 1.0) != 1.0 or (call.has(2) and given.get("beta", 1.0) != 1.0):
        raise NoWord("with a factor or a transposed first operand")
    kernel = call.constant(1)
    weight = kernel if given.get("transB") else kernel.T
    arrays: dict[str, Array] = {"weight": weight}
    if call.has(2):
        bias = call.constant(2)
        if bias.size not in (1, len(weight)) or bias.shape[:-1] not in ((), (1,)):
            raise NoWord(f"with a bias of shape {bias.shape}")
        arrays["bias"] = np.broadcast_to(bias.reshape(-1), (len(weight),))
    step = steps.Linear(weight.shape[1], weight.shape[0], bias="bias" in arrays)
    return OperatorStep(step, arrays=arrays, sources={"weight": 1} | ({"bias": 2} if "bias" in arrays else {}))


def _reduce(reduction: str) -> Builder:
    def build(call: Operation) -> OperatorStep:
        call.require_floats()
        axes = call.ints("axes", 1) or ()
        if not axes and call.attributes.get("noop_with_empty_axes"):
            return OperatorStep(steps.Identity())
        return OperatorStep(steps.Reduce(reduction, axes, keepdims=bool(call.attributes.get("keepdims", 1))))

    return build


# -- norms -------------------------------------------------------------------------------------------------------------


def _arrays(call: Operation, **numbers: int) -> dict[str, Any]:
    """Return the arrays of a norm and what they were made of; ``numbers`` are their inputs."""
    present = {name: number for name, number in numbers.items() if call.has(number)}
    return {"arrays": {name: call.constant(number) for name, number in present.items()}, "sources": present}


def _batch_norm(call: Operation) -> OperatorStep:
    if call.attributes.get("training_mode") or len(call.results) > 1:
        raise NoWord("in training")
    step = steps.BatchNorm(call.value(1).size, epsilon=epsilon_of(call.attributes))
    return OperatorStep(step, layout=FIRST, **_arrays(call, scale=1, bias=2, mean=3, variance=4))


def _instance_norm(call: Operation) -> OperatorStep:
    step = steps.InstanceNorm(call.value(1).size, epsilon=epsilon_of(call.attributes))
    return OperatorStep(step, layout=FIRST, **_arrays(call, scale=1, bias=2))


def _group_norm(call: Operation) -> OperatorStep:
    channels, own = call.x.shape[1], _arrays(call, scale=1, bias=2)
    own["arrays"] = {n: a if a.size == channels else np.repeat(a, channels // a.size) for n, a in own["arrays"].items()}
    step = steps.GroupNorm(
        channels, call.attributes["num_groups"], epsilon=epsilon_of(call.attributes), fast_variance=True
    )
    return OperatorStep(step, layout=FIRST, **own)


def _layer_norm(make: type[steps.LayerNorm]) -> Builder:
    def build(call: Operation) -> OperatorStep:
        if len(call.results) > 1:
            raise NoWord("that returns its statistics")
        rank = call.x.ndim
        axis = call.attributes.get("axis", -1)
        axes = tuple(range(axis, 0 if axis < 0 else rank))
        own = _arrays(call, scale=1, bias=2)
        shape = tuple(call.x.shape[axis] for axis in axes)
        own["arrays"] = {name: np.broadcast_to(array, shape) for name, array in own["arrays"].items()}
        present = {name: name in own["arrays"] for name in ("scale", "bias")}
        return OperatorStep(make(shape, axes, epsilon=epsilon_of(call.attributes), **present), **own)

    return build


def _mean_variance(call: Operation) -> OperatorStep:
    axes = tuple(call.attributes.get("axes", (0, 2, 3)))
    shape = tuple(call.x.shape[axis] for axis in axes)
    return OperatorStep(steps.LayerNorm(shape, axes, epsilon=0.0, scale=False, bias=False))


def _lp_norm(call: Operation) -> OperatorStep:
    step = steps.LpNorm((call.attributes.get("axis", -1),), float(call.attributes.get("p", 2)), epsilon=0.0)
    return OperatorStep(step)


def _local_response_norm(call: Operation) -> OperatorStep:
    given = call.attributes
    if not given["size"] % 2:
        raise NoWord("over an even number of channels")
    alpha, beta, k = (
        plain(np.float32(given.get(*setting))) for setting in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    return OperatorStep(steps.LocalResponseNorm(given["size"], alpha, beta, k), layout=FIRST)


TABLE: dict[str, Builder] = {
    "Add": _elementwise(steps.Add), "Sum": _elementwise(steps.Add), "Sub": _elementwise(steps.Subtract),
    "Mul": _elementwise(steps.Multiply), "Div": _elementwise(steps.Divide), "Max": _elementwise(steps.Maximum),
    "Min": _elementwise(steps.Minimum), "MatMul": _matmul, "Gemm": _gemm,
    "ReduceMean": _reduce("mean"), "ReduceSum": _reduce("sum"), "ReduceMax": _reduce("max"),
    "ReduceMin": _reduce("min"), "BatchNormalization": _batch_norm, "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm, "LayerNormalization": _layer_norm(steps.LayerNorm),
    "RMSNormalization": _layer_norm(steps.RMSNorm), "SimplifiedLayerNormalization": _layer_norm(steps.RMSNorm),
    "MeanVarianceNormalization": _mean_variance, "LpNormalization": _lp_norm, "LRN": _local_response_norm,
}  # fmt: skip
