"""``.tflite`` files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convspec_litert.flatbuffer import Graph, parse


def load(path: str) -> Any:
    """Return the model in a file. Raises RequestError if it holds none."""
    return parse(Path(path).read_bytes())


def store(model: Any, path: str) -> None:
    """Write a model as a file."""
    Path(path).write_bytes(Graph(model).pack())
