"""The calls of a network in their order: what each layer gives, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from convspec.contract.network_words import Placed
from convspec.errors import ShapeError
from convspec.layers.networks.values import Node, batch_of_one
from convspec.spec import ConvSpec, steps
from convspec.spec.steps import Step


@dataclass(frozen=True, slots=True)
class Row:
    """One call of a layer, or of a function, in the order of execution.

    Attributes:
        path: of the layer as its framework names it; of a function the path of the module that calls it, its name and
            number: ``block.relu_0``.
        kind: the class or function as written: ``"Conv2d"``.
        shape: its output's shape in the framework's own axis order; None where it is not known.
        parameters: number of its parameters as its framework counts them; 0 where an earlier row has them; None where
            it is not known.
        macs: multiply-accumulate operations for this input; None where the shape is not known.
        text: the call as written; ``line`` is its line in the text.
        steps: what it does, as specs, one after the other; empty where that is not known.
        inputs: shapes of the tensors that it reads.
        reads, writes: these tensors and its results, as numbers in the network.
        problem: why something is not known; empty where all is.
    """

    path: str
    kind: str
    shape: tuple[int, ...] | None
    parameters: int | None
    macs: int | None
    text: str = ""
    line: int = 0
    steps: tuple[ConvSpec | Step, ...] = ()
    layouts: tuple[str, ...] = ()
    inputs: tuple[tuple[int, ...] | None, ...] = ()
    reads: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    problem: str = ""
    is_layer: bool = True
    again: bool = False

    @property
    def words(self) -> str:
        """What it does in plain words."""
        return ", ".join(map(str, self.steps)) if self.steps else f"unknown: {self.problem}"


class NetworkError(ShapeError):
    """A tensor does not fit a layer of a network; the message names the layer, the numbers and a mend.

    Attributes:
        path: of the layer.
        rows: the rows before it.
        row: the layer itself, without an output.
        nodes: the calls behind these rows, the layer's last.
    """

    def __init__(self, message: str, row: Row, rows: Sequence[Row], nodes: Sequence[Node] = ()) -> None:
        self.row, self.rows, self.path, self.nodes = row, tuple(rows), row.path, tuple(nodes)
        super().__init__(message)

    def __reduce__(self) -> tuple[type[NetworkError], tuple[str, Row, tuple[Row, ...]]]:
        return type(self), (str(self), self.row, self.rows)


@dataclass(frozen=True, slots=True)
class Trace:
    """One reading of a network for given inputs.

    Attributes:
        rows: the calls in the order of execution.
        inputs, results: numbers of these tensors.
        notes: what was assumed, a sentence each.
    """

    rows: tuple[Row, ...]
    inputs: tuple[int, ...]
    results: tuple[int, ...]
    notes: tuple[str, ...]

    def batched(self) -> Trace:
        """Return the reading of a network of single samples for a batch of one, which is what its steps are for."""
        rows = [
            replace(row, shape=batch_of_one(row.shape), inputs=tuple(map(batch_of_one, row.inputs)))
            for row in self.rows
        ]
        return replace(self, rows=tuple(rows))


def total(numbers: Sequence[int | None]) -> int | None:
    """Return the sum of numbers; None where one is not known."""
    known = [n for n in numbers if n is not None]
    return sum(known) if len(known) == len(numbers) else None


def outputs(placed: Placed, shapes: Sequence[tuple[int, ...]]) -> Sequence[tuple[int, ...]]:
    """Return the shapes of a step's results; a step of one input takes the first of several.

    Raises:
        ShapeError: where the inputs do not fit, or there are none.
    """
    step, layout = placed.step, placed.layout or "NCHW"
    given = [(1, *shape) for shape in shapes] if placed.samples else shapes
    made = (step.output_shape(given[0], layout),) if isinstance(step, ConvSpec) else (
        step.output_shapes(*given[: step.num_inputs], layout=layout))  # fmt: skip
    return [shape[1:] for shape in made] if placed.samples else made


def possible_outputs(placed: Placed, shapes: Sequence[tuple[int, ...] | None]) -> Sequence[tuple[int, ...] | None]:
    """Return the shapes of a step's results, None for those that are not known; raises as :func:`outputs`."""
    step = placed.step
    count = 1 if isinstance(step, ConvSpec) else step.num_inputs
    known = [shape for shape in shapes[:count] if shape is not None]
    whole = len(known) == len(shapes[:count]) and (bool(shapes) or count == 0)
    made = outputs(placed, known) if whole and not isinstance(step, steps.Other) else None
    if placed.shapes is not None:
        return placed.shapes
    return made or [None] * (len(step.sizes) if isinstance(step, steps.Split) else 1)


def array_shape(meaning: Any, name: str) -> tuple[int, ...] | None:
    """Return the shape of a weight or bias as its framework has it."""
    parts = list(meaning) if isinstance(meaning, list | tuple) else [meaning]
    for part in parts:
        if isinstance(part, ConvSpec):
            first, second = (part.in_channels, part.out_channels) if part.transposed else (
                part.out_channels, part.in_channels)  # fmt: skip
            return (first, second // part.groups, *part.kernel_size) if name == "weight" else (part.out_channels,)
        if isinstance(part, Step) and part.arrays:
            return part.arrays.get("scale" if name == "weight" and "scale" in part.arrays else name)
    return None
