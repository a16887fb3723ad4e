"""The adapter of PyTorch's own layers: ``nn.Conv1d`` to ``nn.ConvTranspose3d``."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from collections.abc import Sequence

from convspec.contract import ConvSpec, Plan, PlanAdapter
from convspec.errors import UnsupportedError


@dataclasses.dataclass(frozen=True)
class TorchAdapter(PlanAdapter):
    """PyTorch. The variant ``channels_last`` keeps tensors and kernels in that memory format.

    The variant ``compile`` compiles each layer by ``torch.compile``, which takes a C++ compiler, and seconds.
    """

    def plan(self, spec: ConvSpec, layout: str = "NCHW", dtype: str = "float32") -> Plan:
        if self.variant == "channels_last" and spec.ndim == 1:
            raise UnsupportedError("PyTorch has a channels_last memory format for 2-D and 3-D layers only")
        return super().plan(spec, layout, dtype)

    def _refusal(self, spec: ConvSpec, layout: str, dtype: str, device: str, shape: Sequence[int] | None) -> str:
        compiler = os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
        if self.variant == "compile" and not shutil.which(compiler):
            return f"torch.compile needs a C++ compiler: {compiler} is not installed, or set the variable CXX"
        return "" if shape is None else str(self._module("plan").refusal(spec, shape, layout))


ADAPTER = TorchAdapter(
    name="torch",
    package="convspec_torch",
    requires=("torch",),
    distributions=("torch", "numpy"),
    native_layout="NCHW",
    dtypes=("float32", "float64", "float16", "bfloat16"),
    variants=("default", "channels_last", "compile"),
    costly=("compile",),
    roots=("torch",),
    weight_files=(".pt", ".pth", ".bin"),
    files=(".pt", ".pth", ".ts", ".jit", ".torchscript", ".pt2"),
)

__all__ = ["ADAPTER", "TorchAdapter"]
