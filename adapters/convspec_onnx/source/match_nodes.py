"""Which layer of its source each node of a graph was made from, and in what their weights differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from convspec.models import (
    Difference,
    Layer,
    common_rank,
    layer_differences,
    pair_layers,
    split_layers,
    weight_differences,
)
from convspec_onnx.graph import matmul_convolutions
from convspec_onnx.graph.convolutions import Scope
from convspec_onnx.source.run_source import layer_of
from convspec_onnx.source.split_convolutions import Split, splits

if TYPE_CHECKING:
    from convspec_onnx.graph.convolutions import Conv
    from convspec_onnx.loading.large_weights import Lean
    from convspec_onnx.source.run_source import Shown

MISPLACED = "part-misplaced"


@dataclass
class Assignment:
    """The convolutions of a graph, assigned to those of its source.

    Attributes:
        matched: the layer of the source that each node was made from, by the node's path; of a node that is a part of
            one, that part.
        found: in what each node differs from it.
        missing: layers of the source that no node was made from.
        extra: products of matrices that the source has convolutions for.
    """

    matched: dict[str, Layer] = field(default_factory=dict)
    found: dict[str, list[Difference]] = field(default_factory=dict)
    missing: list[Layer] = field(default_factory=list)
    extra: list[Conv] = field(default_factory=list)
    _others: list[Layer] = field(default_factory=list)
    _splits: dict[int, Split] = field(default_factory=dict)  # by the layer that the parts are together

    @classmethod
    def of(cls, model: Lean, convs: Sequence[Conv], shown: Shown) -> Assignment:
        """All nodes, assigned by what the source shows."""
        theirs = shown.each
        ran = any(shown.inputs.values())
        sizes = {(one.spec.in_channels, one.spec.out_channels) for one in theirs if one.pointwise and not one.linear}
        extra = list(matmul_convolutions.products(Scope(model.graph, weights=model.weights), sizes)) if sizes else []
        made = cls(_others=list({id(layer): layer for layer in theirs}.values()))
        ours = list(made._layers([*convs, *extra]))
        for mine, right in pair_layers(ours, theirs):
            if mine is None and right is not None:
                made.missing += [right] if not ran or shown.inputs.get(right.path) else []
            elif mine is not None and right is not None and not made._take(mine, right):
                made.missing.append(right)
        made._again(ours, theirs)
        made.extra = [conv for conv in extra if conv.path in made.matched]
        return made

    def _layers(self, convs: Sequence[Conv]) -> Iterator[Layer]:
        """The nodes as layers; those that are parts of one as that one, in the place of its first part."""
        inside: dict[str, Layer] = {}
        for split, whole in splits(convs, self._others):
            self._splits[id(whole)] = split
            inside |= {conv.path: whole for conv in split.convs}
        given = set()
        for conv in convs:
            layer = inside.get(conv.path) or layer_of(conv)
            if layer is not None and id(layer) not in given:
                given.add(id(layer))
                yield layer

    def _take(self, mine: Layer, right: Layer) -> bool:
        """Assign one of our layers, or all parts of it; says whether they can be parts of the other one."""
        if (split := self._splits.get(id(mine))) is None:
            self.matched[mine.path], self.found[mine.path] = right, static(mine, right, self._others)
            return True
        cut = split_layers.split(right, split.sizes, grouped=split.grouped)
        if cut is None:
            return False
        parts = [layer for layer in map(layer_of, split.convs) if layer is not None]
        places = split_layers.assign_rest(split_layers.match_parts(parts, cut))
        named = [replace(one, path=f"{one.path}, {one.part}") for one in cut]
        for place, (part, number) in enumerate(zip(parts, places, strict=True)):
            piece = cut[number]
            others = [*self._others, *(one for one in named if one.part != piece.part)]
            wrong = [] if number == place else [_misplaced(split, place, number)]
            self.matched[part.path] = piece
            self.found[part.path] = [*static(part, piece, others), *wrong]
        return True

    def _again(self, ours: Sequence[Layer], theirs: Sequence[Layer]) -> None:
        """Layers that are called once where the graph has several nodes with their weights, or the other way round."""
        for mine in ours:
            if mine.path in self.matched or mine.linear:
                continue
            for right in theirs:
                same = right.params.kernel.shape == mine.params.kernel.shape
                if same and not static(mine, right, self._others) and self._take(mine, right):
                    break
        paths = {layer.path for layer in self.matched.values()}
        self.missing = [layer for layer in self.missing if layer.path not in paths]

    def late(self, mine: Layer) -> None:
        """Match a node whose weights were computed by the graph, and so were not known before."""
        right = {a and a.path: b for a, b in pair_layers([mine], self.missing)}.get(mine.path)
        if right is not None:
            self.missing.remove(right)
            self.matched[mine.path], self.found[mine.path] = right, static(mine, right, [])


def static(mine: Layer, theirs: Layer, others: Iterable[Layer]) -> list[Difference]:
    """In what the weights differ; that there are no such weights is said where the node is looked at."""
    form = common_rank.to_common_rank(mine, theirs)
    if form is None or form.ours.params.kernel.shape != form.theirs.params.kernel.shape:
        return layer_differences(mine, theirs)
    return weight_differences(form.ours, form.theirs, [other for other in others if other is not theirs])


def _misplaced(split: Split, place: int, number: int) -> Difference:
    join = split.concat.name or split.concat.output[0]
    title = f"{join!r} puts part {number + 1} of the source's layer in place {place + 1}"
    return Difference(MISPLACED, title, fix=f"give {join!r} its inputs in the order of the source's channels")
