"""Functions of each element, softmax, gates and dropout: layers and functions of the same settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convspec.contract.network_words import Arguments, Meanings, NotKnown, Word
from convspec.spec import steps
from convspec.spec.steps import Step


def _threshold(a: Arguments) -> Step:
    if a.value != 0:
        raise NotKnown(f"values up to {a.threshold} become {a.value}")
    return steps.ReLU() if a.threshold == 0 else steps.ThresholdedReLU(a.threshold)


def _axis(a: Arguments) -> int:
    """Return the axis of a softmax; without one, PyTorch chooses by the number of axes."""
    dim: int | None = a.dim
    return (0 if a.rank in (0, 1, 3) else 1) if dim is None else dim


def _dropout(unit: str) -> Callable[[Arguments], Step]:
    return lambda a: steps.Dropout(a.p, unit, vars(a).get("training") is True)


_TABLE: tuple[tuple[str, str, str, Meanings | Callable[[Arguments], Any]], ...] = (  # layer, function, settings
    ("ReLU", "relu", "inplace=False", steps.ReLU()),
    ("ReLU6", "relu6", "inplace=False", steps.Clip(0, 6)),
    ("SELU", "selu", "inplace=False", steps.SELU()),
    ("SiLU", "silu", "inplace=False", steps.SiLU()),
    ("Mish", "mish", "inplace=False", steps.Mish()),
    ("Sigmoid", "sigmoid", "", steps.Sigmoid()),
    ("LogSigmoid", "logsigmoid", "", steps.Sigmoid(log=True)),
    ("Hardsigmoid", "hardsigmoid", "inplace=False", steps.HardSigmoid()),
    ("Hardswish", "hardswish", "inplace=False", steps.HardSwish()),
    ("Tanh", "tanh", "", steps.Tanh()),
    ("Tanhshrink", "tanhshrink", "", steps.TanhShrink()),
    ("Softsign", "softsign", "", steps.Softsign()),
    ("LeakyReLU", "leaky_relu", "negative_slope=0.01, inplace=False", lambda a: steps.LeakyReLU(a.negative_slope)),
    ("ELU", "elu", "alpha=1.0, inplace=False", lambda a: steps.ELU(a.alpha)),
    ("CELU", "celu", "alpha=1.0, inplace=False", lambda a: steps.CELU(a.alpha)),
    ("GELU", "gelu", "approximate='none'", lambda a: steps.GELU(a.approximate)),
    ("Softplus", "softplus", "beta=1.0, threshold=20.0", lambda a: steps.Softplus(a.beta, threshold=a.threshold)),
    ("Hardshrink", "hardshrink", "lambd=0.5", lambda a: steps.HardShrink(a.lambd)),
    ("Softshrink", "softshrink", "lambd=0.5", lambda a: steps.SoftShrink(a.lambd)),
    ("Threshold", "threshold", "threshold, value, inplace=False", _threshold),
    ("Hardtanh", "hardtanh", "min_val=-1.0, max_val=1.0, inplace=False", lambda a: steps.Clip(a.min_val, a.max_val)),
    ("RReLU", "rrelu", "lower=0.125, upper=0.3333333333333333, inplace=False",
     lambda a: steps.LeakyReLU((a.lower + a.upper) / 2)),
    ("Softmax", "softmax", "dim=None", lambda a: steps.Softmax(_axis(a))),
    ("LogSoftmax", "log_softmax", "dim=None", lambda a: steps.Softmax(_axis(a), log=True)),
    ("Softmin", "softmin", "dim=None",
     lambda a: [steps.Pointwise("negative"), steps.Softmax(_axis(a))]),
    ("Softmax2d", "", "", steps.Softmax(-3)),
    ("GLU", "glu", "dim=-1", lambda a: steps.GLU(a.dim)),
)  # fmt: skip
_MORE = dict.fromkeys(("softmax", "log_softmax", "softmin"), ", _stacklevel=3, dtype=None")  # of the function only
_DROPOUTS = {
    "Dropout": "element", **{f"Dropout{n}d": "channel" for n in (1, 2, 3)}, "AlphaDropout": "alpha",
    "FeatureAlphaDropout": "alpha",
}  # fmt: skip
_FUNCTION_OF = {"Dropout": "dropout", "AlphaDropout": "alpha_dropout", "FeatureAlphaDropout": "feature_alpha_dropout"}

LAYERS: dict[str, Word] = {
    **{layer: Word(settings, build) for layer, _, settings, build in _TABLE},
    "PReLU": Word(
        "num_parameters=1, init=0.25, device=None, dtype=None", lambda a: steps.PReLU(a.num_parameters), "NCHW"
    ),
    **{
        name: Word("p=0.5, inplace=False", _dropout(unit), "NCHW" * (unit == "channel"))
        for name, unit in _DROPOUTS.items()
    },
}
FUNCTIONS: dict[str, Word] = {
    **{name: Word(f"input, {settings}{_MORE.get(name, '')}", build) for _, name, settings, build in _TABLE if name},
    **{f"{name}_": Word(f"input, {settings}", build) for _, name, settings, build in _TABLE if "inplace" in settings},
    **{f"{name}_": Word("input", build) for _, name, settings, build in _TABLE if name and not settings},
    **{name: Word("input", steps.Pointwise(name)) for name in steps.FUNCTIONS if name != "negative"},
    **dict.fromkeys(("neg", "negative"), Word("input", steps.Pointwise("negative"))),
    **dict.fromkeys(("clamp", "clip"), Word("input, min=None, max=None", lambda a: steps.Clip(a.min, a.max))),
    **{_FUNCTION_OF.get(name, name.lower()): Word(f"input, p=0.5, training={name[0] != 'A' and name[0] != 'F'}, "
                                                  "inplace=False", _dropout(unit), "NCHW" * (unit == "channel"))
       for name, unit in _DROPOUTS.items()},
}  # fmt: skip
