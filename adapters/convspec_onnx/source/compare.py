"""Compare a graph with its source: the layer that each node was made from, and the first node that diverges.

The source is another graph, or a model that another process holds; it runs on each set of inputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from convspec import ConvParams, ConvSpec, diagnosis
from convspec.errors import ConvspecError
from convspec.models import (
    Difference,
    SourceRun,
    check_layer,
    common_rank,
    field_differences,
    layer_differences,
    match_layout,
    rounding,
)
from convspec.models.comparison.common_rank import AlignedSpecs, CommonRank
from convspec_onnx import ADAPTER
from convspec_onnx.graph import Conv, Scope, as_float
from convspec_onnx.loading import Array, Arrays, DetachedModel, tensors_read
from convspec_onnx.source.factors import Factors, find_factors, output_stages
from convspec_onnx.source.match_nodes import MISPLACED, Matches, epilogue_of, layer_of
from convspec_onnx.source.quantized import (
    dequantize,
    grid_of,
    has_norm_later,
    mismatch,
    producer_of,
    read_quantized,
)
from convspec_onnx.source.repair import Edit, plan_edit, write_repaired
from convspec_onnx.source.run_source import Ask, GraphSource, RemoteSource, match_results
from convspec_onnx.verify import Report, open_model

_SECONDS = 3.0  # for the search among pairs of mistakes
_EXPLAINABLE = {"kernel-differs", "kernel-sign", "bias-differs", "bias-lost", "bias-added", "batch-norm-lost"}
_MISMATCH = "scale-mismatch"
_CROPS = ("padding-differs", "output-padding-differs")


@dataclass
class SourceComparison:
    """A graph and its source, their convolutions matched.

    Attributes:
        source_run: the source's run on the current inputs.
        diverged: paths of the nodes that compute or read other numbers than the source.
        explained: the factors by which a node is right although its weights or its input differ, by its path.
        pending: paths of the explained nodes that are right only if the results agree.
        quantized: the quantised convolutions, by their paths.
        noise: the signal-to-noise ratio of each output in a quantised graph, in dB, of the worst inputs.
        repairing: whether edits are wanted.
        edits: what would repair a node, by its path.
    """

    model: DetachedModel
    convs: list[Conv]
    report: Report
    source: GraphSource | RemoteSource
    source_run: SourceRun | None = None
    matches: Matches = field(default_factory=Matches)
    diverged: set[str] = field(default_factory=set)
    explained: dict[str, Factors] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)
    quantized: dict[str, rounding.Quantized] = field(default_factory=dict)
    noise: dict[str, float] = field(default_factory=dict)
    repairing: bool = False
    edits: dict[str, Edit] = field(default_factory=dict)

    @classmethod
    def load(
        cls, request: Mapping[str, Any], model: DetachedModel, convs: list[Conv], report: Report, ask: Ask | None = None
    ) -> SourceComparison | None:
        """Return the comparison with the source that the request names, or None."""
        folder = Path(request.get("folder") or ".")
        if path := request.get("against"):
            theirs, their_convs, _ = open_model(path, request.get("memory"), limited=request.get("limited", False))
            graph = GraphSource(theirs, their_convs, folder, request.get("source_inputs"))
            return cls(model, convs, report, graph, repairing=bool(request.get("repair")))
        if ask is not None and request.get("source"):
            remote = RemoteSource(ask, model.graph, folder)
            return cls(model, convs, report, remote, repairing=bool(request.get("repair")))
        return None

    def run_source(self, title: str, feeds: Mapping[str, Array]) -> None:
        """Run the source on the graph's inputs; match the layers the first time."""
        first = self.source_run is None
        self.source_run = self.source.run(title, feeds)
        if self.source_run.problem:
            self.report({"broken": f"the source: {self.source_run.problem}", "level": "", "inputs": title})
        if first:
            self.quantized = {conv.path: read for conv in self.convs if (read := read_quantized(conv))}
            self.matches = Matches.of(self.model, self.convs, self.source_run)
            self.matches.differences |= {path: [] for path in self.quantized}
            self._insert(self.matches.products)

    def _insert(self, extra: Sequence[Conv]) -> None:
        """Insert matrix products that the source has convolutions for, at their positions in the graph."""
        names = {node.name: index for index, node in enumerate(self.model.graph.node)}
        order = {id(node): index for index, node in enumerate(self.model.graph.node)}
        self.convs += extra
        self.convs.sort(key=lambda conv: names[conv.top_node] if conv.owners else order.get(id(conv.node), 0))
        for number, conv in enumerate(self.convs):
            if conv.rows:
                after = next((c.path for c in self.convs[number + 1 :] if not c.rows), None)
                self.report({"convs": [conv.to_dict()], "before": after})

    # -- one node ---

    def compare_node(self, conv: Conv, arrays: Arrays) -> None:
        """Compare a node's numbers with its source layer's, computed from what the node read."""
        mine = layer_of(conv)
        if mine is None or conv.path in self.diverged:
            return
        if conv.path not in self.matches.layers:
            self.matches.match_late(mine)
        theirs = self.matches.layers.get(conv.path)
        if theirs is None:
            return
        form = common_rank.to_common_rank(mine, theirs)
        if form is None:
            self._diverge(conv, layer_differences(mine, theirs))
            return
        if self.quantized:
            self._compare_quantized(conv, form, arrays)
            return
        x, y = (form.reshape_ours(as_float(arrays[name])) for name in "xy")
        settled, read = self._settle(conv, form, x)
        fields = self._compare_fields(conv, form, settled, x)
        fatal = [d for d in (*fields, *self.matches.differences[conv.path]) if d.fatal]
        if fatal:
            self._plan_edit(conv, form, settled, x, fields)
        open_to_factors = not fields and {d.id for d in fatal} <= _EXPLAINABLE
        if (fatal or settled.input_difference) and open_to_factors and self._explain(conv, form, read, y):
            return
        if fields and not fatal and not _computes(settled.theirs, form.ours.params, x, y, str(arrays["y"].dtype)):
            fatal = fields
            self._plan_edit(conv, form, settled, x, fields)
        if fatal:
            self._diverge(conv, fields)
            if any(d.id != MISPLACED for d in fatal):  # a misplaced part computes the right numbers
                self._diagnose(conv, form, settled.theirs, x, y)
        else:
            self._add_differences(conv, fields)
        if settled.input_difference and conv.path not in self.diverged and not self._diverges_upstream(conv):
            fix = "check the operators between this node and the convolutions before it"
            title = f"input of this node: {settled.input_difference}"
            self._diverge(conv, [Difference("input-differs", title, fix=fix)])

    def _compare_quantized(self, conv: Conv, form: CommonRank, arrays: Arrays) -> None:
        """Compare a node of a quantised graph in float: rounding explains half a step, and noise has no bound."""
        node = self.quantized.get(conv.path)
        given = dequantize(node, arrays) if node else (as_float(arrays[name]) for name in "xy")
        x, y = map(form.reshape_ours, given)
        settled, read = self._settle(conv, form, x)
        differences = self._compare_fields(conv, form, settled, x)
        if node is not None:
            differences += rounding.weight_differences(node, form.ours, form.theirs, norm_later=has_norm_later(conv))
            if node.x and (other := mismatch(conv.scope, conv, node.x)):
                own = {"x_scale": np.float32(other[1].scale), "x_zero": other[1].zero.astype(other[1].dtype)}
                fix = "give both the same scale and zero point"
                differences = [Difference(_MISMATCH, other[0], fix=fix, right=own)]
        if read is not None:
            self._measure_noise(conv, form, node, y, read)
        upstream = self._diverges_upstream(conv)
        if (
            read is not None
            and read.shape == x.shape
            and not upstream
            and not any(d.id == _MISMATCH for d in differences)
        ):
            self._compare_activation(conv.data, node.x if node else None, x, read, conv)
        self._add_differences(conv, differences)
        if any(d.fatal for d in self.matches.differences[conv.path]):
            self.diverged.add(conv.path)
            self._plan_edit(conv, form, settled, x)

    def _measure_noise(
        self, conv: Conv, form: CommonRank, node: rounding.Quantized | None, y: Array, read: Array
    ) -> None:
        """Keep the signal-to-noise ratio of a node's output."""
        best = -math.inf
        for mine, _, own, _ in output_stages(form, read, y):
            clipped = node.y.clip(own) if node and node.y and node.integers else own
            best = max(best, rounding.signal_to_noise(mine, clipped))
        if np.isfinite(best):
            self.noise[conv.path] = min(self.noise.get(conv.path, math.inf), best)

    def _compare_activation(
        self, name: str, grid: rounding.Grid | None, x: Array, source: Array, conv: Conv | None
    ) -> None:
        """Name what is wrong with a tensor between the convolutions, at the one that made it or reads it."""
        scope = conv.scope if conv else Scope(self.model.graph, weights=self.model.weights)
        others = [dB for path, dB in self.noise.items() if conv is None or path != conv.path]
        found = rounding.activation_difference(grid, x, source, others)
        if found is None:
            return
        saturates = found.id == rounding.SATURATES
        blamed = (saturates and producer_of(scope, name, self.convs)) or conv
        if blamed is not None and blamed.path in self.matches.differences:
            where = "the output" if saturates else "input of this node:"
            self._diverge(blamed, [replace(found, title=f"{where} {found.title}")])
        else:
            title = f"{name}: {found.title}"
            self.report({"model": [{"id": "output-differs", "title": title, "level": "error"}]})

    def _explain(self, conv: Conv, form: CommonRank, read: Array | None, y: Array) -> bool:
        """Whether factors per channel explain the differences, by themselves or if the results agree."""
        factors = None if read is None else find_factors(form, read, y, conv.attributes.get("activation", ""))
        if factors is None:
            return False
        self.explained[conv.path] = factors
        if not factors.settled:
            self.pending.add(conv.path)
        return True

    def _plan_edit(
        self, conv: Conv, form: CommonRank, settled: AlignedSpecs, x: Array, fields: Sequence[Difference] = ()
    ) -> None:
        """Keep what would repair the node, if that is wanted."""
        if self.repairing and conv.path not in self.edits:
            differences = [*fields, *self.matches.differences[conv.path]]
            if edit := plan_edit(conv, form, settled, x.shape, differences):
                self.edits[conv.path] = edit

    def _settle(self, conv: Conv, form: CommonRank, x: Array) -> tuple[AlignedSpecs, Array | None]:
        return (self.source_run or SourceRun()).settle(form, x, joined=bool(conv.owners))

    def _compare_fields(self, conv: Conv, form: CommonRank, settled: AlignedSpecs, x: Array) -> list[Difference]:
        """Return the differences of the specs on this input; a crop after a transposed node may replace its pads."""
        theirs = settled.theirs or form.theirs.padded_spec
        differences = field_differences(settled.ours if settled.theirs else form.ours.padded_spec, theirs)
        if differences and form.ours.spec.transposed and {d.id for d in differences} <= set(_CROPS):
            assert conv.spec is not None
            whole, axis = (x, None) if form.dropped is None else (np.expand_dims(x, 2 + form.dropped), form.dropped)
            try:
                mine, scatter = common_rank.output_window(conv.spec, whole)
                right, _ = common_rank.output_window(theirs, x)
            except ConvspecError:
                return differences
            windows = epilogue_of(conv).windows(mine, scatter)
            if right in [tuple(one for place, one in enumerate(window) if place != axis) for window in windows]:
                return []
        return differences

    def _diverge(self, conv: Conv, differences: Sequence[Difference]) -> None:
        self.diverged.add(conv.path)
        self._add_differences(conv, differences)

    def _add_differences(self, conv: Conv, differences: Sequence[Difference]) -> None:
        known = {d.id for d in self.matches.differences[conv.path]}
        self.matches.differences[conv.path] += [d for d in differences if d.id not in known]

    def _diagnose(self, conv: Conv, form: CommonRank, spec: ConvSpec | None, x: Array, y: Array) -> None:
        """Add the findings of the diagnosis, which works from numbers and so knows more than the fields."""
        weights = any(d.id.startswith(("kernel", "bias", "batch")) for d in self.matches.differences[conv.path])
        if spec is None or (weights and form.theirs.norm is not None):
            return
        params = form.theirs.params if weights else form.ours.params
        right = replace(spec, bias=params.bias is not None)
        try:
            findings = diagnosis.diagnose(right, params, x, y, seconds=_SECONDS)
        except (ConvspecError, ValueError, MemoryError) as error:
            self.report({"path": conv.path, "undiagnosed": str(error)})
            return
        self._add_differences(conv, [Difference(f.id, f"{f.title}: {f.what}", fix=f.fix) for f in list(findings)[:2]])

    def _diverges_upstream(self, conv: Conv) -> bool:
        """Return whether a node that has diverged already explains what this node reads."""
        graph, needed = conv.scope.proto, tensors_read(conv.node)
        if conv.owners and self.diverged:
            return True
        paths = {id(c.node): c.path for c in self.convs}
        for node in reversed(graph.node):
            if needed & set(node.output):
                known = self.diverged | self.pending
                if paths.get(id(node)) in known or any(p.startswith(f"{node.name}/") for p in known):
                    return True
                needed |= tensors_read(node)
        return False

    # -- the whole ---

    def compare_outputs(self, outputs: Sequence[Array | None]) -> None:
        """Compare the outputs of both models, if no convolution diverges; they decide on the pending nodes."""
        if self.diverged or self.source_run is None or self.source_run.problem or not self.source_run.outputs:
            return
        sources = self.source_run.outputs
        if len(outputs) != len(sources):
            title = f"outputs not compared: the graph has {len(outputs)}, the source {len(sources)}"
            self.report({"model": [{"id": "outputs", "title": title, "level": "info"}]})
            return
        if self.quantized:
            scope = Scope(self.model.graph, weights=self.model.weights)
            for entry, mine, theirs in zip(self.model.graph.output, outputs, sources, strict=True):
                if (
                    mine is not None
                    and mine.dtype.kind == "f"
                    and (right := match_layout(theirs, mine)).shape == mine.shape
                ):
                    grid = grid_of(scope, scope.producer(entry.name), "DequantizeLinear")
                    self._compare_activation(entry.name, grid, mine, right, None)
            return
        order, apart = match_results(outputs, sources)
        if apart and self.pending:
            self._reject_pending()
        elif apart:
            title = f"output {apart[0]}, after the last convolution: {apart[1]}"
            self.report({"model": [{"id": "output-differs", "title": title, "level": "error"}]})
        elif order != sorted(order):
            title = (
                f"permuted: the graph's outputs are the source's outputs {', '.join(map(str, order))}, in this order"
            )
            self.report({"model": [{"id": "outputs-permuted", "title": title, "level": "info"}]})
        self.pending.clear()

    def _reject_pending(self) -> None:
        """Let the nodes diverge that only equal results would have explained."""
        for path in self.pending:
            factors, differences = self.explained.pop(path), self.matches.differences[path]
            if any(d.fatal for d in differences):
                self.diverged.add(path)
                place = 0 if differences[0].id in ("kernel-differs", "kernel-sign") else len(differences)
                differences.insert(place, factors.finding())
        self.pending.clear()

    def repair(self, path: str, out: str) -> None:
        """Write the graph with all edits of nodes that diverge, and report what was changed."""
        edits = {path: edit for path, edit in self.edits.items() if path in self.diverged}
        self.report({"repaired": write_repaired(path, edits, out)})

    def report_matches(self) -> None:
        """Report for every node its source layer and its differences from it, and then the missing layers."""
        self._reject_pending()
        for conv in self.convs:
            theirs = self.matches.layers.get(conv.path)
            differences = self.matches.differences.get(conv.path, [])
            notes = []
            if theirs is None:
                notes = [{"id": "unmatched", "title": "no layer of the source matches this node", "level": "warning"}]
            elif theirs.part:
                title = f"this node is {theirs.part} of {theirs.path!r} in the source"
                notes = [{"id": "part-of-layer", "title": title, "level": "info"}]
            fatal = conv.path in self.diverged or any(d.fatal for d in differences)
            if (factors := self.explained.get(conv.path)) and conv.path not in self.diverged:
                differences, fatal = [factors.note()], False
            self.report({
                "path": conv.path, "matched": None if theirs is None else theirs.path, "diverges": fatal,
                "findings": [d.to_dict() for d in differences] if fatal else [],
                "notes": [{**d.to_dict(), "level": "info"} for d in differences if not fatal] + notes,
                "snr_db": self.noise.get(conv.path),
            })  # fmt: skip
        self.report({"missing": list(dict.fromkeys(layer.path for layer in self.matches.missing))})


def _computes(spec: ConvSpec | None, params: ConvParams, x: Array, y: Array, dtype: str) -> bool:
    """Return whether a layer of these fields computes the same numbers."""
    try:
        right = None if spec is None else replace(spec, bias=params.bias is not None)
        return right is not None and bool(check_layer(right, params, x, y, ADAPTER, dtype).ok)
    except ConvspecError:
        return False
