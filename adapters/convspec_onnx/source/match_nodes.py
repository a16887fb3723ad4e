"""Match each node of a graph with the source layer that it was made from, and compare their weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from convspec.models import Difference, Layer, common_rank, pairs, split_layers, weight_differences
from convspec_onnx.graph import Conv, find_products
from convspec_onnx.loading import DetachedModel
from convspec_onnx.source.epilogue import layer_of
from convspec_onnx.source.run_source import SourceRun
from convspec_onnx.source.split_convolutions import Split, find_splits

MISPLACED = "part-misplaced"


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
        for mine, right in pairs(ours, theirs):
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
            self.layers[mine.path], self.differences[mine.path] = right, compare_weights(mine, right, self._others)
            return True
        cut = split_layers.pieces(right, split.sizes, grouped=split.grouped)
        if cut is None:
            return False
        parts = split.parts
        places = split_layers.filled(split_layers.placed(parts, cut))
        named = [replace(one, path=f"{one.path}, {one.piece}") for one in cut]
        for place, (part, number) in enumerate(zip(parts, places, strict=True)):
            piece = cut[number]
            others = [*self._others, *(one for one in named if one.piece != piece.piece)]
            misplaced = [] if number == place else [_misplaced(split, place, number)]
            self.layers[part.path] = piece
            self.differences[part.path] = [*compare_weights(part, piece, others), *misplaced]
        return True

    def _match_repeated(self, ours: Sequence[Layer], theirs: Sequence[Layer]) -> None:
        """Match nodes that share weights with one source layer, or layers that share weights with one node."""
        for mine in ours:
            if mine.path in self.layers or mine.linear:
                continue
            for right in theirs:
                same = right.params.kernel.shape == mine.params.kernel.shape
                if same and not compare_weights(mine, right, self._others) and self._match(mine, right):
                    break
        paths = {layer.path for layer in self.layers.values()}
        self.missing = [layer for layer in self.missing if layer.path not in paths]

    def match_late(self, mine: Layer) -> None:
        """Match a node with weights that the graph computed, and that were unknown before it ran."""
        right = {a and a.path: b for a, b in pairs([mine], self.missing)}.get(mine.path)
        if right is not None:
            self.missing.remove(right)
            self.layers[mine.path], self.differences[mine.path] = right, compare_weights(mine, right, [])


def compare_weights(mine: Layer, theirs: Layer, others: Iterable[Layer]) -> list[Difference]:
    """Return the differences of the weights; other differences are found when the node runs."""
    form = common_rank.shared(mine, theirs)
    if form is None or form.ours.params.kernel.shape != form.theirs.params.kernel.shape:
        return weight_differences.differences(mine, theirs)
    return weight_differences.weights(form.ours, form.theirs, [other for other in others if other is not theirs])


def _misplaced(split: Split, place: int, number: int) -> Difference:
    join = split.concat.name or split.concat.output[0]
    title = f"{join!r} has part {number + 1} of the source's layer at position {place + 1}"
    return Difference(MISPLACED, title, fix=f"give {join!r} its inputs in the order of the source's channels")
