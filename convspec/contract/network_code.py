"""How a framework's users write a step: what ``source`` writes a whole network with.

``network_code.py`` of an adapter has a :class:`Target`. The framework is not imported.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, TypeAlias

from convspec.contract.plan import Plan
from convspec.errors import UnsupportedError
from convspec.spec import ConvSpec
from convspec.spec.steps import Slice, Step

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Code:
    """One step in a framework's code.

    Attributes:
        call: an expression; ``{x}`` is the first input, ``{y}`` the second, ``{all}`` all with commas between,
            ``{sum}`` and ``{product}`` all with these signs between, and ``{layer}`` the layer: ``"{layer}({x})"``,
            ``"torch.cat([{all}], 1)"``.
        layer: the constructor of the layer that it needs: ``"nn.Conv2d(3, 16, 3)"``; empty where it needs none.
        item: the same as a member of a sequence of layers; empty: the layer.
        remarks: what a reader must know, a sentence each.
    """

    call: str = "{layer}({x})"
    layer: str = ""
    item: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reads:
    """What a step reads, in the target's own axis order.

    Attributes:
        shapes: of the tensors.
        image: whether they are laid out as images, channels where the framework has them.
        first: whether images have their channels first.
        samples: whether they are single samples, without an axis of a batch.
    """

    shapes: tuple[Shape, ...]
    image: bool
    first: bool
    samples: bool = False

    @property
    def spatial(self) -> range:
        """The spatial axes of an image."""
        before, rank = not self.samples, len(self.shapes[0])
        return range(before + 1, rank) if self.first else range(before, rank - 1)

    @property
    def sizes(self) -> Shape:
        """The sizes of these axes."""
        return tuple(self.shapes[0][i] for i in self.spatial)


@dataclass(frozen=True, slots=True)
class Line:
    """A statement: ``writes = call(reads)``.

    Attributes:
        layer: name of the layer's attribute; empty where it needs none.
        first: whether the layer is used for the first time.
        comment: what stands behind it.
    """

    code: Code
    layer: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    first: bool = True
    comment: str = ""

    def statement(self, layer: str = "") -> str:
        """Return the statement; ``layer`` is how the layer is called in it, such as ``self.conv``."""
        if self.code.call.startswith("raise "):
            return self.code.call
        names = {
            "x": "".join(self.reads[:1]),
            "y": "".join(self.reads[1:2]),
            "all": ", ".join(self.reads),
            "sum": " + ".join(self.reads),
            "product": " * ".join(self.reads),
            "layer": layer,
        }
        return f"{', '.join(self.writes)} = {self.code.call.format(**names)}"


@dataclass(frozen=True, slots=True)
class Program:
    """A network's statements in a target's words.

    Attributes:
        inputs: names and shapes, in the target's axis order.
        results: names; ``result_shapes``: their shapes.
        sequence: whether it is a plain sequence of layers.
    """

    name: str
    inputs: tuple[tuple[str, Shape], ...]
    lines: tuple[Line, ...]
    results: tuple[str, ...]
    result_shapes: tuple[Shape, ...]
    sequence: bool

    @property
    def layers(self) -> list[tuple[str, str]]:
        """The layers that it needs: name and constructor, each once."""
        return [(line.layer, line.code.layer) for line in self.lines if line.layer and line.first]


def number(value: float) -> str:
    """Return a number as Python writes it, with all its digits; a whole one without its point."""
    return repr(float(value)).removesuffix(".0")


def literal(value: float) -> str:
    """Return a float as Python reads it, an infinite one too."""
    return repr(value) if abs(value) < inf else f'float("{value}")'


def native_layer(plan: Plan, **arguments: str) -> str:
    """Return the constructor of a plan's only layer, with other texts of some arguments (``rngs="rngs"``).

    Raises:
        UnsupportedError: where the plan is composed of several.
    """
    if plan.support != "native":
        raise UnsupportedError(f"it is composed: {plan.support.reason}")
    statement = ast.parse(plan.text).body[-1]
    call = statement.value if isinstance(statement, ast.Assign) else None
    if not isinstance(call, ast.Call):
        raise UnsupportedError("its plan has no constructor")
    for word in call.keywords:
        if word.arg in arguments:
            word.value = ast.parse(arguments[word.arg], mode="eval").body
    return ast.unparse(call)


def one(values: Sequence[Any]) -> Any:
    """Return one number for equal ones, else all of them."""
    return values[0] if len(set(values)) == 1 else tuple(values)


def call(name: str, *args: object, **kwargs: tuple[Any, Any]) -> str:
    """Return the text of a call with the keywords, each ``(value, default)``, that are not the default."""
    given = [f"{key}={value!r}" for key, (value, default) in kwargs.items() if value != default]
    return f"{name}({', '.join([*map(repr, args), *given])})"


def write_slice(step: Slice, _: Reads) -> Code:
    """Return a slice as NumPy writes it."""
    parts = [f"{'' if a is None else a}:{'' if b is None else b}{f':{c}' if c != 1 else ''}" for a, b, c in step.ranges]
    return Code(f"{{x}}[{', '.join(parts)}]")


@dataclass(frozen=True, slots=True)
class Target:
    """A framework as the target of a translation.

    Attributes:
        layout: of its tensors.
        write: the code of a step, whose axes are counted in the target's order; an image's step has them as
            ``(N, C, *spatial)``. Raises :class:`~convspec.contract.network_words.NotKnown` where it has no counterpart.
        assemble: the text of a program, which defines ``model``.
        samples: whether its tensors are single samples; axes of steps are then counted without that of a batch, but
            shapes of inputs are of a batch.
    """

    title: str
    layout: str
    write: Callable[[ConvSpec | Step, Reads], Code | Sequence[Code]]
    assemble: Callable[[Program], str]
    samples: bool = False
