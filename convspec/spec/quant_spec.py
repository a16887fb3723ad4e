"""QuantSpec: what the integers of a quantised convolution stand for."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from convspec.errors import SpecError
from convspec.spec.conv_spec import ConvSpec
from convspec.spec.validation import as_integer, as_sequence

INTEGERS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-(2**15), 2**15 - 1), "int32": (-(2**31), 2**31 - 1)}
ACTIVATIONS = {
    "none": (-math.inf, math.inf), "relu": (0.0, math.inf), "relu6": (0.0, 6.0), "relu_n1_to_1": (-1.0, 1.0),
}  # fmt: skip
Scales: TypeAlias = "float | tuple[float, ...]"
Zeros: TypeAlias = "int | tuple[int, ...]"


@dataclass(frozen=True, slots=True)
class QuantSpec:
    """The types, scales and zero points of a quantised convolution: a number is scale · (integer - zero).

    How a runtime rounds the scaled sum is no field: runtimes differ, and the verdict names the rule that it finds.
    Pads hold the zero point of the input. The bias has the scale input_scale · weight_scale and the zero point 0.
    Scales are rounded to float32, the format in which runtimes store them.

    Attributes:
        input, weight, output: types, of :data:`INTEGERS`; an output of type int32 is the sum itself, and its scale is
            not used.
        bias: type of the bias.
        input_scale, output_scale: of the whole tensor, as input_zero and output_zero.
        weight_scale, weight_zero: one number, or one for each output channel.
        activation: one of :data:`ACTIVATIONS`; the output is clipped to its ends.

    Raises:
        SpecError: with one sentence for every field that breaks a rule.

    >>> QuantSpec(input_scale=0.5, weight_scale=(0.25, 0.125), output_zero=-3, activation="relu").limits
    (-3, 127)
    """

    input: str = "int8"
    weight: str = "int8"
    output: str = "int8"
    input_scale: float = 1.0
    weight_scale: Scales = 1.0
    output_scale: float = 1.0
    input_zero: int = 0
    weight_zero: Zeros = 0
    output_zero: int = 0
    bias: str = "int32"
    activation: str = "none"

    def __post_init__(self) -> None:
        types = tuple(INTEGERS)
        allowed = {"input": types[:3], "weight": types[:3], "output": types, "bias": ("int32", "int64"),
                   "activation": tuple(ACTIVATIONS)}  # fmt: skip
        problems = [f"{name}={getattr(self, name)!r} must be one of {', '.join(map(repr, names))}"
                    for name, names in allowed.items() if getattr(self, name) not in names]  # fmt: skip
        for entry in fields(self):
            what, _, kind = entry.name.partition("_")
            if kind and (problem := self._number_problem(entry.name, INTEGERS.get(getattr(self, what), (0, 0)))):
                problems.append(problem)
        if problems:
            raise SpecError(problems)

    def _number_problem(self, name: str, ends: tuple[int, int]) -> str:
        """Store a field of numbers in canonical form, or return the rule that it breaks."""
        given, scale, of_weight = getattr(self, name), name.endswith("scale"), name.startswith("weight")
        numbers = as_sequence(given) if of_weight else None
        converted = [(_scale if scale else as_integer)(n) for n in ([given] if numbers is None else numbers)]
        if converted and all(n is not None and (scale or ends[0] <= n <= ends[1]) for n in converted):
            object.__setattr__(self, name, converted[0] if numbers is None else tuple(converted))
            return ""
        rule = "a number above 0 in float32" if scale else "an int from {} to {}".format(*ends)
        return f"{name}={given!r} must be {rule}" + " or one per output channel" * of_weight

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest output: those of its type, or of the activation."""
        low, high = INTEGERS[self.output]
        step = 1.0 if self.output == "int32" else self.output_scale
        ends = (min(max(end / step + self.output_zero, low), high) for end in ACTIVATIONS[self.activation])
        first, last = map(round, ends)
        return first, last

    def check(self, spec: ConvSpec) -> QuantSpec:
        """Return this spec if its numbers of the weight fit the layer. Raises SpecError."""
        own = {name: getattr(self, name) for name in ("weight_scale", "weight_zero")}
        rule = f"must be one number, or one for each of {spec.out_channels} output channels, not"
        counts = {name: len(numbers) for name, numbers in own.items() if isinstance(numbers, tuple)}
        if problems := [f"{name} {rule} {n}" for name, n in counts.items() if n != spec.out_channels]:
            raise SpecError(problems)
        return self

    @property
    def symmetric(self) -> bool:
        """Whether the zero points of the weight are 0."""
        return self.weight_zero in (0, (0,) * len(as_sequence(self.weight_zero) or ()))


def _scale(value: Any) -> float | None:
    """Return a positive number in float32; None for anything else."""
    if isinstance(value, bool | str) or not hasattr(value, "__float__"):
        return None
    try:
        number = float(struct.unpack("f", struct.pack("f", float(value)))[0])
    except OverflowError:
        return None
    return number if 0 < number < math.inf else None
