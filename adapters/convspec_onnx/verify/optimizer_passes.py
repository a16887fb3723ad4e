"""Find which optimisation changed the bits of the outputs: the level, and the pass, by disabling passes by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convspec_onnx.loading import Array, Arrays, DetachedModel
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
            yield {
                "level": level, "provider": provider, "changed": changed,
                "passes": graph.find_passes(level, before, outputs) if changed else [],
                "largest": max((_largest_difference(outputs[n], base[n]) for n in graph.outputs), default=0.0),
            }  # fmt: skip
        before = outputs


@dataclass(frozen=True)
class _Graph:
    """A graph and its inputs, to be run with some passes disabled."""

    model: DetachedModel
    feeds: Arrays
    provider: str
    outputs: Sequence[str]

    def run(self, level: str, without: Sequence[str] = ()) -> Arrays:
        return runtimes.run(self.model, self.feeds, self.outputs, RunConfig(level, self.provider), without)

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
