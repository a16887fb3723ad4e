"""Models run with all their inputs and outputs as arrays: by ONNX Runtime at a level of optimisation, or by onnx."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator

from convspec.errors import ConvspecError, PlacementError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

LEVELS = {
    "off": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
EVALUATOR = "evaluator"
_FATAL_ONLY = 4


class RunError(ConvspecError):
    """A runtime refused a model, or failed while it ran; the message is the runtime's."""

    @property
    def unsupported(self) -> bool:
        return "NOT_IMPLEMENTED" in str(self)


def run(model: onnx.ModelProto, feeds: Arrays, outputs: Sequence[str], level: str, provider: str = "CPU") -> Arrays:
    """The named outputs; ``level`` is one of :data:`LEVELS` or :data:`EVALUATOR`.

    Raises:
        RunError: with the runtime's own words.
        PlacementError: where the provider is not there, or another one took over.
    """
    feeds = {e.name: feeds[e.name] for e in model.graph.input if e.name in feeds}
    # What runs has no data outside it, so that the runtime has no reason to open a file.
    try:
        if level == EVALUATOR:
            found = ReferenceEvaluator(model).run(list(outputs), feeds)
        else:
            found = session(model, level, provider).run(list(outputs), feeds)
    except PlacementError:
        raise
    except Exception as error:  # noqa: BLE001 – ONNX Runtime's errors have no common base but this
        raise RunError(f"{type(error).__name__}: {error}") from None
    return {name: _array(name, value) for name, value in zip(outputs, found, strict=True)}


def session(model: onnx.ModelProto, level: str, provider: str = "CPU") -> ort.InferenceSession:
    """A session of one thread on that provider."""
    name = f"{provider}ExecutionProvider"
    if name not in ort.get_available_providers():
        raise PlacementError(f"this ONNX Runtime has no provider {provider!r}")
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # the arena keeps what it once had
    options.log_severity_level = _FATAL_ONLY
    found = ort.InferenceSession(model.SerializeToString(), options, providers=[name])
    if found.get_providers()[0] != name:
        raise PlacementError(f"ONNX Runtime was asked for {provider!r} but runs on {found.get_providers()[0]}")
    return found


def _array(name: str, value: Any) -> NDArray[Any]:
    if not isinstance(value, np.ndarray | np.generic):
        raise RunError(f"{name!r} is no tensor but a {type(value).__name__}")
    return np.asarray(value)
