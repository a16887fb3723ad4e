"""Open a model, run it segment by segment on every run configuration, and judge its convolutions on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from convspec.contract.isolation import limit_memory, out_of_memory
from convspec.errors import ConvspecError, RequestError, ShapeError
from convspec.reference import Verdict
from convspec_onnx.graph import Conv, find_convolutions
from convspec_onnx.loading import Array, Arrays, DetachedModel, infer_shapes, load_model, tensors_read
from convspec_onnx.steps import holds_tensors
from convspec_onnx.verify import runtimes
from convspec_onnx.verify.capture import Segment, captures_of, cut_segments, extract_segment
from convspec_onnx.verify.judge import NOT_RUN, AccuracyClasses, ExpectedCache, node_arrays, replacement, run_node
from convspec_onnx.verify.operators import OperatorJudge
from convspec_onnx.verify.runtimes import EVALUATOR, RunConfig, RunError

Report = Callable[[dict[str, Any]], None]
Observe = Callable[[Conv, Arrays], None]

_SIZES = (17, 11)  # of random even and odd axes, beyond the effective kernel
_MAX_ELEMENTS = 1 << 25
_TO_READ = 512 << 20  # bytes that reading may take beyond the copies of the model
_TO_RUN = 768 << 20
_DATA = (".data", ".bin", ".weights", ".onnx_data")
_COPIES = 6  # of the model that exist at once: file, message, inlined, inferred, serialised, the runtime's


def open_model(path: str, memory: int | None = None, *, limited: bool = False) -> tuple[DetachedModel, list[Conv], str]:
    """Return the model ready to run, its convolutions, and the error of shape inference, or "".

    ``limited``: limit the memory of this process, first to what reading may take, then to what running may.
    """
    size = _bytes_on_disk(Path(path))
    if limited:
        limit_memory(max(_TO_READ, memory or 0) + _COPIES * size)
    model = load_model(path)
    model.proto, problem = infer_shapes(model.proto)
    convs = find_convolutions(model)
    if limited:
        limit_memory((memory or _TO_RUN) + _COPIES * size)
    return model, convs, problem


def _bytes_on_disk(path: Path) -> int:
    """Return the bytes of the model and of the files beside it that may be its external data."""
    try:
        own = path.stat().st_size
        beside = [p for p in path.parent.iterdir() if p.name.startswith(path.name) or p.suffix in _DATA]
        return int(own + sum(p.lstat().st_size for p in beside if p.is_file() and p != path))
    except OSError:
        return 0


@dataclass
class Run:
    """One set of inputs on all run configurations.

    Attributes:
        report: called with every message.
        observe: called with every node that ran on the first configuration, its input ``x`` and output ``y``.
        classes: the accuracy classes that are expected of providers.
        operators: judges all other nodes on the first configuration, where that optimises nothing.
        reached: paths of the nodes with a verdict.
        broken: why the graph could not be run to its end.
    """

    model: DetachedModel
    convs: Sequence[Conv]
    title: str
    configs: Sequence[RunConfig]
    report: Report
    observe: Observe | None = None
    judging: bool = True
    classes: AccuracyClasses = field(default_factory=AccuracyClasses)
    operators: OperatorJudge | None = None
    reached: set[str] = field(default_factory=set)
    values: dict[RunConfig, Arrays] = field(default_factory=dict)
    broken: dict[RunConfig, str] = field(default_factory=dict)

    def execute(self, feeds: Arrays) -> None:
        """Run all segments; what a runtime refuses is reported at the node that it refuses."""
        segments = cut_segments(self.model.graph, self.convs)
        later = [{entry.name for entry in self.model.graph.output}]
        for segment in reversed(segments[1:]):
            scales = (conv.dynamic or () for conv in segment.convs)
            later.insert(0, later[0].union(*map(tensors_read, segment.nodes), *scales))
        self.values = {config: dict(feeds) for config in self.configs}
        for segment, keep in zip(segments, later, strict=True):
            caches = {conv.path: ExpectedCache() for conv in segment.convs}
            for config in self.configs:
                if config not in self.broken:
                    self.report({"begin": [conv.path for conv in segment.convs]})
                    self.run_segment(segment, keep, config, caches)
            for values in self.values.values():
                for name in set(values) - keep:
                    del values[name]

    def run_segment(
        self, segment: Segment, keep: set[str], config: RunConfig, caches: Mapping[str, ExpectedCache]
    ) -> None:
        """Run one segment and judge its convolutions; node by node if it fails."""
        try:
            captured = self.capture(segment, keep, config)
        except RunError as error:
            if len(segment.nodes) <= 1:
                self.handle_failure(segment, config, error)
                return
            singles = segment.single_nodes()
            for number, single in enumerate(singles):
                if config in self.broken:
                    return
                rest = [node for other in singles[number + 1 :] for node in other.nodes]
                self.run_segment(single, keep.union(*map(tensors_read, rest)), config, caches)
            return
        for conv in segment.convs:
            if conv.node.output[0] in captured or conv.owners:
                self.judge(conv, captured, config, caches[conv.path])
        if self.exposes(config):
            self.judge_operators(segment, captured, config)
        self.values[config] |= {name: captured[name] for name in keep & set(captured)}

    def exposes(self, config: RunConfig) -> bool:
        """Whether every tensor is captured, so that every node is judged: without optimisation it changes nothing."""
        return self.operators is not None and config == self.configs[0] and config.level == "off"

    def judge_operators(self, segment: Segment, captured: Arrays, config: RunConfig) -> None:
        """Judge the nodes of a segment that are no convolutions."""
        assert self.operators is not None
        judged = [self.operators.judge(node, captured) for node in segment.nodes if self.operators.judges(node)]
        if judged:
            self.report({"operators": judged, "inputs": self.title, "level": config.level})

    def capture(self, segment: Segment, keep: set[str], config: RunConfig) -> Arrays:
        """Run one segment and return its values; without the captures inside bodies if the runtime refuses these."""
        values = self.values[config]
        convs = list(segment.convs)
        inner = {name for node in segment.nodes if holds_tensors(node) for name in node.output if name}
        wanted = keep | inner if self.exposes(config) else keep
        while True:
            captures = [capture for conv in convs for capture in captures_of(conv)]
            model, names = extract_segment(self.model.proto, segment, values, wanted, captures)
            try:
                return values | runtimes.run(DetachedModel(model, self.model.weights), values, names, config)
            except RunError:
                if wanted is not keep:
                    wanted = keep  # a tensor that cannot be an output
                    continue
                outer = [conv for conv in convs if not conv.owners]
                if len(outer) == len(convs):
                    raise
                convs = outer

    def handle_failure(self, segment: Segment, config: RunConfig, error: RunError) -> None:
        """Report a node that cannot run; the oracle's output replaces that of a convolution."""
        if out_of_memory(str(error)):
            raise MemoryError
        if not segment.nodes:
            self.give_up(config, f"the graph, which has no node, fails: {error}")
            return
        (node,) = segment.nodes
        conv = next((c for c in segment.convs if not c.owners), None)
        if conv is None:
            for inner in segment.convs:
                self.report_verdict(inner, config, Verdict("unsupported", f"not run: {node.name!r} around it failed"))
            self.give_up(config, f"node {node.name!r} ({node.op_type}) fails: {_reason(error, node, config)}")
            return
        self.report_verdict(conv, config, _failure(error, node, config))
        try:
            self.values[config][node.output[0]] = replacement(conv, self.values[config])
        except (ConvspecError, KeyError) as failure:
            self.give_up(config, f"nothing after {conv.path!r} runs, because it fails: {failure}")

    def give_up(self, config: RunConfig, reason: str) -> None:
        """Stop running on this configuration."""
        self.broken[config] = reason
        self.report({"broken": reason, "inputs": self.title})

    def judge(self, conv: Conv, captured: Arrays, config: RunConfig, cache: ExpectedCache) -> None:
        values = captured
        if conv.owners:  # by the names in its own graph
            values = {c.name: captured[c.tag] for c in captures_of(conv) if c.tag in captured}
        judged = self.classes.judge(conv, values, config, cache) if self.judging else None
        verdict, arrays = judged or (None, node_arrays(conv, values))
        if conv.owners and not arrays:
            return  # not captured: it runs alone later
        if config == self.configs[0] and self.observe is not None and arrays:
            grid = zip(("scale", "zero"), conv.dynamic or (), strict=False)
            self.observe(conv, arrays | {key: values[name] for key, name in grid if name in values})
        if verdict is not None:
            self.report_verdict(conv, config, verdict, arrays)

    def report_verdict(self, conv: Conv, config: RunConfig, verdict: Verdict, arrays: Arrays | None = None) -> None:
        self.reached.add(conv.path)
        self.report({
            "path": conv.path, "inputs": self.title, "level": config.level, "provider": config.provider,
            "verdict": verdict.verdict, "reason": verdict.reason, "evidence": verdict.evidence,
            "class": verdict.accuracy_class, "notes": verdict.evidence.get("notes", []),
            "shapes": {name: list(arrays[name].shape) for name in "xy"} if arrays else {},
            "spec": None if conv.spec is None else conv.spec.to_dict(),
        })  # fmt: skip


def _failure(error: RunError, node: onnx.NodeProto, config: RunConfig) -> Verdict:
    return Verdict("unsupported" if error.unsupported else "error", _reason(error, node, config))


def _reason(error: RunError, node: onnx.NodeProto, config: RunConfig) -> str:
    """Return the runtime's message, and what to try if it has no kernel."""
    if not error.unsupported or config.level == EVALUATOR or node.domain not in ("", "ai.onnx"):
        return str(error)
    return f"{error}; onnx's own evaluator has one: --levels evaluator"


def judge_alone(
    model: DetachedModel, conv: Conv, config: RunConfig, classes: AccuracyClasses
) -> tuple[Verdict, Arrays]:
    """Return the verdict on a node taken out of its graph, on random input: for nodes that no run reaches."""
    if conv.rows or not conv.judged:
        return Verdict("unsupported", conv.problem if conv.problem else NOT_RUN), {}
    node = onnx.NodeProto()
    node.CopyFrom(conv.node)
    try:
        constants = {name: conv.scope.constant(name) for name in node.input[1:] if name}
        if any(value is None for value in constants.values()):
            return Verdict("unsupported", f"{NOT_RUN}; its weights are computed"), {}
        x = _random_input(conv)
        feeds: Arrays = {node.input[0]: x, **{k: v for k, v in constants.items() if v is not None}}
        element = conv.scope.element_type(node.output[0])
        return classes.judge(conv, feeds | run_node(model.proto, node, feeds, element, config), config)
    except RunError as error:
        return _failure(error, node, config), {}
    except (ShapeError, RequestError) as error:
        return Verdict("error", str(error)), {}


def _random_input(conv: Conv) -> Array:
    """Return random input for one node, of the declared sizes where they are known."""
    weight = conv.scope.constant(conv.weight)
    if weight is None or weight.ndim < 3:
        raise RequestError("the node has no convolution weight")
    attributes, ndim = conv.attributes, weight.ndim - 2
    weight = np.moveaxis(weight, -1, 1) if conv.node.op_type == "NhwcConv" else weight
    channels = weight.shape[0]
    if conv.node.op_type != "ConvTranspose":
        channels = weight.shape[1] * (attributes.get("group") or 1)
    known = conv.shape(conv.node.input[0]) or ()
    dilations = attributes.get("dilations") or (1,) * ndim
    batch = known[0] if known and isinstance(known[0], int) and known[0] else 2
    shape = [batch, channels]
    for axis in range(ndim):
        reach = (weight.shape[2 + axis] - 1) * dilations[axis] + 1
        size = known[2 + axis] if len(known) == weight.ndim else None
        shape.append(size if isinstance(size, int) and size else reach + _SIZES[axis % 2])
    if math.prod(shape) > _MAX_ELEMENTS:
        raise RequestError(f"an input of shape {tuple(shape)} is too large for random data")
    rng = np.random.default_rng(0)
    element = conv.scope.element_type(conv.node.input[0])
    dtype = helper.tensor_dtype_to_np_dtype(element) if element else weight.dtype
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        x = rng.integers(info.min, int(info.max) + 1, shape).astype(dtype)
    else:
        x = rng.standard_normal(shape).astype(dtype)
    return np.moveaxis(x, 1, -1) if conv.channels_last else x
