"""Sums and products of tensors, matrix products, reductions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from convspec.contract.tracing import Link, NoWord, einsum_product
from convspec.spec import steps
from convspec_torch.steps.calls import Builder, Call, by_word


def _elementwise(kind: Any, *, ordered: bool = False, reflected: bool = False) -> Builder:
    """Return the builder of an operation on two tensors, or on a tensor and a number."""

    def build(call: Call) -> Iterable[Link]:
        given = call.given("other")
        a, b = (given["other"], call.operand) if reflected else (call.operand, given["other"])
        if given.get("rounding_mode") is not None:
            raise NoWord(f"rounding_mode {given['rounding_mode']}")
        scaled = given.get("alpha", 1)
        if scaled != 1:  # of the second operand; ``rsub`` has it the other way round
            if not isinstance(b, Tensor):
                raise NoWord(f"alpha {scaled}")
            b, one = b * scaled, b
            yield Link(steps.Multiply(float(scaled)), (one,), (b,))
        numbers = [float(n) for n in (a, b) if not isinstance(n, Tensor)]
        words: dict[str, Any] = {"constant": numbers[0]} if numbers else {}
        if numbers and ordered:
            words["reflected"] = not isinstance(a, Tensor)
        yield Link(kind(**words), [t for t in (a, b) if isinstance(t, Tensor)], call.results)

    return build


def _reduce(reduction: str) -> Builder:
    def build(call: Call) -> Link:
        given = call.given("dim", "keepdim")
        dim = given.get("dim", given.get("other"))
        if isinstance(dim, Tensor):  # torch.max of two tensors is their maximum
            return call.link({"max": steps.Maximum, "min": steps.Minimum}[reduction](), dim)
        if given.get("dtype") not in (None, call.x.dtype):
            raise NoWord(f"computed in {given['dtype']}")
        axes = () if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
        note = "it returns the positions too" if len(call.results) > 1 else ""
        return call.link(steps.Reduce(reduction, axes, bool(given.get("keepdim", False))), note=note)

    return build


# -- matrix products ---------------------------------------------------------------------------------------------------


def _linear(call: Call) -> Link:
    given = call.given("weight", "bias")
    weight, bias = given["weight"], given.get("bias")
    return linear(call, weight, bias, layout="")


def linear(call: Call, weight: Tensor, bias: Tensor | None, axis: int = -1, layout: str = "") -> Link:
    """Return the link of a product with a learnt weight ``(out, in)``.

    Raises:
        NoWord: if the weight or the bias depends on the data.
    """
    if weight.ndim != 2 or not all(call.learnt(t) for t in (weight, bias) if t is not None):
        raise NoWord("its weight is computed from the data")
    step = steps.Linear(weight.shape[1], weight.shape[0], bias is not None, axis)
    return call.link(step, arrays={"weight": weight, "bias": bias}, layout=layout)


def _matmul(call: Call) -> Link:
    given = call.given("other")
    a, b = call.x, given["mat2"] if "mat2" in given else given["other"]
    return _product(call, a, b)


def _product(call: Call, a: Tensor, b: Tensor) -> Link:
    if call.learnt(b) and b.ndim == 2:
        return linear(call, b.T, None)
    if min(a.ndim, b.ndim) < 2:
        raise NoWord("of a vector")
    return Link(steps.MatMul(), (a, b), call.results)


def _addmm(call: Call) -> Link:
    given = call.given("mat1", "mat2", "beta", "alpha")
    bias, a, b = call.x, given["mat1"], given["mat2"]
    plain = given.get("beta", 1) == given.get("alpha", 1) == 1 and bias.ndim == 1
    if not (plain and call.learnt(bias) and call.learnt(b)):
        raise NoWord("not with a learnt weight and bias")
    step = steps.Linear(b.shape[0], b.shape[1])
    return Link(step, (a,), call.results, {"weight": b.T, "bias": bias})


def _einsum(call: Call) -> Link:
    """Return a product of tensors, or with a learnt weight along one axis; others have no word."""
    equation = call.operand
    operands = call.args[1] if len(call.args) == 2 and isinstance(call.args[1], tuple | list) else call.args[1:]
    if not isinstance(equation, str) or len(operands) != 2:
        raise NoWord
    found = einsum_product(equation, [call.learnt(t) for t in operands])
    if found is None:
        return Link(steps.MatMul(), tuple(operands), call.results)
    place, axis, transposed = found
    weight = operands[place].T if transposed else operands[place]
    step = steps.Linear(weight.shape[1], weight.shape[0], bias=False, axis=axis)
    return Link(step, (operands[1 - place],), call.results, {"weight": weight})


_ADD, _MUL = _elementwise(steps.Add), _elementwise(steps.Multiply)
_SUB, _DIV = _elementwise(steps.Subtract, ordered=True), _elementwise(steps.Divide, ordered=True)

TABLE: dict[str, Builder] = {
    **dict.fromkeys(("add", "radd"), _ADD),
    **dict.fromkeys(("mul", "multiply", "rmul"), _MUL),
    **dict.fromkeys(("sub", "subtract"), _SUB),
    "rsub": _elementwise(steps.Subtract, ordered=True, reflected=True),
    **dict.fromkeys(("div", "divide", "true_divide", "truediv"), _DIV),
    **dict.fromkeys(("rdiv", "rtruediv"), _elementwise(steps.Divide, ordered=True, reflected=True)),
    "maximum": _elementwise(steps.Maximum),
    "minimum": _elementwise(steps.Minimum),
    "pow": by_word("pow"),
    "mean": _reduce("mean"),
    "sum": _reduce("sum"),
    **dict.fromkeys(("amax", "max"), _reduce("max")),
    **dict.fromkeys(("amin", "min"), _reduce("min")),
    "linear": _linear,
    **dict.fromkeys(("matmul", "mm", "bmm"), _matmul),
    "addmm": _addmm,
    "einsum": _einsum,
}
