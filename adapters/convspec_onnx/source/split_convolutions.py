"""Convolutions that together are one layer, split by its channels: Split, one per part, Concat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx

from convspec.models import Layer, split_layers
from convspec_onnx.graph import Conv, attributes_of
from convspec_onnx.source.epilogue import epilogue_of, layer_of

_CUTS = ("Split", "Slice", "Gather")
_BEFORE = ("Identity", "Cast", "Transpose", "Pad", "Squeeze", "Unsqueeze", "Reshape")
_ELEMENTWISE = ("Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Slice",
                "Pad")  # fmt: skip
_MAX_NODES = 8


@dataclass
class Split:
    """The parts of a layer, in the order in which a Concat joins their channels.

    Attributes:
        grouped: whether each part reads its own channels; else all read the same tensor.
    """

    convs: list[Conv]
    concat: onnx.NodeProto
    grouped: bool

    @property
    def sizes(self) -> list[int]:
        return [conv.spec.out_channels for conv in self.convs if conv.spec is not None]

    @property
    def parts(self) -> list[Layer]:
        return [layer for layer in map(layer_of, self.convs) if layer is not None]

    def join(self) -> None:
        """Let the nodes after the Concat belong to the parts."""
        start, total = 0, sum(self.sizes)
        for conv, size in zip(self.convs, self.sizes, strict=True):
            conv.joined = self.concat.output[0], start, total
            start += size


def find_splits(convs: Sequence[Conv], theirs: Sequence[Layer]) -> Iterator[tuple[Split, Layer]]:
    """Yield the nodes that together are one layer of the source, and that layer.

    A source may itself have several convolutions side by side. The kernels decide: at least as many must equal parts
    of one layer as equal whole layers.
    """
    for split in _candidates(convs):
        parts = split.parts
        cuts = [cut for one in theirs if (cut := split_layers.pieces(one, split.sizes, grouped=split.grouped))]
        whole = split_layers.joined(parts, grouped=split.grouped)
        if not cuts or whole is None:
            continue
        fit = max(sum(map(split_layers.alike, parts, cut)) for cut in cuts)
        fit = fit or max(sum(place is not None for place in split_layers.placed(parts, cut)) for cut in cuts)
        alone = sum(any(split_layers.alike(part, one) for one in theirs if _same_form(part, one)) for part in parts)
        if fit > alone or (split.grouped and not alone):
            split.join()
            yield split, whole


def _candidates(convs: Sequence[Conv]) -> Iterator[Split]:
    joins: dict[int, tuple[onnx.NodeProto, dict[str, Conv]]] = {}
    for conv in convs:
        if conv.spec and conv.params and not conv.rows and (concat := _find_concat(conv)):
            name, node = concat
            joins.setdefault(id(node), (node, {}))[1][name] = conv
    for node, by_name in joins.values():
        if len(by_name) < 2 or sorted(by_name) != sorted(node.input):
            continue
        parts = [by_name[name] for name in node.input]
        if len({(conv.node.op_type, conv.spec.ndim) for conv in parts if conv.spec}) > 1:
            continue
        data, roots = {conv.data for conv in parts}, {_find_root(conv) for conv in parts}
        if len(data) == 1:
            yield Split(parts, node, grouped=False)
        elif None not in roots and len(roots) == 1 and len(data) == len(parts):
            yield Split(parts, node, grouped=True)


def _same_form(part: Layer, one: Layer) -> bool:
    return part.params.kernel.shape == one.params.kernel.shape and part.spec.transposed == one.spec.transposed


def _find_concat(conv: Conv) -> tuple[str, onnx.NodeProto] | None:
    """Return the Concat of channels that reads the node's output, after elementwise nodes, and the tensor it reads."""
    name, axes = epilogue_of(conv).end
    for _ in range(_MAX_NODES):
        consumers = conv.scope.consumers.get(name, [])
        if len(consumers) != 1:
            return None
        (node,) = consumers
        if node.op_type == "Concat":
            axis = attributes_of(node).get("axis", len(axes))
            return (name, node) if -len(axes) <= axis < len(axes) and axes[axis] == 1 else None
        if node.op_type not in _ELEMENTWISE or node.input[0] != name:
            return None
        name = node.output[0]
    return None


def _find_root(conv: Conv) -> str | None:
    """Return the tensor of which the node reads a part; None if it reads a whole tensor."""
    name = conv.data
    for _ in range(_MAX_NODES):
        node = conv.scope.producer(name)
        if node is None or not node.input:
            return None
        name = str(node.input[0])
        if node.op_type in _CUTS:
            return name
        if node.op_type not in _BEFORE:
            return None
    return None
