"""Convolutions that together are one layer, split by its channels: Split, one for each part, Concat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convspec.models import split_layers
from convspec_onnx.graph.convolutions import value_of
from convspec_onnx.graph.epilogue import readers
from convspec_onnx.source.run_source import behind, layer_of

if TYPE_CHECKING:
    import onnx

    from convspec.models import Layer
    from convspec_onnx.graph.convolutions import Conv

_CUTS = ("Split", "Slice", "Gather")
_BEFORE = ("Identity", "Cast", "Transpose", "Pad", "Squeeze", "Unsqueeze", "Reshape")
_BY_CELL = ("Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Slice", "Pad")
_MOST = 8  # nodes that are passed by


@dataclass
class Split:
    """Parts in the order in which a Concat joins their channels.

    Attributes:
        grouped: whether each reads channels of its own; else all read the same tensor.
    """

    convs: list[Conv]
    concat: onnx.NodeProto
    grouped: bool

    @property
    def sizes(self) -> list[int]:
        return [conv.spec.out_channels for conv in self.convs if conv.spec is not None]

    def join(self) -> None:
        """Have what stands behind the Concat counted to the parts."""
        start, total = 0, sum(self.sizes)
        for conv, size in zip(self.convs, self.sizes, strict=True):
            conv.joined = self.concat.output[0], start, total
            start += size


def splits(convs: Sequence[Conv], theirs: Sequence[Layer]) -> Iterator[tuple[Split, Layer]]:
    """What stands for one layer of the source in several nodes, and the layer that these are together.

    A source may itself have several convolutions side by side. The numbers tell: as many kernels at least must be those
    of the parts of one layer as are those of layers by themselves.
    """
    for split in _found(convs):
        parts = [layer for layer in map(layer_of, split.convs) if layer is not None]
        cuts = [cut for one in theirs if (cut := split_layers.split(one, split.sizes, grouped=split.grouped))]
        whole = split_layers.join(parts, grouped=split.grouped)
        if not cuts or whole is None:
            continue
        fit = max(sum(map(split_layers.alike, parts, cut)) for cut in cuts)
        fit = fit or max(sum(place is not None for place in split_layers.match_parts(parts, cut)) for cut in cuts)
        alone = sum(any(split_layers.alike(part, one) for one in theirs if _same_form(part, one)) for part in parts)
        if fit > alone or (split.grouped and not alone):
            split.join()
            yield split, whole


def _found(convs: Sequence[Conv]) -> Iterator[Split]:
    joins: dict[int, tuple[onnx.NodeProto, dict[str, Conv]]] = {}
    for conv in convs:
        if conv.spec is not None and conv.params is not None and not conv.rows and (end := _join(conv)) is not None:
            name, node = end
            joins.setdefault(id(node), (node, {}))[1][name] = conv
    for node, parts in joins.values():
        if len(parts) < 2 or sorted(parts) != sorted(node.input):
            continue
        found = [parts[name] for name in node.input]
        if len({(conv.node.op_type, conv.spec.ndim) for conv in found if conv.spec}) > 1:
            continue
        data, roots = {conv.data for conv in found}, [_root(conv) for conv in found]
        if len(data) == 1:
            yield Split(found, node, grouped=False)
        elif None not in roots and len(set(roots)) == 1 and len(data) == len(found):
            yield Split(found, node, grouped=True)


def _same_form(part: Layer, one: Layer) -> bool:
    return part.params.kernel.shape == one.params.kernel.shape and part.spec.transposed == one.spec.transposed


def _join(conv: Conv) -> tuple[str, onnx.NodeProto] | None:
    """The Concat of channels that the node's output goes to, past what works cell by cell, and under which name."""
    name, axes = behind(conv).end
    known = readers(conv.scope)
    for _ in range(_MOST):
        users = known.get(name, [])
        if len(users) != 1:
            return None
        (node,) = users
        if node.op_type == "Concat":
            axis = next((int(value_of(a)) for a in node.attribute if a.name == "axis"), len(axes))
            return (name, node) if -len(axes) <= axis < len(axes) and axes[axis] == 1 else None
        if node.op_type not in _BY_CELL or node.input[0] != name:
            return None
        name = node.output[0]
    return None


def _root(conv: Conv) -> str | None:
    """The tensor of which the node reads a part; None where it reads a whole one."""
    name = conv.data
    for _ in range(_MOST):
        node = conv.scope.maker(name)
        if node is None or not node.input:
            return None
        name = str(node.input[0])
        if node.op_type in _CUTS:
            return name
        if node.op_type not in _BEFORE:
            return None
    return None
