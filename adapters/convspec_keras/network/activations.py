"""Activations: by name, as functions, as layers, and as arguments of other layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from convspec.contract.network_words import Arguments, Meaning, NotKnown, Placed, Symbol, Word
from convspec.spec import steps
from convspec.spec.steps import Step

Build: TypeAlias = "Step | Callable[[Arguments], Any]"


def relu(a: Arguments) -> Step:
    """Return the step of ReLU with a slope, a maximum and a threshold."""
    slope, maximum, threshold = float(a.negative_slope), a.max_value, float(a.threshold)
    if threshold == 0 and maximum is None:
        return steps.LeakyReLU(slope) if slope else steps.ReLU()
    if threshold == slope == 0:
        return steps.Clip(0, float(maximum))
    return steps.ThresholdedReLU(threshold, slope, maximum)


def leaky(a: Arguments) -> Step:
    return steps.LeakyReLU(float(a.negative_slope if a.alpha is None else a.alpha))


def _softmax(log: bool = False) -> Build:
    return lambda a: steps.Softmax(a.axis, log)


_ROWS: dict[str, tuple[str, Build]] = {  # by name: settings after the tensor, and the step
    "relu": ("negative_slope=0.0, max_value=None, threshold=0.0", relu),
    "leaky_relu": ("negative_slope=0.2, alpha=None", leaky),
    "elu": ("alpha=1.0", lambda a: steps.ELU(float(a.alpha))),
    "celu": ("alpha=1.0", lambda a: steps.CELU(float(a.alpha))),
    "gelu": ("approximate=False", lambda a: steps.GELU("tanh" if a.approximate else "none")),
    "softmax": ("axis=-1", _softmax()),
    "log_softmax": ("axis=-1", _softmax(log=True)),
    "glu": ("axis=-1", lambda a: steps.GLU(a.axis)),
    "hard_shrink": ("threshold=0.5", lambda a: steps.HardShrink(float(a.threshold))),
    "soft_shrink": ("threshold=0.5", lambda a: steps.SoftShrink(float(a.threshold))),
    "squareplus": ("b=4", lambda a: steps.Squareplus(float(a.b))),
}
_PLAIN: dict[str, Step] = {
    "linear": steps.Identity(), "relu6": steps.Clip(0, 6), "selu": steps.SELU(), "mish": steps.Mish(),
    "sigmoid": steps.Sigmoid(), "log_sigmoid": steps.Sigmoid(log=True), "hard_sigmoid": steps.HardSigmoid(),
    "tanh": steps.Tanh(), "hard_tanh": steps.Clip(-1, 1), "tanh_shrink": steps.TanhShrink(),
    "softplus": steps.Softplus(), "softsign": steps.Softsign(), "exponential": steps.Pointwise("exp"),
    **dict.fromkeys(("silu", "swish"), steps.SiLU()), **dict.fromkeys(("hard_silu", "hard_swish"), steps.HardSwish()),
}  # fmt: skip
ACTIVATIONS: dict[str, Word] = {
    **{name: Word(f"x, {settings}, name=None", build) for name, (settings, build) in _ROWS.items()},
    **{name: Word("x, name=None", step) for name, step in _PLAIN.items()},
}
"""Functions of ``keras.activations``, by name."""


def activation(a: Arguments, value: Any) -> Sequence[Meaning]:
    """Return the steps of an ``activation`` argument: a name, a function, or a layer. They take any layout.

    Raises:
        NotKnown: for a function of the text.
    """
    if value is None:
        return ()
    if hasattr(value, "word"):
        word, arguments = value.word, value.arguments
    else:
        name = value.text.rpartition(".")[2] if isinstance(value, Symbol) else value
        if name not in ACTIVATIONS:
            raise NotKnown(f"its activation {getattr(value, 'text', value)} is no name of Keras")
        word = ACTIVATIONS[name]
        arguments = word.bind(f"{name}(x)", [None], {})
    made = word.means(Arguments(arguments, a.tensors))
    found = [made] if isinstance(made, Step) else made
    return [Placed(step, "") for step in found if step != steps.Identity()]
