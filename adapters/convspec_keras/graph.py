"""A TensorFlow graph and the values in it that do not depend on its inputs. TensorFlow is not imported here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convspec.contract import Part, known_dtype

PASSING = ("Identity", "Switch", "StopGradient", "Enter", "RefSwitch")
CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_UNKNOWN = ("Placeholder", "PlaceholderWithDefault", "Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond")


@dataclass(frozen=True)
class SavedModel:
    """A signature's graph with the names of the tensors that go in and come out, by the signature's own names."""

    graph: Any
    inputs: dict[str, str]
    outputs: dict[str, str]


@dataclass(frozen=True)
class Site:
    """A layer of the graph: its part, its input tensor and its output tensor."""

    part: Part
    x: Any
    y: Any


@dataclass
class Graph:
    """The graph and the values in it that do not depend on its inputs."""

    model: SavedModel
    session: Any
    _known: dict[str, Any] = field(default_factory=dict)

    def constant(self, tensor: Any) -> Any:
        """The numbers of a tensor that does not depend on the inputs; None where it does."""
        while tensor.op.type in PASSING:
            tensor = tensor.op.inputs[0]
        if tensor.name not in self._known:
            self._known[tensor.name] = self.session.run(tensor) if self._is_free(tensor.op) else None
        return self._known[tensor.name]

    def _is_free(self, operation: Any) -> bool:
        """Whether nothing that it depends on is an input, a choice or chance."""
        left, seen = [operation], {operation.name}
        while left:
            one = left.pop()
            if one.type in _UNKNOWN or one.type.startswith(("Random", "Truncated")) or one.type in CALLS:
                return False
            for tensor in one.inputs:
                if tensor.op.name not in seen:
                    seen.add(tensor.op.name)
                    left.append(tensor.op)
        return True


def scope(name: str) -> str:
    """Return the path of a node's layer, without enclosing calls and the operator's own name."""
    words = name.split("/")
    while len(words) > 1 and words[0].startswith(("StatefulPartitionedCall", "PartitionedCall", "Func")):
        words.pop(0)
    return "/".join(words[:-1]) or words[-1]


def only_user(tensor: Any) -> Any:
    """The one operation that reads a tensor; None where several do."""
    users = tensor.consumers()
    return users[0] if len(users) == 1 else None


def sizes(graph: Graph, tensor: Any, rank: int) -> list[int | None]:
    """The elements of a shape as far as they are known."""
    while tensor.op.type in PASSING:
        tensor = tensor.op.inputs[0]
    found = graph.constant(tensor)
    if found is not None:
        return [int(n) for n in found]
    if tensor.op.type != "Pack":
        return [None] * rank
    single = [graph.constant(one) for one in tensor.op.inputs]
    return [None if n is None else int(n) for n in single]


def plain(array: Any) -> Any:
    """In the memory order of C; bfloat16 in float32."""
    found = np.asarray(array)
    return np.array(found.astype(np.float32) if found.dtype.kind not in "fiub" else found, order="C")


def short(number: Any) -> float:
    """A float32 as the decimal that it was written as."""
    return float(str(np.float32(number)))


def dtype_of(array: Any) -> str:
    return known_dtype(str(array.dtype))
