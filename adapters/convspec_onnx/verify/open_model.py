"""Open a graph within limits of memory, and describe its convolutions before anything runs."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convspec_onnx.graph import convolutions
from convspec_onnx.loading import large_weights, untrusted

if TYPE_CHECKING:
    from convspec_onnx.graph.convolutions import Conv
    from convspec_onnx.loading.large_weights import Lean

_TO_READ = 512 << 20  # bytes that reading may take beyond what the file itself explains
_TO_RUN = 768 << 20
_DATA = (".data", ".bin", ".weights", ".onnx_data")
_COPIES = 6  # of the model that are alive at once: file, message, inlined, inferred, serialised, the runtime's


def open_model(path: str, memory: int | None = None, *, limited: bool = False) -> tuple[Lean, list[Conv], str]:
    """The model ready to be run, its convolutions, and what the inference of shapes had against it, or nothing.

    ``limited`` bounds the memory of this whole process: first what reading may take, then what running may.
    """
    size = _weight_of(Path(path))
    if limited:
        limit(_TO_READ + _COPIES * size)
    model = large_weights.load(path)
    model.proto, problem = untrusted.inferred(model.proto)
    convs = convolutions.convs(model)
    if limited:
        limit((memory or _TO_RUN) + _COPIES * size)
    return model, convs, problem


def limit(more: int) -> None:
    """Let this process take so many bytes beyond what it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if pages:
        soft = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _weight_of(path: Path) -> int:
    """Bytes of the model and of the files beside it that could be its data."""
    try:
        own = path.stat().st_size
        beside = [p for p in path.parent.iterdir() if p.name.startswith(path.name) or p.suffix in _DATA]
        return int(own + sum(p.lstat().st_size for p in beside if p.is_file() and p != path))
    except OSError:
        return 0


def described(conv: Conv) -> dict[str, Any]:
    """What is known of a node before it runs, JSON-ready."""
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
