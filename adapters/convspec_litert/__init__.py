"""The adapter of LiteRT: ``.tflite`` models of one convolution, run by XNNPACK or LiteRT's own kernels."""

from __future__ import annotations

from convspec.contract import ConvSpec, Plan, PlanAdapter
from convspec.errors import UnsupportedError

__all__ = ["ADAPTER"]


class _LiteRT(PlanAdapter):
    """LiteRT; its variants are op resolvers, and ``xnnpack`` is its default."""

    def plan(self, spec: ConvSpec, layout: str = "NCHW", dtype: str = "float32") -> Plan:
        if dtype == "float16" and self.variant != "xnnpack":
            raise UnsupportedError("LiteRT's own kernels have no float16; XNNPACK has")
        return super().plan(spec, layout, dtype)


ADAPTER = _LiteRT(
    name="litert", package="convspec_litert", requires=("ai_edge_litert",), distributions=("ai-edge-litert", "numpy"),
    native_layout="NHWC", layouts=("NHWC",), dtypes=("float32", "float16"),
    variants=("xnnpack", "builtin", "reference"), variant="xnnpack", roots=("ai_edge_litert",), files=(".tflite",),
    audit_module="convspec_litert.audit", audit_levels=("xnnpack", "builtin", "reference"),
)  # fmt: skip
