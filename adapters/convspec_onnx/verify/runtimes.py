"""Models run with all inputs and outputs as arrays: by ONNX Runtime – provider, level of optimisation – or by onnx."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator

from convspec.errors import ConvspecError, PlacementError

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from convspec_onnx.loading.large_weights import Lean

    Arrays = dict[str, NDArray[Any]]

LEVELS = {
    "off": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
EVALUATOR = "evaluator"
_FATAL_ONLY = 4


CPU = "CPU"
_SUFFIX = "ExecutionProvider"


class Arm(NamedTuple):
    """Who runs a graph: ONNX Runtime at a level of optimisation on a provider, or onnx's evaluator, which has none."""

    level: str
    provider: str = CPU


def provider(name: str) -> str:
    """The provider as ONNX Runtime writes it, from ``"cuda"``, ``"CUDA"`` or ``"CUDAExecutionProvider"``.

    Raises:
        PlacementError: for a provider that is not there.
    """
    there: list[str] = [entry.removesuffix(_SUFFIX) for entry in ort.get_available_providers()]
    for entry in there:
        if entry.lower() == name.removesuffix(_SUFFIX).lower():
            return entry
    raise PlacementError(f"this ONNX Runtime has no provider {name!r}; it has {', '.join(there)}")


def arms(levels: Sequence[str], providers: Sequence[str]) -> list[Arm]:
    """Every level on every provider, and the evaluator once."""
    found = [Arm(level, provider) for provider in providers for level in levels if level != EVALUATOR]
    return found + [Arm(EVALUATOR)] * (EVALUATOR in levels)


class RunError(ConvspecError):
    """A runtime refused a model, or failed while it ran; the message is the runtime's."""

    @property
    def unsupported(self) -> bool:
        return "NOT_IMPLEMENTED" in str(self) or "NotImplementedError" in str(self)


def run(model: Lean, feeds: Arrays, outputs: Sequence[str], arm: Arm, without: Collection[str] = ()) -> Arrays:
    """The named outputs; ``without`` are passes of the optimisation that are left out.

    Raises:
        RunError: with the runtime's own words, or where a convolution ran elsewhere than on the arm's provider.
    """
    feeds = {e.name: feeds[e.name] for e in model.graph.input if e.name in feeds}
    # What runs has no data outside it, so that the runtime has no reason to open a file.
    try:
        if arm.level == EVALUATOR:
            found = ReferenceEvaluator(model.whole()).run(list(outputs), feeds)
        else:
            found = session(model, arm, without).run(list(outputs), feeds)
    except RunError:
        raise
    except Exception as error:  # noqa: BLE001 – ONNX Runtime's errors have no common base but this
        raise RunError(f"{type(error).__name__}: {error}") from None
    return {name: _array(name, value) for name, value in zip(outputs, found, strict=True)}


def session(model: Lean, arm: Arm, without: Collection[str] = ()) -> ort.InferenceSession:
    """A session of one thread on the arm's provider."""
    name = arm.provider + _SUFFIX
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS[arm.level]
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # the arena keeps what it once had
    options.log_severity_level = _FATAL_ONLY
    if arm.provider != CPU:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if arm.provider == CPU:
        given = model.beside()
        options.add_external_initializers(list(given), [*map(ort.OrtValue.ortvalue_from_numpy, given.values())])
        content = model.proto.SerializeToString()
    else:  # other providers may look for the numbers in the message
        content = model.whole().SerializeToString()
    names = [name] if arm.provider == CPU else [name, CPU + _SUFFIX]
    found = ort.InferenceSession(content, options, providers=names, disabled_optimizers=set(without))
    if arm.provider != CPU:
        _placed(model.graph, found, name)
    return found


def _placed(graph: onnx.GraphProto, session: ort.InferenceSession, name: str) -> None:
    """ONNX Runtime gives to the CPU what a provider does not take, and says nothing."""
    if name not in session.get_providers():
        raise RunError(f"the provider {name} could not be started; ONNX Runtime would run on the CPU in silence")
    where = {
        node.name: part.ep_name for part in session.get_provider_graph_assignment_info() for node in part.get_nodes()
    }
    for node in graph.node:
        if "Conv" in node.op_type and where.get(node.name, name) != name:
            raise RunError(f"placement: {name} does not take this node, which runs on {where[node.name]} instead")


def _array(name: str, value: Any) -> NDArray[Any]:
    if not isinstance(value, np.ndarray | np.generic):
        raise RunError(f"{name!r} is no tensor but a {type(value).__name__}")
    return np.asarray(value)
