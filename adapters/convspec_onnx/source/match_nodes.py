"""Match each node of a graph with the source layer that it was made from, and compare their weights.

What follows a convolution may belong to its layer: sums and products by channel, moves of axes, crops. A layer may be
split by its channels into several convolutions: Split, one per part, Concat.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx

from convspec.models import BatchNorm, Difference, Layer, SourceRun, common_rank, pair_layers, split_layers
from convspec_onnx.graph import Conv, Scope, attributes_of, epsilon_of, find_products, read_pad
from convspec_onnx.loading import Array, DetachedModel
from convspec_onnx.source.quantized import read_quantized, rescaled_output

Window = tuple[tuple[int, int], ...]
Axes = list[int | None]  # the canonical axis that each axis of a tensor is; None for an axis that is none

MISPLACED = "part-misplaced"
_CUTS = ("Split", "Slice", "Gather")
_BEFORE = ("Identity", "Cast", "Transpose", "Pad", "Squeeze", "Unsqueeze", "Reshape")
_ELEMENTWISE = ("Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Slice",
                "Pad")  # fmt: skip
_SUMS = ("Add", "Sub", "Mul", "Div")
_EPILOGUE = 12  # nodes at most
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


@dataclass
class Matches:
    """The convolutions of a graph, matched with those of its source.

    Attributes:
        layers: the source layer, or the part of one, that each node was made from, by the node's path.
        differences: the differences of each node from it.
        missing: source layers that no node was made from.
        products: matrix products that the source has convolutions for.
    """

    layers: dict[str, Layer] = field(default_factory=dict)
    differences: dict[str, list[Difference]] = field(default_factory=dict)
    missing: list[Layer] = field(default_factory=list)
    products: list[Conv] = field(default_factory=list)
    _others: list[Layer] = field(default_factory=list)
    _splits: dict[int, Split] = field(default_factory=dict)  # by the layer that the parts are together

    @classmethod
    def of(cls, model: DetachedModel, convs: Sequence[Conv], source: SourceRun) -> Matches:
        """Match all nodes with the layers of one run of the source."""
        theirs = source.called_layers
        ran = any(source.inputs.values())
        sizes = {(one.spec.in_channels, one.spec.out_channels) for one in theirs if one.pointwise and not one.linear}
        products = list(find_products(model, sizes)) if sizes else []
        matches = cls(_others=list({id(layer): layer for layer in theirs}.values()))
        ours = list(matches._join_parts([*convs, *products]))
        for mine, right in pair_layers(ours, theirs):
            if mine is None and right is not None:
                matches.missing += [right] if not ran or source.inputs.get(right.path) else []
            elif mine is not None and right is not None and not matches._match(mine, right):
                matches.missing.append(right)
        matches._match_repeated(ours, theirs)
        matches.products = [conv for conv in products if conv.path in matches.layers]
        return matches

    def _join_parts(self, convs: Sequence[Conv]) -> Iterator[Layer]:
        """Yield the nodes as layers; the parts of a split layer as this layer, at its first part."""
        inside: dict[str, Layer] = {}
        for split, whole in find_splits(convs, self._others):
            self._splits[id(whole)] = split
            inside |= {conv.path: whole for conv in split.convs}
        given = set()
        for conv in convs:
            layer = inside.get(conv.path) or layer_of(conv)
            if layer is not None and id(layer) not in given:
                given.add(id(layer))
                yield layer

    def _match(self, mine: Layer, right: Layer) -> bool:
        """Match a layer, or all its parts; return False if its parts cannot be parts of the source's layer."""
        if (split := self._splits.get(id(mine))) is None:
            self.layers[mine.path] = right
            self.differences[mine.path] = common_rank.compare_weights(mine, right, self._others)
            return True
        cut = split_layers.split(right, split.sizes, grouped=split.grouped)
        if cut is None:
            return False
        parts = split.parts
        places = split_layers.assign_rest(split_layers.match_parts(parts, cut))
        named = [replace(one, path=f"{one.path}, {one.part}") for one in cut]
        for place, (part, number) in enumerate(zip(parts, places, strict=True)):
            piece = cut[number]
            others = [*self._others, *(one for one in named if one.part != piece.part)]
            misplaced = [] if number == place else [_misplaced(split, place, number)]
            self.layers[part.path] = piece
            self.differences[part.path] = [*common_rank.compare_weights(part, piece, others), *misplaced]
        return True

    def _match_repeated(self, ours: Sequence[Layer], theirs: Sequence[Layer]) -> None:
        """Match nodes that share weights with one source layer, or layers that share weights with one node."""
        for mine in ours:
            if mine.path in self.layers or mine.linear:
                continue
            for right in theirs:
                same = right.params.kernel.shape == mine.params.kernel.shape
                if same and not common_rank.compare_weights(mine, right, self._others) and self._match(mine, right):
                    break
        paths = {layer.path for layer in self.layers.values()}
        self.missing = [layer for layer in self.missing if layer.path not in paths]

    def match_late(self, mine: Layer) -> None:
        """Match a node with weights that the graph computed, and that were unknown before it ran."""
        right = {a and a.path: b for a, b in pair_layers([mine], self.missing)}.get(mine.path)
        if right is not None:
            self.missing.remove(right)
            self.layers[mine.path], self.differences[mine.path] = right, common_rank.compare_weights(mine, right, [])


def _misplaced(split: Split, place: int, number: int) -> Difference:
    join = split.concat.name or split.concat.output[0]
    title = f"{join!r} has part {number + 1} of the source's layer at position {place + 1}"
    return Difference(MISPLACED, title, fix=f"give {join!r} its inputs in the order of the source's channels")


# -- split layers ---


def find_splits(convs: Sequence[Conv], theirs: Sequence[Layer]) -> Iterator[tuple[Split, Layer]]:
    """Yield the nodes that together are one layer of the source, and that layer.

    A source may itself have several convolutions side by side. The kernels decide: at least as many must equal parts
    of one layer as equal whole layers.
    """
    for split in _candidates(convs):
        parts = split.parts
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
        node = conv.scope.only_reader(name)
        if node is None:
            return None
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


# -- what follows a convolution ---


def layer_of(conv: Conv) -> Layer | None:
    """Return a node as a layer, with the normalisation directly after it and the sums and products that follow."""
    if conv.spec is None or conv.params is None:
        return None
    epilogue = epilogue_of(conv)
    pads = ((0, 0),) * conv.spec.ndim if conv.rows else conv.pads_before()
    params = quantized.params if (quantized := read_quantized(conv)) else conv.params
    return Layer(conv.path, conv.spec, params, epilogue.norm, pads, tuple(epilogue.sums), conv.weight,
                 conv.rows is not None)  # fmt: skip


def epilogue_of(conv: Conv) -> Epilogue:
    """Return what follows a node that has its spec."""
    assert conv.spec is not None
    output = rescaled_output(conv)
    axes: Axes = [0, 1, *range(2, 2 + conv.spec.ndim)]
    if conv.rows:
        axes = [None] * len(conv.scope.shape(output) or ())
        if axes:
            axes[conv.rows[2]] = 1
    epilogue = Epilogue(conv.scope, conv.spec.out_channels, conv.joined, bare=conv.spec.transposed and not conv.bias)
    if axes and not conv.attributes.get("activation"):
        epilogue.follow(output, axes)
    return epilogue


@dataclass
class Epilogue:
    """The nodes after a convolution, as far as each tensor has one consumer.

    Attributes:
        norm: a BatchNormalization directly after the convolution.
        sums: all further products and sums by channel, in order.
        crops: ``(operator, spatial axis, start, end)`` of each Slice with a step of 1, and of each Pad with zeros.
        joined: for a part of a split layer: the tensor that concatenates the parts' channels, the index of the first
            channel of this part, and the number of all channels.
        end: the last tensor, and its axes.
        bare: whether the tensor is the bare sum of a transposed convolution's products, which zeros may extend.
    """

    scope: Scope
    channels: int
    joined: tuple[str, int, int] | None = None
    bare: bool = True
    norm: BatchNorm | None = None
    sums: list[BatchNorm] = field(default_factory=list)
    crops: list[tuple[str, int, int, int]] = field(default_factory=list)
    end: tuple[str, Axes] = ("", [])

    def __post_init__(self) -> None:
        self.own, self.total = slice(None), self.channels  # its channels among those of the current tensor

    def follow(self, name: str, axes: Axes) -> None:
        """Follow a tensor from node to node."""
        for step in range(_EPILOGUE):
            consumers = [node for node in self.scope.consumers.get(name, ()) if node.op_type != "Shape"]
            if len(consumers) != 1 or not consumers[0].output:
                break
            after = self._axes_after(consumers[0], name, axes, first=step == 0)
            if after is None:
                break
            axes, name = after, consumers[0].output[0]
        self.end = name, axes

    def _axes_after(self, node: onnx.NodeProto, name: str, axes: Axes, *, first: bool) -> Axes | None:
        """Take in a node and return the axes after it; None for a node that ends the epilogue."""
        op, attributes = node.op_type, attributes_of(node)
        if op in ("Identity", "Dropout"):
            return axes
        if op in (*_SUMS, "BatchNormalization"):
            self.bare = False
        if op in _SUMS:
            return axes if self._take_sum(node, name, axes) else None
        if op == "BatchNormalization":
            return axes if self._take_norm(node, attributes, axes, first=first) else None
        if op == "Cast":  # to the type that it has: Keras' export on PyTorch is full of them
            return axes if attributes.get("to") == self.scope.element_type(name) else None
        if op == "Transpose":
            order = attributes.get("perm") or tuple(reversed(range(len(axes))))
            return [axes[i] for i in order] if len(order) == len(axes) else None
        if op in ("Squeeze", "Unsqueeze"):
            given = self._constant(node, 1)
            places = attributes.get("axes") if given is None else [int(n) for n in given]
            return None if places is None else _unit_axes(op, places, axes)
        if op == "Reshape":  # one that keeps the channels last
            shape = self._constant(node, 1)
            if shape is None or not shape.size or axes[-1:] != [1] or int(shape.reshape(-1)[-1]) != self.total:
                return None
            return [*[None] * (shape.size - 1), 1]
        if op == "Concat" and self.joined and self.joined[0] == node.output[0]:
            _, start, self.total = self.joined
            self.own = slice(start, start + self.channels)
            return axes
        if op == "Pad":
            return axes if self._take_pad(node, axes) else None
        return axes if op == "Slice" and self._take_crop(node, axes) else None

    def _constant(self, node: onnx.NodeProto, index: int) -> Array | None:
        return self.scope.constant(node.input[index]) if len(node.input) > index and node.input[index] else None

    def _take_sum(self, node: onnx.NodeProto, name: str, axes: Axes) -> bool:
        index = 1 if node.input[0] == name else 0
        if index == 0 and node.op_type in ("Sub", "Div"):
            return False
        value = self._constant(node, index)
        vector = None if value is None else self._by_channel(value, axes)
        if vector is None:
            return False
        one, zero = np.ones(self.channels), np.zeros(self.channels)
        with np.errstate(divide="ignore"):
            gain = {"Mul": vector, "Div": 1 / vector if node.op_type == "Div" else one}.get(node.op_type, one)
        shift = vector if node.op_type == "Add" else zero
        self.sums.append(BatchNorm(gain, shift, vector if node.op_type == "Sub" else zero, one, 0.0))
        return True

    def _by_channel(self, value: Array, axes: Axes) -> Array | None:
        """Return one number per channel; None for numbers that vary along another axis too."""
        if value.dtype.kind != "f" or value.ndim > len(axes):
            return None
        own_axes = axes[len(axes) - value.ndim :]
        others = {n for n, axis in zip(value.shape, own_axes, strict=True) if axis != 1}
        if others - {1} or value.size not in (1, self.total):
            return None
        return np.broadcast_to(value.astype(np.float64).reshape(-1), (self.total,))[self.own].copy()

    def _take_norm(self, node: onnx.NodeProto, attributes: dict[str, Any], axes: Axes, *, first: bool) -> bool:
        values = [self._constant(node, index) for index in range(1, 5)]
        if axes[1:2] != [1] or any(v is None or v.shape != (self.total,) for v in values):
            return False
        gain, shift, mean, variance = (np.asarray(value)[self.own] for value in values)
        norm = BatchNorm(gain, shift, mean, variance, epsilon_of(attributes))
        if first:
            self.norm = norm
        else:
            self.sums.append(norm)
        return True

    def _take_crop(self, node: onnx.NodeProto, axes: Axes) -> bool:
        starts, ends, places, steps = (self._constant(node, index) for index in range(1, 5))
        if starts is None or ends is None or (steps is not None and set(steps.tolist()) != {1}):
            return False
        indices = range(len(starts)) if places is None else [int(n) for n in places]
        crops = []
        for index, start, end in zip(indices, starts, ends, strict=True):
            axis = axes[index % len(axes)]
            if axis is not None and axis >= 2:
                crops.append(("Slice", axis - 2, int(start), int(end)))
            elif (int(start), int(end) >= 1 << 30) != (0, True):
                return False
        self.crops += crops
        return True

    def _take_pad(self, node: onnx.NodeProto, axes: Axes) -> bool:
        """Take in zeros around an output to which nothing has been added."""
        pad = read_pad(self.scope, node, len(axes))
        if pad is None or pad.mode != "constant" or pad.value or not (self.bare or not any(map(any, pad.pairs))):
            return False
        spatial = [axis is not None and axis >= 2 for axis in axes]
        if any(any(pair) and not inside for pair, inside in zip(pad.pairs, spatial, strict=True)):
            return False
        self.crops += [("Pad", (axis or 0) - 2, *pair) for axis, pair in zip(axes, pad.pairs, strict=True) if any(pair)]
        return True

    def windows(self, window: Window, scatter: Sequence[int]) -> Iterator[Window]:
        """Yield the start and length of the tensor along each axis, before and after each crop.

        ``scatter``: the sizes of all that the kernel reaches: zeros are right outside of it only.
        """
        yield window
        for op, axis, start, end in self.crops:
            begin, size = window[axis]
            if op == "Pad":
                if (start and begin > 0) or (end and begin + size < scatter[axis]):
                    return
                cropped = begin - start, size + start + end
            else:
                low, high, _ = slice(start, end).indices(size)
                cropped = begin + low, max(high - low, 0)
            window = (*window[:axis], cropped, *window[axis + 1 :])
            yield window


def _unit_axes(op: str, places: Sequence[int], axes: Axes) -> Axes:
    """Return the axes after a Squeeze or Unsqueeze."""
    if op == "Squeeze":
        removed = {n % len(axes) for n in places}
        return [axis for place, axis in enumerate(axes) if place not in removed]
    rank, after = len(axes) + len(places), list(axes)
    for place in sorted(n % rank for n in places):
        after.insert(place, None)
    return after
