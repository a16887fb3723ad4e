"""The Keras adapters: one plan, run by TensorFlow (``keras``), JAX (``keras-jax``) or PyTorch (``keras-torch``).

Keras takes its backend when it is imported, so the three exclude one another in a process.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from convspec.contract import ComputePrecision, ConvSpec, LayerRequest, PlanAdapter
from convspec.errors import RequestError
from convspec.spec import DTYPES, column_roundings, layouts

__all__ = ["ADAPTER", "JAX", "TORCH"]


@dataclass(frozen=True)
class _Keras(PlanAdapter):
    backend: str = "tensorflow"

    def _refusal(self, spec: ConvSpec, layout: str, dtype: str, device: str, shape: Sequence[int] | None) -> str:
        if self.backend != "tensorflow" or device != "cpu":
            return ""
        return str(self._module("plan").missing_on_tensorflow_cpu(spec, layout, dtype))

    def compute_precision(self, spec: ConvSpec, request: LayerRequest = LayerRequest()) -> ComputePrecision:
        found = dataclasses.replace(
            super().compute_precision(spec, request), flushes_subnormals=self.backend != "torch"
        )
        if request.device != "cpu" or request.dtype not in ("float16", "bfloat16"):
            return found
        if self.backend == "torch":
            roundings = column_roundings(spec, request.direction, request.input_shape)
            roundings += request.direction == "forward" and spec.bias
            return dataclasses.replace(found, output_roundings=roundings)
        return dataclasses.replace(found, accumulator=request.dtype) if self._sums_halves(spec, request) else found

    def _sums_halves(self, spec: ConvSpec, request: LayerRequest) -> bool:
        if self.backend == "jax":
            return request.direction == "bias"
        layout = layouts.family(request.layout or self.native_layout, spec.ndim)
        plan = self._module("plan")
        return bool(plan.sums_halves_on_tensorflow_cpu(spec, request.dtype, request.direction, layout))

    def configure(
        self, *, dtype: str = "float32", device: str = "cpu", precision: str = "shipped", threads: int | None = None
    ) -> None:
        if self.backend == "tensorflow":
            os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # unset, it depends on the processor
        with _without_chatter():
            super().configure(dtype=dtype, device=device, precision=precision, threads=threads)

    def owns(self, kind: type) -> bool:
        """A Keras class belongs to the adapter of the backend that this process has imported Keras on."""
        return super().owns(kind) and "keras" in sys.modules and sys.modules["keras"].config.backend() == self.backend

    def _module(self, name: str) -> Any:
        if name in ("layer", "read", "files"):
            _choose_backend(self.name, self.backend)
        return super()._module(name)


def _choose_backend(adapter: str, backend: str) -> None:
    """Import Keras on that backend; where it is imported already, make sure that it is the one.

    Raises:
        RequestError: if this process has imported Keras on another backend.
    """
    if "keras" not in sys.modules:
        before = os.environ.get("KERAS_BACKEND")
        os.environ["KERAS_BACKEND"] = backend
        try:
            import keras
        finally:
            if before is None:
                del os.environ["KERAS_BACKEND"]
            else:
                os.environ["KERAS_BACKEND"] = before
    import keras

    running = keras.config.backend()
    if running != backend:
        raise RequestError(
            f"adapter {adapter!r} needs Keras on {backend}, but this process has imported Keras on {running}, and "
            f"Keras cannot change its backend: use a process of its own, where KERAS_BACKEND={backend} is set before "
            f"the first `import keras`"
        )


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Drop what TensorFlow's C++ writes to the standard error on its import and its first operation.

    Its own switch quiets it from then on, but comes too late for the first lines.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept, void = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(void, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(void)


def _adapter(name: str, backend: str) -> _Keras:
    return _Keras(
        name=name,
        package="convspec_keras",
        requires=("keras", backend),
        distributions=("keras", backend),
        native_layout="NHWC",
        dtypes=DTYPES,
        roots=("keras",),
        backend=backend,
        weight_files=(".h5", ".keras"),
        files=(".keras", "saved_model.pb") if backend == "tensorflow" else (".keras",),
    )


ADAPTER = _adapter("keras", "tensorflow")
JAX = _adapter("keras-jax", "jax")
TORCH = _adapter("keras-torch", "torch")
