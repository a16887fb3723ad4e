"""A graph against its source: which layer each node was made from, and the first node that departs from its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from convspec import ConvParams, diagnosis
from convspec.contract import LayerRequest
from convspec.errors import ConvspecError
from convspec.models import Difference, Layer, common_rank, field_differences, layer_differences
from convspec.reference import judge, products
from convspec_onnx import ADAPTER
from convspec_onnx.graph.convolutions import as_float
from convspec_onnx.loading.inline_functions import uses
from convspec_onnx.source import run_source
from convspec_onnx.source.match_nodes import MISPLACED, Assignment
from convspec_onnx.source.run_source import Shown, layer_of
from convspec_onnx.verify import judge as judging
from convspec_onnx.verify.open_model import described, open_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec import ConvSpec
    from convspec.models.comparison.common_rank import AlignedSpecs, CommonRank
    from convspec.models.matching.split_layers import LayerPart
    from convspec_onnx.graph.convolutions import Conv
    from convspec_onnx.loading.large_weights import Lean
    from convspec_onnx.source.run_source import Ask

    Arrays = dict[str, NDArray[Any]]
    Say = Callable[[dict[str, Any]], None]

_SECONDS = 3.0  # for the search among pairs of mistakes
_PLACES = ("padding-differs", "output-padding-differs")


class Origin(Protocol):
    """Where a source shows what it does."""

    def show(self, title: str, feeds: Mapping[str, NDArray[Any]]) -> Shown: ...


@dataclass
class Source:
    """What the graph was made from, its convolutions matched with the graph's.

    Attributes:
        matched: the layer of the source that each node was made from, by the node's path.
        found: in what each node differs from it.
        departed: the nodes whose numbers are other than the source's, or that read other numbers.
    """

    model: Lean
    convs: list[Conv]
    say: Say
    origin: Origin
    shown: Shown | None = None
    matched: dict[str, Layer] = field(default_factory=dict)
    found: dict[str, list[Difference]] = field(default_factory=dict)
    made: Assignment = field(default_factory=Assignment)
    departed: set[str] = field(default_factory=set)
    used: set[tuple[Path, LayerPart | None]] = field(default_factory=set)

    @classmethod
    def load(
        cls, request: Mapping[str, Any], model: Lean, convs: list[Conv], say: Say, ask: Ask | None = None
    ) -> Source | None:
        """The source that the request names; None where it names none."""
        folder = Path(request.get("folder") or ".")
        if path := request.get("against"):
            theirs, their_convs, _ = open_model(path, request.get("memory"), limited=request.get("limited", False))
            return cls(model, convs, say, run_source.Graph(theirs, their_convs, folder, request.get("source_inputs")))
        if ask is not None and request.get("source"):
            return cls(model, convs, say, run_source.Asked(ask, model.graph, folder))
        return None

    def begin(self, title: str, feeds: Mapping[str, NDArray[Any]]) -> None:
        """Run the source on the inputs that the graph will be run on; the first time the layers are matched."""
        first = self.shown is None
        self.shown = self.origin.show(title, feeds)
        self.used.clear()
        if self.shown.problem:
            self.say({"broken": f"the source: {self.shown.problem}", "level": "", "inputs": title})
        if first:
            self._match(self.shown)

    def _match(self, shown: Shown) -> None:
        self.made = Assignment.of(self.model, self.convs, shown)
        self.matched, self.found = self.made.matched, self.made.found
        self._add(self.made.extra)

    def _add(self, extra: Sequence[Conv]) -> None:
        """Take in the products of matrices that the source has convolutions for, at their places in the graph."""
        order = {id(node): place for place, node in enumerate(self.model.graph.node)}
        names = {node.name: place for place, node in enumerate(self.model.graph.node)}
        place = {id(c): names[c.owners[0][0]] if c.owners else order.get(id(c.node), 0) for c in (*self.convs, *extra)}
        self.convs += extra
        self.convs.sort(key=lambda conv: place[id(conv)])
        for number, conv in enumerate(self.convs):
            if conv.rows:
                after = next((c.path for c in self.convs[number + 1 :] if not c.rows), None)
                self.say({"convs": [described(conv)], "before": after})

    # -- one node ---

    def look(self, conv: Conv, arrays: Arrays) -> None:
        """Hold one node's numbers against its source's layer, computed from what the node really read."""
        mine = layer_of(conv)
        if mine is None or conv.path in self.departed:
            return
        if conv.path not in self.matched:
            self.made.late(mine)
        theirs = self.matched.get(conv.path)
        if theirs is None:
            return
        form = common_rank.to_common_rank(mine, theirs)
        if form is None:
            self._depart(conv, layer_differences(mine, theirs))
            return
        x, y = (form.reshape_ours(as_float(arrays[name])) for name in "xy")
        settled = self._settled(conv, form, x)
        differing = self._fields(conv, form, settled, x)
        weights = self.found[conv.path]
        wrong = [d for d in (*differing, *weights) if d.fatal]
        if differing and not wrong and not _same_numbers(form, settled.theirs, x, y, str(arrays["y"].dtype)):
            wrong = differing
        if wrong:
            self._depart(conv, differing)
            if any(d.id != MISPLACED for d in wrong):  # its own numbers are right
                self._explain(conv, form, settled.theirs, x, y)
        else:
            self._remark(conv, differing)
        if settled.input_difference and conv.path not in self.departed and not self._upstream(conv):
            fix = "look at what stands between this node and the convolutions before it"
            self._depart(conv, [Difference("input-differs", f"before this node, {settled.input_difference}", fix=fix)])

    def _settled(self, conv: Conv, form: CommonRank, x: NDArray[Any]) -> AlignedSpecs:
        """Both specs for this input; of several calls of the source's layer the one that fits."""
        piece, known = form.theirs.part, self.shown.inputs.get(form.theirs.path, []) if self.shown else []
        files = [(file, piece) for file in known if (file, piece) not in self.used]
        read = slice(piece.start, piece.end) if piece else slice(None)
        stored = [form.reshape_theirs(np.load(file, mmap_mode="r")[:, read]) for file, _ in files]
        if conv.owners and len(stored) > 1 and sum(len(s) for s in stored) == len(x):
            return common_rank.align_specs(form, x, np.concatenate(stored))
        tries = []
        for file, source in zip(files, stored, strict=True):
            tries.append(common_rank.align_specs(form, x, source))
            if not tries[-1].input_difference:
                self.used.add(file)
                return tries[-1]
        if tries:
            self.used.add(files[0])
        return tries[0] if tries else common_rank.align_specs(form, x, None)

    def _fields(self, conv: Conv, form: CommonRank, settled: AlignedSpecs, x: NDArray[Any]) -> list[Difference]:
        """In what the specs differ on this input; a crop behind a transposed node may stand for its pads."""
        theirs = settled.theirs or form.theirs.padded_spec
        found = field_differences(settled.ours if settled.theirs else form.ours.padded_spec, theirs)
        if found and form.ours.spec.transposed and {d.id for d in found} <= set(_PLACES):
            try:
                mine, right = common_rank.output_window(form.ours.spec, x), common_rank.output_window(theirs, x)
            except ConvspecError:
                return found
            if right in (mine, run_source.behind(conv).cropped(mine)):
                return []
        return found

    def _depart(self, conv: Conv, found: Sequence[Difference]) -> None:
        self.departed.add(conv.path)
        self._remark(conv, found)

    def _remark(self, conv: Conv, found: Sequence[Difference]) -> None:
        known = {d.id for d in self.found[conv.path]}
        self.found[conv.path] += [d for d in found if d.id not in known]

    def _explain(self, conv: Conv, form: CommonRank, spec: ConvSpec | None, x: NDArray[Any], y: NDArray[Any]) -> None:
        """Ask the diagnosis for the mistake's name; it works from numbers, so it can say more than the fields."""
        weights = any(d.id.startswith(("kernel", "bias", "batch")) for d in self.found[conv.path])
        if spec is None or (weights and form.theirs.norm is not None):
            return
        params = form.theirs.params if weights else form.ours.params
        right = replace(spec, bias=params.bias is not None)
        try:
            said = diagnosis.diagnose(right, params, x, y, seconds=_SECONDS)
        except (ConvspecError, ValueError, MemoryError) as error:
            self.say({"path": conv.path, "undiagnosed": str(error)})
            return
        self._remark(conv, [Difference(f.id, f"{f.title}: {f.what}", fix=f.fix) for f in list(said)[:2]])

    def _upstream(self, conv: Conv) -> bool:
        """Whether a node that has departed already explains what this one reads."""
        graph, needed = conv.scope.proto, set(uses(conv.node))
        if conv.owners and self.departed:
            return True
        paths = {id(c.node): c.path for c in self.convs}
        for node in reversed(graph.node):
            if needed & set(node.output):
                if paths.get(id(node)) in self.departed or any(p.startswith(f"{node.name}/") for p in self.departed):
                    return True
                needed |= uses(node)
        return False

    # -- the whole ---

    def end(self, outputs: Sequence[NDArray[Any] | None]) -> None:
        """Hold the results of both together, where no convolution departs."""
        if self.departed or self.shown is None or self.shown.problem or not self.shown.outputs:
            return
        if len(outputs) != len(self.shown.outputs):
            title = f"the graph has {len(outputs)} outputs, the source {len(self.shown.outputs)}: they are not compared"
            self.say({"model": [{"id": "outputs", "title": title, "level": "info"}]})
            return
        for number, (mine, theirs) in enumerate(zip(outputs, self.shown.outputs, strict=True)):
            if mine is None or mine.dtype.kind != "f":
                continue
            moved = run_source.agree_in_layout(mine, theirs)
            apart = common_rank.compare_tensors(*map(np.atleast_1d, (mine, theirs if moved is None else moved)))
            if apart:
                title = f"behind the last convolution, output {number}: {apart}"
                self.say({"model": [{"id": "output-differs", "title": title, "level": "error"}]})
                return

    def conclude(self) -> None:
        """Say of every node what it was matched with, and in what it differs."""
        for conv in self.convs:
            theirs = self.matched.get(conv.path)
            found = self.found.get(conv.path, [])
            title = "the source shows no layer that this node was made from"
            told = [] if theirs else [{"id": "unmatched", "title": title, "level": "warning"}]
            if theirs is not None and theirs.part:
                title = f"this node is {theirs.part} of {theirs.path!r} in the source"
                told = [{"id": "part-of-layer", "title": title, "level": "info"}]
            fatal = conv.path in self.departed or any(d.fatal for d in found)
            self.say({
                "path": conv.path, "matched": None if theirs is None else theirs.path, "diverges": fatal,
                "findings": [d.to_dict() for d in found] if fatal else [],
                "notes": [{**d.to_dict(), "level": "info"} for d in found if not fatal] + told,
            })  # fmt: skip
        self.say({"missing": list(dict.fromkeys(layer.path for layer in self.made.missing))})


def _same_numbers(form: CommonRank, spec: ConvSpec | None, x: NDArray[Any], y: NDArray[Any], dtype: str) -> bool:
    """Whether the source's layer gives these numbers in spite of fields that are written differently."""
    params = form.ours.params
    if spec is None:
        return False
    try:
        right = replace(spec, bias=params.bias is not None)
        expected, size, ignore = judging.expectation(right, ConvParams(params.kernel, params.bias), x)
        precision = ADAPTER.compute_precision(right, LayerRequest(dtype=dtype))
        found = judge(y, expected, size, dtype=dtype, data="captured", products=products(right),
                      arithmetic=precision, ignore=ignore)  # fmt: skip
    except ConvspecError:
        return False
    return found.verdict == "agree"
