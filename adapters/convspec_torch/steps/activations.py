"""Functions of each element, softmax, gates and dropout."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from convspec.contract.tracing import Link, NoWord
from convspec.spec import steps
from convspec.spec.steps import Step
from convspec_torch.steps.calls import FIRST, Builder, Call, Given, by_word, step_of


def _row(names: str, make: Callable[[Given], Step]) -> Builder:
    """Return the builder of a function of one tensor, with its arguments after the tensor."""
    return lambda call: call.link(make(call.given(*names.split())))


def _number(value: Any) -> float | None:
    """Return a bound as a number.

    Raises:
        NoWord: if it is a tensor.
    """
    if isinstance(value, Tensor):
        raise NoWord("a bound is a tensor")
    return None if value is None else float(value)


def _clip(given: Given) -> Step:
    return steps.Clip(_number(given.get("min")), _number(given.get("max")))


def _rrelu(call: Call) -> Link:
    if call.given("lower", "upper", "training").get("training"):
        raise NoWord("its slopes are random")
    return call.link(step_of(call, "rrelu"))


def _elu(call: Call) -> Link:
    given = call.given("alpha", "scale", "input_scale")
    if given.get("scale", 1) != 1 or given.get("input_scale", 1) != 1:
        raise NoWord("it is scaled")
    return call.link(step_of(call, "elu"))


def _round(given: Given) -> Step:
    if given.get("decimals"):
        raise NoWord(f"to {given['decimals']} decimals")
    return steps.Pointwise("round")


def _prelu(call: Call) -> Link:
    weight = call.given("weight")["weight"]
    if not call.learnt(weight):
        raise NoWord("its slopes are computed from the data")
    return call.link(steps.PReLU(tuple(weight.shape) or (1,)), arrays={"slope": weight}, layout=FIRST)


def _softmax(name: str) -> Builder:
    def build(call: Call) -> Link:
        note = f"computed in {call.y.dtype}" if call.y.dtype != call.x.dtype else ""
        return call.link(step_of(call, name), note=note)

    return build


def _softmin(call: Call) -> Iterable[Link]:
    negative = -call.x
    yield Link(steps.Pointwise("negative"), (call.x,), (negative,))
    yield Link(step_of(call, "softmax"), (negative,), call.results)


_WORDS = (
    "relu", "relu6", "selu", "silu", "mish", "sigmoid", "logsigmoid", "hardsigmoid", "hardswish", "tanh", "tanhshrink",
    "softsign", "leaky_relu", "celu", "gelu", "softplus", "hardshrink", "softshrink", "threshold", "hardtanh", "glu",
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "neg",
    *(name for name in steps.FUNCTIONS if name not in ("round", "negative")),
)  # fmt: skip

TABLE: dict[str, Builder] = {
    **{name: by_word(name) for name in _WORDS},
    **dict.fromkeys(("special_expit", "expit"), by_word("sigmoid")),
    "log_sigmoid": by_word("logsigmoid"),
    "_threshold": by_word("threshold"),
    "native_dropout": by_word("dropout"),
    "feature_dropout": by_word("dropout2d"),
    "elu": _elu,
    **dict.fromkeys(("clamp", "clip"), _row("min max", _clip)),
    "clamp_min": _row("min", _clip),
    "clamp_max": _row("max", _clip),
    "rrelu": _rrelu,
    "round": _row("decimals", _round),
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
    **dict.fromkeys(("softmax", "_softmax", "special_softmax"), _softmax("softmax")),
    **dict.fromkeys(("log_softmax", "_log_softmax", "special_log_softmax"), _softmax("log_softmax")),
    "softmin": _softmin,
}
