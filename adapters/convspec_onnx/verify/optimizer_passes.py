"""Find what graph optimisation does to the results: whether they are wrong, at which level, by which pass, where.

The untouched graph's results at each level are compared with those without optimisation. Rounding explains a difference
that is no larger than the results move when the graph's numbers are moved by what computing rounds
(:mod:`~convspec_onnx.verify.perturbation`). A pass is found by disabling passes by name; the node by making tensors
outputs of the graph, which no pass may remove then.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from convspec.reference import SPREAD_FACTOR, Spread, spread_limits
from convspec_onnx.loading import Array, Arrays, DetachedModel
from convspec_onnx.steps import holds_tensors
from convspec_onnx.verify import perturbation, runtimes
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
            return perturbation.measure(self.model, self.feeds, self.outputs, base, run)
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
