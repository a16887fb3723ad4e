"""Functions of each element, softmax, gates and dropout."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from torch import Tensor

from convspec.contract.tracing import Link, NoWord
from convspec.spec import steps
from convspec.spec.steps import Step
from convspec_torch.steps.calls import FIRST, Builder, Call, Given


def _row(names: str, make: Callable[[Given], Step]) -> Builder:
    """Return the builder of a function of one tensor, with its arguments after the tensor."""
    return lambda call: call.link(make(call.given(*names.split())))


def _plain(kind: Callable[[], Step]) -> Builder:
    return lambda call: call.link(kind())


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


def _threshold(given: Given) -> Step:
    if given["value"] != 0:
        raise NoWord(f"values up to {given['threshold']} become {given['value']}")
    return steps.ReLU() if given["threshold"] == 0 else steps.ThresholdedReLU(given["threshold"])


def _rrelu(given: Given) -> Step:
    if given.get("training"):
        raise NoWord("its slopes are random")
    return steps.LeakyReLU((given.get("lower", 1 / 8) + given.get("upper", 1 / 3)) / 2)


def _elu(given: Given) -> Step:
    if given.get("scale", 1) != 1 or given.get("input_scale", 1) != 1:
        raise NoWord("it is scaled")
    return steps.ELU(given.get("alpha", 1.0))


def _round(given: Given) -> Step:
    if given.get("decimals"):
        raise NoWord(f"to {given['decimals']} decimals")
    return steps.Pointwise("round")


def _prelu(call: Call) -> Link:
    weight = call.given("weight")["weight"]
    if not call.learnt(weight):
        raise NoWord("its slopes are computed from the data")
    return call.link(steps.PReLU(tuple(weight.shape) or (1,)), arrays={"slope": weight}, layout=FIRST)


def _axis(call: Call, given: Given) -> int:
    """Return the axis of a softmax; without one, PyTorch chooses by the number of axes."""
    dim = given.get("dim")
    return (0 if call.x.ndim in (0, 1, 3) else 1) if dim is None else int(dim)


def _softmax(log: bool) -> Builder:
    def build(call: Call) -> Link:
        given = call.given("dim", "_stacklevel", "dtype")
        note = f"computed in {call.y.dtype}" if call.y.dtype != call.x.dtype else ""
        return call.link(steps.Softmax(_axis(call, given), log), note=note)

    return build


def _softmin(call: Call) -> Iterable[Link]:
    negative = -call.x
    yield Link(steps.Pointwise("negative"), (call.x,), (negative,))
    yield Link(steps.Softmax(_axis(call, call.given("dim"))), (negative,), call.results)


def _dropout(unit: str, training: bool = True) -> Builder:
    def build(call: Call) -> Link:
        given = call.given("p", "training", "inplace")
        active = bool(given.get("training", given.get("train", training)))
        step = steps.Dropout(given.get("p", 0.5), unit, active)
        return call.link(step, layout=FIRST if unit == "channel" else "")

    return build


_POINTWISE = {"neg": "negative", **{name: name for name in steps.FUNCTIONS if name != "round"}}

TABLE: dict[str, Builder] = {
    **dict.fromkeys(("relu", "relu_"), _plain(steps.ReLU)),
    "relu6": _plain(lambda: steps.Clip(0, 6)),
    "selu": _plain(steps.SELU),
    "silu": _plain(steps.SiLU),
    "mish": _plain(steps.Mish),
    **dict.fromkeys(("sigmoid", "special_expit", "expit"), _plain(steps.Sigmoid)),
    **dict.fromkeys(("logsigmoid", "log_sigmoid"), _plain(lambda: steps.Sigmoid(log=True))),
    "hardsigmoid": _plain(steps.HardSigmoid),
    "hardswish": _plain(steps.HardSwish),
    "tanh": _plain(steps.Tanh),
    "tanhshrink": _plain(steps.TanhShrink),
    "softsign": _plain(steps.Softsign),
    "leaky_relu": _row("negative_slope inplace", lambda a: steps.LeakyReLU(a.get("negative_slope", 0.01))),
    "elu": _row("alpha scale input_scale", _elu),
    "celu": _row("alpha inplace", lambda a: steps.CELU(a.get("alpha", 1.0))),
    "gelu": _row("approximate", lambda a: steps.GELU(a.get("approximate", "none"))),
    "softplus": _row(
        "beta threshold", lambda a: steps.Softplus(a.get("beta", 1.0), threshold=a.get("threshold", 20.0))
    ),
    "hardshrink": _row("lambd", lambda a: steps.HardShrink(a.get("lambd", 0.5))),
    "softshrink": _row("lambd", lambda a: steps.SoftShrink(a.get("lambd", 0.5))),
    **dict.fromkeys(("threshold", "_threshold"), _row("threshold value", _threshold)),
    "hardtanh": _row("min_val max_val inplace", lambda a: steps.Clip(a.get("min_val", -1.0), a.get("max_val", 1.0))),
    **dict.fromkeys(("clamp", "clip"), _row("min max", _clip)),
    "clamp_min": _row("min", _clip),
    "clamp_max": _row("max", _clip),
    "rrelu": _row("lower upper training", _rrelu),
    "round": _row("decimals", _round),
    **{name: _plain(partial(steps.Pointwise, function)) for name, function in _POINTWISE.items()},
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
    **dict.fromkeys(("softmax", "_softmax", "special_softmax"), _softmax(log=False)),
    **dict.fromkeys(("log_softmax", "_log_softmax", "special_log_softmax"), _softmax(log=True)),
    "softmin": _softmin,
    "glu": lambda call: call.link(steps.GLU(call.given("dim").get("dim", -1))),
    "dropout": _dropout("element"),
    "native_dropout": _dropout("element", training=False),
    **dict.fromkeys(("dropout1d", "dropout2d", "dropout3d", "feature_dropout"), _dropout("channel")),
    **dict.fromkeys(("alpha_dropout", "feature_alpha_dropout"), _dropout("alpha", training=False)),
}
