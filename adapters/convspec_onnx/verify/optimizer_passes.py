"""Which optimisation changed the outputs' bits: the level, and by leaving out passes by name, the pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec_onnx.verify import runtimes
from convspec_onnx.verify.runtimes import LEVELS, Arm, RunError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec_onnx.loading.large_weights import Lean

    Arrays = dict[str, NDArray[Any]]

# As ONNX Runtime 1.30 to 1.32 calls them. A name that it does not have is passed over; a pass whose name is not here
# is told by what is left when all of these are left out.
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
UNKNOWN = "a pass that is not known by name"


def changes(model: Lean, feeds: Arrays, provider: str) -> Iterator[dict[str, Any]]:
    """What each level of optimisation changed in the outputs of the whole graph, and by which passes."""
    watch = _Watch(model, feeds, provider, [entry.name for entry in model.graph.output])
    before: Arrays | None = None
    base: Arrays = {}
    for level in LEVELS:
        try:
            found = watch.run(level)
        except RunError as error:
            yield {"level": level, "provider": provider, "problem": str(error)}
            continue
        if before is None:
            base = found
        else:
            changed = [name for name in watch.outputs if not _same(found[name], before[name])]
            yield {
                "level": level,
                "provider": provider,
                "changed": changed,
                "passes": watch.guilty(level, before, found) if changed else [],
                "largest": max((_far(found[n], base[n]) for n in watch.outputs), default=0.0),
            }
        before = found


@dataclass(frozen=True)
class _Watch:
    """A graph and its inputs, run with some passes left out."""

    model: Lean
    feeds: Arrays
    provider: str
    outputs: Sequence[str]

    def run(self, level: str, without: Sequence[str] = ()) -> Arrays:
        return runtimes.run(self.model, self.feeds, self.outputs, Arm(level, self.provider), without)

    def guilty(self, level: str, before: Arrays, after: Arrays) -> list[str]:
        """The passes of ``level`` after which the outputs are no longer those of ``before``, one after another."""
        names = NAMES.get(level, "").split()
        try:
            none = self.run(level, names)
            unnamed = [] if self._equal(none, before) else [UNKNOWN]
            return unnamed + self._between(level, names, 0, len(names), none, after)
        except RunError as error:
            return [f"unknown: with passes left out the graph does not run: {error}"]

    def _between(self, level: str, names: Sequence[str], lo: int, hi: int, first: Arrays, last: Arrays) -> list[str]:
        """The guilty ones among ``names[lo:hi]``; ``first`` came with names[:lo] allowed, ``last`` with names[:hi]."""
        if self._equal(first, last):
            return []
        if hi - lo == 1:
            return [names[lo]]
        middle = (lo + hi) // 2
        found = self.run(level, names[middle:])
        left = self._between(level, names, lo, middle, first, found)
        return left + self._between(level, names, middle, hi, found, last)

    def _equal(self, a: Arrays, b: Arrays) -> bool:
        return all(_same(a[name], b[name]) for name in self.outputs)


def _same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _far(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The largest difference, in units of the larger array's largest number."""
    if a.shape != b.shape or not a.size or a.dtype.kind not in "fiub":
        return 0.0 if a.shape == b.shape else 1.0
    a, b = a.astype(np.float64), b.astype(np.float64)
    scale = float(np.max(np.abs(b), initial=0.0, where=np.isfinite(b))) or 1.0
    with np.errstate(invalid="ignore"):
        far = np.abs(a - b)
    return float(np.max(far, initial=0.0, where=np.isfinite(far))) / scale
