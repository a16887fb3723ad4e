"""The ONNX adapters: the same models, run by ONNX Runtime (``onnx``) or by onnx's evaluator (``onnx-reference``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convspec.contract import LayerRequest, Plan, PlanAdapter
from convspec.errors import UnsupportedError
from convspec.spec import DTYPES, ComputePrecision, ConvSpec, overlap

__all__ = ["ADAPTER", "REFERENCE"]


class _Runtime(PlanAdapter):
    """ONNX Runtime; its variants are levels of graph optimisation, and ``all`` is its default."""

    def plan(self, spec: ConvSpec, layout: str = "NCHW", dtype: str = "float32") -> Plan:
        if dtype in DTYPES and dtype not in self.dtypes:
            op, version = "ConvTranspose" if spec.transposed else "Conv", 22 if dtype == "bfloat16" else 11
            raise UnsupportedError(
                f"ONNX Runtime's CPU provider has no {dtype} kernel (NOT_IMPLEMENTED : Could not find an "
                f"implementation for {op}({version})); onnx-reference has one"
            )
        return super().plan(spec, layout, dtype)


@dataclass(frozen=True)
class _Reference(PlanAdapter):
    """onnx's evaluator: runs the same plans by another module."""

    def _module(self, name: str) -> Any:
        return super()._module("evaluator" if name == "layer" else name)

    def compute_precision(self, spec: ConvSpec, request: LayerRequest = LayerRequest()) -> ComputePrecision:
        """Return NumPy's: it sums float16 products over channels in float32, but over the taps in float16."""
        if request.dtype == "float64":
            return ComputePrecision("float64")
        taps = overlap(spec) if request.dtype == "float16" and spec.transposed else 1
        return ComputePrecision("float32", output_roundings=taps + spec.bias)


ADAPTER = _Runtime(
    name="onnx", package="convspec_onnx", requires=("onnx", "onnxruntime"), distributions=("onnx", "onnxruntime"),
    native_layout="NCHW", dtypes=("float32", "float16"), variants=("all", "off"), variant="all", roots=("onnx",),
    graph_files=(".onnx",), weight_files=(".onnx",), audit_module="convspec_onnx.audit",
    vectors_module="convspec_onnx.vectors", messages_module="convspec_onnx.messages",
)  # fmt: skip

REFERENCE = _Reference(
    name="onnx-reference", package="convspec_onnx", requires=("onnx",), distributions=("onnx", "numpy"),
    native_layout="NCHW", dtypes=DTYPES, roots=("onnx",),  # of one model two adapters: ``onnx`` is asked first
)  # fmt: skip
