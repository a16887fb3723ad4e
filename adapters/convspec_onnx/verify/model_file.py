"""Open a model within limits of memory, and find its convolutions before anything runs."""

from __future__ import annotations

from pathlib import Path

from convspec.contract.isolation import limit_memory
from convspec_onnx.graph import Conv, find_convolutions
from convspec_onnx.loading import DetachedModel, infer_shapes, load_model

_TO_READ = 512 << 20  # bytes that reading may take beyond the copies of the model
_TO_RUN = 768 << 20
_DATA = (".data", ".bin", ".weights", ".onnx_data")
_COPIES = 6  # of the model that exist at once: file, message, inlined, inferred, serialised, the runtime's


def open_model(path: str, memory: int | None = None, *, limited: bool = False) -> tuple[DetachedModel, list[Conv], str]:
    """Return the model ready to run, its convolutions, and the error of shape inference, or "".

    ``limited``: limit the memory of this process, first to what reading may take, then to what running may.
    """
    size = _bytes_on_disk(Path(path))
    if limited:
        limit_memory(_TO_READ + _COPIES * size)
    model = load_model(path)
    model.proto, problem = infer_shapes(model.proto)
    convs = find_convolutions(model)
    if limited:
        limit_memory((memory or _TO_RUN) + _COPIES * size)
    return model, convs, problem


def _bytes_on_disk(path: Path) -> int:
    """Return the bytes of the model and of the files beside it that may be its external data."""
    try:
        own = path.stat().st_size
        beside = [p for p in path.parent.iterdir() if p.name.startswith(path.name) or p.suffix in _DATA]
        return int(own + sum(p.lstat().st_size for p in beside if p.is_file() and p != path))
    except OSError:
        return 0
