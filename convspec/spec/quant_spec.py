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
        problems = [*self._type_problems(), *self._number_problems()]
        if problems:
            raise SpecError(problems)

    def _type_problems(self) -> list[str]:
        allowed = dict.fromkeys(("input", "weight"), tuple(INTEGERS)[:3]) | {"output": tuple(INTEGERS)}
        allowed |= {"bias": ("int32", "int64"), "activation": tuple(ACTIVATIONS)}
        return [f"{name}={getattr(self, name)!r} must be one of {', '.join(map(repr, names))}"
                for name, names in allowed.items() if getattr(self, name) not in names]  # fmt: skip

    def _number_problems(self) -> list[str]:
        problems = []
        for entry in fields(self):
            what, _, kind = entry.name.partition("_")
            if not kind:
                continue
            given, several = getattr(self, entry.name), " or one per output channel" * (what == "weight")
            numbers = as_sequence(given) if what == "weight" else None
            converted = [
                (_scale if kind == "scale" else as_integer)(n) for n in ([given] if numbers is None else numbers)
            ]
            low, high = INTEGERS.get(getattr(self, what), INTEGERS["int32"])
            rule = "a number above 0 in float32" if kind == "scale" else f"an int from {low} to {high}"
            if not converted or not all(n is not None and (kind == "scale" or low <= n <= high) for n in converted):
                problems.append(f"{entry.name}={given!r} must be {rule}{several}")
            else:
                object.__setattr__(self, entry.name, converted[0] if numbers is None else tuple(converted))
        return problems

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest output: those of its type, or of the activation."""
        low, high = INTEGERS[self.output]
        step = 1.0 if self.output == "int32" else self.output_scale
        first, last = (end / step + self.output_zero for end in ACTIVATIONS[self.activation])
        return max(low, low if first == -math.inf else round(first)), min(
            high, high if last == math.inf else round(last)
        )

    def check(self, spec: ConvSpec) -> QuantSpec:
        """Return this spec if its numbers of the weight fit the layer. Raises SpecError."""
        problems = [
            f"{name} must be one number, or one for each of {spec.out_channels} output channels, not {len(numbers)}"
            for name in ("weight_scale", "weight_zero")
            if isinstance(numbers := getattr(self, name), tuple) and len(numbers) != spec.out_channels
        ]  # fmt: skip
        if problems:
            raise SpecError(problems)
        return self

    @property
    def symmetric(self) -> bool:
        """Whether the zero points of the weight are 0."""
        zeros = self.weight_zero
        return not (any(zeros) if isinstance(zeros, tuple) else zeros)


def _scale(value: Any) -> float | None:
    """Return a positive number in float32; None for anything else."""
    if isinstance(value, bool | str) or not hasattr(value, "__float__"):
        return None
    try:
        number = float(struct.unpack("f", struct.pack("f", float(value)))[0])
    except OverflowError:
        return None
    return number if 0 < number < math.inf else None
