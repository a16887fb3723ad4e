"""Run a model on arrays: by ONNX Runtime on a provider at an optimisation level, or by onnx's evaluator."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from convspec.errors import ConvspecError, PlacementError
from convspec_onnx.graph import dequantize
from convspec_onnx.loading import Array, Arrays, DetachedModel

_LEVEL = ort.GraphOptimizationLevel
LEVELS = {"off": _LEVEL.ORT_DISABLE_ALL, "basic": _LEVEL.ORT_ENABLE_BASIC, "extended": _LEVEL.ORT_ENABLE_EXTENDED,
          "all": _LEVEL.ORT_ENABLE_ALL}  # fmt: skip
EVALUATOR = "evaluator"
CPU = "CPU"
_SUFFIX = "ExecutionProvider"
_FATAL_ONLY = 4  # log severity


Runner = Callable[[Arrays], list[Any]]


class RunConfig(NamedTuple):
    """What runs a graph: ONNX Runtime at an optimisation level on a provider, or onnx's evaluator."""

    level: str
    provider: str = CPU


def provider_name(name: str) -> str:
    """Return the provider as ONNX Runtime writes it, from ``"cuda"``, ``"CUDA"`` or ``"CUDAExecutionProvider"``.

    Raises:
        PlacementError: for a provider that is not available.
    """
    available: list[str] = [entry.removesuffix(_SUFFIX) for entry in ort.get_available_providers()]
    for entry in available:
        if entry.lower() == name.removesuffix(_SUFFIX).lower():
            return entry
    raise PlacementError(f"this ONNX Runtime has no provider {name!r}; it has {', '.join(available)}")


def run_configs(levels: Sequence[str], providers: Sequence[str]) -> list[RunConfig]:
    """Return every level on every provider, and the evaluator once."""
    configs = [RunConfig(level, provider) for provider in providers for level in levels if level != EVALUATOR]
    return configs + [RunConfig(EVALUATOR)] * (EVALUATOR in levels)


class RunError(ConvspecError):
    """A runtime refused a model, or failed while it ran; the message is the runtime's."""

    @property
    def unsupported(self) -> bool:
        return "NOT_IMPLEMENTED" in str(self) or "NotImplementedError" in str(self)


def run(
    model: DetachedModel, feeds: Arrays, outputs: Sequence[str], config: RunConfig, without: Collection[str] = ()
) -> Arrays:
    """Return the named outputs; ``without``: optimiser passes to disable.

    Raises:
        RunError: with the runtime's message, or for a convolution that does not run on the config's provider.
    """
    values = prepare(model, outputs, config, without)(feeds)
    return {name: _to_array(name, value) for name, value in zip(outputs, values, strict=True)}


def prepare(model: DetachedModel, outputs: Sequence[str], config: RunConfig, without: Collection[str] = ()) -> Runner:
    """Return a function from inputs to the named outputs; both may raise RunError."""
    try:
        runner: Any = (_open_evaluator(model.attach()) if config.level == EVALUATOR
                       else open_session(model, config, without))  # fmt: skip
    except RunError:
        raise
    except Exception as error:  # noqa: BLE001 – ONNX Runtime's errors have no narrower common base
        raise RunError(f"{type(error).__name__}: {error}") from None

    def run_prepared(feeds: Arrays) -> list[Any]:
        try:
            values: list[Any] = runner.run(list(outputs), {e.name: feeds[e.name] for e in model.graph.input
                                                           if e.name in feeds})  # fmt: skip
        except Exception as error:  # noqa: BLE001 – as above
            raise RunError(f"{type(error).__name__}: {error}") from None
        return values

    return run_prepared


class DequantizeLinear(OpRun):  # type: ignore[misc]  # onnx has no types
    """As of opset 10 to 18, which onnx's evaluator lacks."""

    op_domain = ""

    def _run(self, x: Array, scale: Array, zero: Array | None = None, axis: int = 1, **_: Any) -> tuple[Any]:
        return (dequantize({"axis": axis}, x, scale, *([] if zero is None else [zero])),)


def _open_evaluator(model: onnx.ModelProto) -> ReferenceEvaluator:
    old = any(entry.domain in ("", "ai.onnx") and entry.version < 19 for entry in model.opset_import)
    return ReferenceEvaluator(model, new_ops=[DequantizeLinear] if old else None)


def open_session(model: DetachedModel, config: RunConfig, without: Collection[str] = ()) -> ort.InferenceSession:
    """Return a session of one thread on the config's provider, of a model with no file to open."""
    name = config.provider + _SUFFIX
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS[config.level]
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # the arena never releases memory
    options.log_severity_level = _FATAL_ONLY
    if config.provider == CPU:
        detached = model.detached()
        options.add_external_initializers(list(detached), [*map(ort.OrtValue.ortvalue_from_numpy, detached.values())])
        content, names = model.proto.SerializeToString(), [name]
    else:  # other providers may read the numbers from the message
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        content, names = model.attach().SerializeToString(), [name, CPU + _SUFFIX]
    session = ort.InferenceSession(content, options, providers=names, disabled_optimizers=set(without))
    if config.provider != CPU:
        _check_placement(model.graph, session, name)
    return session


def _check_placement(graph: onnx.GraphProto, session: ort.InferenceSession, name: str) -> None:
    """Raise RunError for a convolution that ONNX Runtime silently gave to the CPU."""
    if name not in session.get_providers():
        raise RunError(f"the provider {name} could not be started; ONNX Runtime would silently run on the CPU")
    parts = session.get_provider_graph_assignment_info()
    assigned = {node.name: part.ep_name for part in parts for node in part.get_nodes()}
    for node in graph.node:
        if "Conv" in node.op_type and assigned.get(node.name, name) != name:
            raise RunError(f"placement: {name} does not take this node, which runs on {assigned[node.name]} instead")


def _to_array(name: str, value: Any) -> Array:
    if not isinstance(value, np.ndarray | np.generic):
        raise RunError(f"{name!r} is not a tensor but a {type(value).__name__}")
    return np.asarray(value)
