"""The calls of a network in their order: what each layer gives, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from convspec.errors import ShapeError
from convspec.layers.networks.values import Node
from convspec.spec import ConvSpec
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
