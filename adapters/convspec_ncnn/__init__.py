"""The adapter of ncnn: nets of one convolution, on the CPU in float32."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from convspec.contract import ConvSpec, PlanAdapter


@dataclasses.dataclass(frozen=True)
class NcnnAdapter(PlanAdapter):
    """ncnn as shipped, with Winograd's algorithm for 3 × 3 kernels, and without it: the variant ``direct``."""

    def _refusal(self, spec: ConvSpec, layout: str, dtype: str, device: str, shape: Sequence[int] | None) -> str:
        if shape is None:
            return ""
        return str(self._module("plan").refusal(spec, shape, layout, direct=self.variant == "direct"))


ADAPTER = NcnnAdapter(
    name="ncnn",
    package="convspec_ncnn",
    requires=("ncnn",),
    distributions=("ncnn", "numpy"),
    native_layout="NCHW",
    dtypes=("float32",),
    variants=("default", "direct"),
    roots=("ncnn",),
    graph_files=(".param",),
)

__all__ = ["ADAPTER", "NcnnAdapter"]
