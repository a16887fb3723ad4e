"""Find what graph optimisation does to the results: whether they are wrong, at which level, by which pass, where.

The untouched graph's results at each level are compared with those without optimisation. Rounding explains a difference
that is no larger than the results move when the graph's numbers are moved by what computing rounds (:func:`measure`).
A pass is found by disabling passes by name; the node by making tensors
outputs of the graph, which no pass may remove then.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from convspec.reference import SPREAD_FACTOR, Spread, move_numbers, spread_limits, units_for
from convspec_onnx.graph import attributes_of
from convspec_onnx.loading import Array, Arrays, DetachedModel, to_array
from convspec_onnx.steps import holds_tensors
from convspec_onnx.verify import runtimes
from convspec_onnx.verify.runtimes import LEVELS, RunConfig, RunError

# As ONNX Runtime 1.30 to 1.32 calls them. It ignores a name that it does not have; a pass whose name is missing here
# shows as the change that remains with all of these disabled.
NAMES = {
    "basic": """
        EliminateIdentity EliminateSlice UnsqueezeElimination EliminateDropout ExpandElimination CastElimination
        CastChainElimination NoopElimination PreShapeNodeElimination DivMulFusion FuseReluClip GemmSumFusion
        GemmTransposeFusion NotWhereFusion Pad_Fusion PadFusion MatMul_BatchNormalization_Fusion MatmulBNFusion
        ConvAddFusion ConvMulFusion ConvBNFusion ClipQuantFusion ReluQuantFusion LabelEncoderFusion ConstantSharing
        CommonSubexpressionElimination ConstantFolding ConstantFoldingDQ MatMulAddFusion ReshapeFusion
        FreeDimensionOverrideTransformer QDQPropagationTransformer EnsureUniqueDQForNodeUnit DoubleQDQPairsRemover
        GeluFusion GeluFusionL1 LayerNormFusion LayerNormFusionL1 SliceConcatToSpaceToDepthFusion
        GatherSliceToSplitFusion GatherToSliceFusion TransposeOptimizer
    """,
    "extended": """
        QDQS8ToU8Transformer QDQSelectorActionTransformer GemmActivationFusion MatMulActivationFusion
        MatMulIntegerToFloatFusion DynamicQuantizeMatMulFusion ConvActivationFusion GeluFusion GeluFusionL2
        LayerNormFusion LayerNormFusionL2 SimplifiedLayerNormFusion AttentionFusion EmbedLayerNormFusion
        GatherSliceToSplitFusion GatherToSliceFusion MatmulTransposeFusion BiasGeluFusion SkipLayerNormFusion
        BiasSkipLayerNormFusion FastGeluFusion QuickGeluFusion BiasSoftmaxFusion BiasDropoutFusion MatMulScaleFusion
        SwiGluFusion GroupQueryAttentionFusion MatMulNBitsFusion DQMatMulNBitsFusion Avx2WeightS8ToU8Transformer
        QDQFinalCleanupTransformer ConstantFolding CommonSubexpressionElimination
    """,
    "all": "NchwcTransformer NhwcTransformer ConvAddActivationFusion TransposeOptimizer",
}
UNKNOWN = "a pass without a known name"


def find_changes(model: DetachedModel, feeds: Arrays, provider: str) -> Iterator[dict[str, Any]]:
    """Yield what each optimisation level changed in the outputs of the whole graph, and by which passes."""
    graph = _Graph(model, feeds, provider, [entry.name for entry in model.graph.output])
    before: Arrays | None = None
    base: Arrays = {}
    spread: Spread | None = None
    for level in LEVELS:
        try:
            outputs = graph.run(level)
        except RunError as error:
            yield {"level": level, "provider": provider, "problem": str(error)}
            continue
        if before is None:
            base = outputs
        else:
            changed = [name for name in graph.outputs if not _equal(outputs[name], before[name])]
            moved = any(not _equal(outputs[name], base[name]) for name in graph.outputs)
            if moved and spread is None:
                spread = graph.measure(base)
            excess = graph.compare(base, outputs, spread) if spread is not None and moved else None
            yield {
                "level": level, "provider": provider, "changed": changed,
                "passes": graph.find_passes(level, before, outputs) if changed else [],
                "largest": max((_largest_difference(outputs[n], base[n]) for n in graph.outputs), default=0.0),
                **({} if excess is None else excess.to_dict()),
                **({"node": graph.find_node(level, base, spread)} if excess and excess.ratio > 1 and spread else {}),
            }  # fmt: skip
        before = outputs


@dataclass(frozen=True)
class _Graph:
    """A graph and its inputs, to be run with some passes disabled."""

    model: DetachedModel
    feeds: Arrays
    provider: str
    outputs: Sequence[str]

    def run(self, level: str, without: Sequence[str] = (), exposed: Sequence[str] = ()) -> Arrays:
        model = self.model
        if exposed:
            proto = onnx.ModelProto()
            proto.CopyFrom(model.proto)
            proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in exposed)
            model = DetachedModel(proto, model.weights)
        return runtimes.run(model, self.feeds, self.outputs, RunConfig(level, self.provider), without)

    def measure(self, base: Arrays) -> Spread | None:
        """Return how far the results move by rounding; None where the moved graph does not run."""
        config = RunConfig("off", self.provider)

        def run(model: DetachedModel, feeds: Arrays) -> Arrays:
            return runtimes.run(model, feeds, self.outputs, config)

        try:
            return measure(self.model, self.feeds, self.outputs, base, run)
        except RunError:
            return None

    def compare(self, base: Arrays, outputs: Arrays, spread: Spread) -> Excess:
        """Return the output that differs most from that without optimisation, in units of what rounding explains."""
        found = [_excess(name, base[name], outputs[name], spread.moved[i]) for i, name in enumerate(self.outputs)]
        return max(found, key=lambda excess: excess.ratio)

    def find_node(self, level: str, base: Arrays, spread: Spread) -> str:
        """Return the node whose result, made an output of the graph, makes the results right; "" if there is none."""
        written = [(name, node.name) for node in self.model.graph.node if holds_tensors(node)
                   for name in node.output if name and name not in self.outputs]  # fmt: skip

        def is_right(count: int) -> bool:
            outputs = self.run(level, exposed=[name for name, _ in written[:count]])
            return self.compare(base, outputs, spread).ratio <= 1

        try:
            if not is_right(len(written)):
                return ""
            node: str = written[bisect.bisect_left(range(1, len(written)), True, key=is_right)][1]
            return node
        except RunError:
            return ""

    def find_passes(self, level: str, before: Arrays, after: Arrays) -> list[str]:
        """Return the passes of ``level`` that change the outputs from ``before`` to ``after``."""
        names = NAMES.get(level, "").split()
        try:
            none = self.run(level, names)
            unnamed = [] if self.same_outputs(none, before) else [UNKNOWN]
            return unnamed + self.bisect(level, names, 0, len(names), none, after)
        except RunError as error:
            return [f"unknown: with passes disabled the graph does not run: {error}"]

    def bisect(self, level: str, names: Sequence[str], lo: int, hi: int, first: Arrays, last: Arrays) -> list[str]:
        """Return the passes among ``names[lo:hi]``: outputs are ``first`` with names[:lo], ``last`` with names[:hi]."""
        if self.same_outputs(first, last):
            return []
        if hi - lo == 1:
            return [names[lo]]
        middle = (lo + hi) // 2
        outputs = self.run(level, names[middle:])
        left = self.bisect(level, names, lo, middle, first, outputs)
        return left + self.bisect(level, names, middle, hi, outputs, last)

    def same_outputs(self, a: Arrays, b: Arrays) -> bool:
        return all(_equal(a[name], b[name]) for name in self.outputs)


@dataclass(frozen=True)
class Excess:
    """How far an output is from that without optimisation: ``ratio`` 1 is what rounding explains at most."""

    output: str
    ratio: float
    got: float = 0.0
    expected: float = 0.0
    wrong: int = 0

    def to_dict(self) -> dict[str, Any]:
        return {"output": self.output, "ratio": min(self.ratio, 1e30), "got": str(self.got),
                "expected": str(self.expected), "wrong": self.wrong}  # fmt: skip


def _excess(name: str, base: Array, y: Array, moved: Array) -> Excess:
    """Return the worst element of an output; one whose finite numbers are elsewhere, or of integers, must be equal."""
    if base.shape != y.shape:
        return Excess(name, math.inf, wrong=y.size)
    if not y.size or base.dtype.kind not in "fiu":
        return Excess(name, 0.0 if np.array_equal(base, y) else math.inf)
    a, b = base.astype(np.float64), y.astype(np.float64)
    limit = spread_limits(moved, moved, base, y) if base.dtype.kind == "f" else 2 * SPREAD_FACTOR * moved
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.abs(a - b) / limit
    ratio = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.where(np.isnan(ratio), math.inf, ratio))
    at = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    return Excess(name, float(ratio[at]), float(b[at]), float(a[at]), int((ratio > 1).sum()))


def _equal(a: Array, b: Array) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _largest_difference(a: Array, b: Array) -> float:
    """Return the largest difference in units of the largest number of ``b``."""
    if a.shape != b.shape or not a.size or a.dtype.kind not in "fiub":
        return 0.0 if a.shape == b.shape else 1.0
    a, b = a.astype(np.float64), b.astype(np.float64)
    scale = float(np.max(np.abs(b), initial=0.0, where=np.isfinite(b))) or 1.0
    with np.errstate(invalid="ignore"):
        difference = np.abs(a - b)
    return float(np.max(difference, initial=0.0, where=np.isfinite(difference))) / scale


# -- moved numbers -----------------------------------------------------------------------------------------------------

RUNS = 3
_PRODUCTS = ("Conv", "ConvTranspose", "FusedConv", "NhwcConv", "MatMul", "Gemm", "FusedMatMul", "FusedGemm")
_ARITHMETIC = frozenset((
    *_PRODUCTS, "Mul", "Add", "Sub", "Div", "PRelu", "BatchNormalization", "InstanceNormalization",
    "GroupNormalization", "LayerNormalization", "RMSNormalization", "QuantizeLinear", "DequantizeLinear",
    "QLinearConv", "QLinearMatMul",
))  # whose constants may be moved: those of others are sizes and limits  # fmt: skip
_FLIPS = 2.0**-13  # by which a quantised number is moved: about 1 of 100 then rounds the other way


def measure(model: DetachedModel, feeds: Arrays, outputs: Sequence[str], base: Arrays,
            run: Callable[[DetachedModel, Arrays], Arrays]) -> Spread:  # fmt: skip
    """Return how far the outputs ``base`` of a graph move in some runs with moved constants and inputs.

    In a graph with quantised tensors some further runs move these by a share of a step: rounding in another order
    moves a number over the middle between two steps now and then, and a few runs would not show it.
    """
    spread = Spread.of([base[name] for name in outputs])
    for moved, inputs in _moved(model, feeds):
        spread.add([run(moved, inputs)[name] for name in outputs])
    return spread


def _moved(model: DetachedModel, feeds: Arrays) -> Iterator[tuple[DetachedModel, Arrays]]:
    units = _units(model.graph)
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        inputs = {name: move_numbers(x, rng, 0.5) for name, x in feeds.items()}
        yield _with_constants(model, functools.partial(_move_constant, units, rng)), inputs
    scales = {node.input[1] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    for factor in (1 + _FLIPS, 1 - _FLIPS) if scales else ():
        yield _with_scales(model, factor), feeds


def _units(graph: onnx.GraphProto) -> dict[str, tuple[float, bool]]:
    """Return the constants that may be moved: by how many units in the last place, and whether rows are columns."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    constants = {node.output[0] for node in graph.node if node.op_type == "Constant"}
    units: dict[str, tuple[float, bool]] = {}
    kept = {name for node in graph.node if node.op_type not in _ARITHMETIC for name in node.input}
    for node in graph.node:
        for number, name in enumerate(node.input):
            if node.op_type in _ARITHMETIC and name not in kept and (name in shapes or name in constants):
                shape = shapes.get(name, ())
                columns = number == 1 and (node.op_type in ("MatMul", "FusedMatMul", "ConvTranspose") or (
                    node.op_type in ("Gemm", "FusedGemm") and not attributes_of(node).get("transB")))  # fmt: skip
                terms = 1
                if number == 1 and node.op_type in _PRODUCTS and len(shape) > 1:
                    terms = math.prod(shape) // max(shape[1 if columns else 0], 1)
                units[name] = units_for(terms), columns
    return units


def _move_constant(known: Mapping[str, tuple[float, bool]], rng: np.random.Generator, name: str, array: Array) -> Array:
    """Return a constant moved, if it may be; ``known``: as of :func:`_units`."""
    if name not in known or array.dtype.name not in ("float16", "float32", "float64"):
        return array
    units, columns = known[name]
    units = 1.0 if array.dtype == np.float16 else units
    if columns and array.ndim > 1:
        return np.ascontiguousarray(move_numbers(array.swapaxes(0, 1), rng, units).swapaxes(0, 1))
    return move_numbers(array, rng, units)


def _with_constants(model: DetachedModel, change: Callable[[str, Array], Array]) -> DetachedModel:
    """Return a copy of the model with changed constants; what is not changed is shared where it can be."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model.proto)
    weights = {name: change(name, array) for name, array in model.weights.items()}
    for tensor in copy.graph.initializer:
        if tensor.name not in weights:
            _replace(tensor, change)
    for node in copy.graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    attribute.t.name = node.output[0]
                    _replace(attribute.t, change)
    return DetachedModel(copy, weights)


def _replace(tensor: onnx.TensorProto, change: Callable[[str, Array], Array]) -> None:
    array = to_array(tensor)
    if (changed := change(tensor.name, array)) is not array:
        tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))


def _with_scales(model: DetachedModel, factor: float) -> DetachedModel:
    """Return a copy in which every quantisation has its scale multiplied; dequantisation keeps its own."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model.proto)
    known = {tensor.name: tensor for tensor in copy.graph.initializer}
    for node in copy.graph.node:
        if node.op_type == "QuantizeLinear" and (tensor := known.get(node.input[1])) is not None:
            name = f"{tensor.name}/moved"
            if name not in known:
                scale = to_array(tensor)
                known[name] = numpy_helper.from_array((scale * scale.dtype.type(factor)).astype(scale.dtype), name)
                copy.graph.initializer.append(known[name])
            node.input[1] = name
    return DetachedModel(copy, model.weights)
