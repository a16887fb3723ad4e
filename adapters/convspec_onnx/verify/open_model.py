"""Open a graph within a memory limit, and describe its convolutions before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from convspec.contract.isolation import limit_memory
from convspec_onnx.graph import convolutions
from convspec_onnx.loading import large_weights, untrusted

if TYPE_CHECKING:
    from convspec_onnx.graph.convolutions import Conv
    from convspec_onnx.loading.large_weights import Lean

_TO_READ = 512 << 20  # bytes that reading may take beyond what the file itself explains
_TO_RUN = 768 << 20
_DATA = (".data", ".bin", ".weights", ".onnx_data")
_COPIES = 6  # of the model in memory at once: file, message, inlined, inferred, serialised, the runtime's


def open_model(path: str, memory: int | None = None, *, limited: bool = False) -> tuple[Lean, list[Conv], str]:
    """Return the model ready to run, its convolutions, and the problem that shape inference found, or "".

    ``limited`` limits the memory of this process: first for reading, then for running.
    """
    size = _weight_of(Path(path))
    if limited:
        limit_memory(_TO_READ + _COPIES * size)
    model = large_weights.load(path)
    model.proto, problem = untrusted.inferred(model.proto)
    convs = convolutions.convs(model)
    if limited:
        limit_memory((memory or _TO_RUN) + _COPIES * size)
    return model, convs, problem


def _weight_of(path: Path) -> int:
    """Return the bytes of the model and of the files beside it that may be its data."""
    try:
        own = path.stat().st_size
        beside = [p for p in path.parent.iterdir() if p.name.startswith(path.name) or p.suffix in _DATA]
        return int(own + sum(p.lstat().st_size for p in beside if p.is_file() and p != path))
    except OSError:
        return 0


def described(conv: Conv) -> dict[str, Any]:
    """Return the facts about a node before it runs, JSON-ready."""
    spec, shape = conv.spec, conv.scope.shape(conv.data)
    found: dict[str, Any] = {
        "name": conv.path, "op_type": conv.node.op_type, "spec": None if spec is None else spec.to_dict(),
        "input_shape": None if shape is None else list(shape), "problem": conv.problem, "notes": conv.notes,
        "weight": conv.weight, "parameters": None, "macs": None, "receptive_field": None, "output_shape": None,
    }  # fmt: skip
    declared = conv.scope.shape(conv.node.output[0])
    found["output_shape"] = None if declared is None else list(declared)
    if spec is not None:
        found["parameters"] = spec.num_parameters
    return found
