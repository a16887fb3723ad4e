"""One node in one run, and the word for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import onnx

from convspec.contract.tracing import NoWord, OperatorStep
from convspec_onnx.graph import attributes_of
from convspec_onnx.loading import Array, tensors_read

FIRST = "NCHW"
_SHAPES = ("Shape", "Size")
_RANDOM = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial")
_NO_TENSORS = ("Sequence", "SplitToSequence", "Optional")


Builder: TypeAlias = "Callable[[Operation], OperatorStep]"


@dataclass(frozen=True, eq=False)
class Operation:
    """One node in one run.

    Attributes:
        node: has a name.
        opset: the version of its domain.
        values: what it read, None for an input that is left out.
        fixed: whether each input follows from the file and the shapes of the model's inputs alone.
        results: what it wrote.
    """

    node: onnx.NodeProto
    opset: int
    values: Sequence[Array | None]
    fixed: Sequence[bool]
    results: Sequence[Array]

    @cached_property
    def attributes(self) -> dict[str, Any]:
        return attributes_of(self.node)

    @property
    def x(self) -> Array:
        """What its first input held."""
        return self.value(0)

    @property
    def y(self) -> Array:
        """Its first result."""
        return self.results[0]

    def has(self, number: int) -> bool:
        return number < len(self.values) and self.values[number] is not None

    def value(self, number: int) -> Array:
        """Return what an input held; raise NoWord for one that is left out."""
        found = self.values[number] if self.has(number) else None
        if found is None:
            raise NoWord(f"without input {number}")
        return found

    def constant(self, number: int) -> Array:
        """Return an input that is fixed; raise NoWord for one that is computed or left out."""
        value = self.value(number)
        if not self.fixed[number]:
            raise NoWord(f"with a computed input {number}")
        return value

    def number(self, number: int, default: float | None = None) -> float | None:
        """Return a fixed input of one element as a float; ``default`` where it is left out."""
        if not self.has(number):
            return default
        value = self.constant(number)
        if value.size != 1:
            raise NoWord(f"with {value.size} elements in input {number}")
        return plain(value.reshape(-1)[0])

    def ints(self, name: str, number: int) -> tuple[int, ...] | None:
        """Return integers from the attribute ``name``, or from an input as in later opsets; None for neither."""
        if name in self.attributes:
            found = self.attributes[name]
            return tuple(int(n) for n in found) if isinstance(found, tuple) else (int(found),)
        return tuple(int(n) for n in self.constant(number).reshape(-1)) if self.has(number) else None

    def require_floats(self) -> None:
        """Raise NoWord for a result of integers, whose arithmetic wraps around."""
        if self.y.dtype.kind in "iub":
            raise NoWord("of integers")


def plain(number: Any) -> float:
    """Return a float as it was written: 0.1 for the float32 nearest to it."""
    return float(str(number)) if isinstance(number, np.float32 | np.float16) else float(number)


def opsets_of(model: onnx.ModelProto) -> dict[str, int]:
    """Return the version of each domain; ``ai.onnx`` is another name of the standard's own, which is empty."""
    return {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in model.opset_import}


def opset_of(node: onnx.NodeProto, opsets: Mapping[str, int]) -> int:
    """Return the version of a node's domain."""
    return opsets.get("" if node.domain == "ai.onnx" else node.domain, 1)


def holds_tensors(node: onnx.NodeProto) -> bool:
    """Whether a node writes tensors, not sequences of them."""
    return not node.op_type.startswith(_NO_TENSORS)


def fixed_tensors(graph: onnx.GraphProto) -> dict[str, tuple[str, ...]]:
    """Return the tensors that follow from the file and the shapes of the inputs, each with the initialisers in it."""
    fixed: dict[str, tuple[str, ...]] = {tensor.name: (tensor.name,) for tensor in graph.initializer}
    fixed |= {tensor.values.name: (tensor.values.name,) for tensor in graph.sparse_initializer}
    for node in graph.node:
        read = tensors_read(node)
        if node.op_type in _SHAPES or (node.op_type not in _RANDOM and read <= fixed.keys()):
            roots = dict.fromkeys(root for name in sorted(read) for root in fixed.get(name, ()))
            fixed |= dict.fromkeys((name for name in node.output if name), tuple(roots))
    return fixed
