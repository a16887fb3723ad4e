"""Inputs of a graph: read from files, or random ones of the declared shapes."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from convspec.errors import RequestError, printable
from convspec_onnx.loading.untrusted import Array, Arrays, to_array

_MAX_AXES = 64
_MAX_ELEMENTS = 1 << 25  # of a random input


def free_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs without an initialiser."""
    known = {tensor.name for tensor in graph.initializer}
    return [entry for entry in graph.input if entry.name not in known]


def count_sets(graph: onnx.GraphProto, path: str | None, dims: Mapping[str, Sequence[int]]) -> int:
    """Return how many sets of inputs there are: in a file, or at most random ones."""
    if path:
        return max(len(list(Path(path).glob("test_data_set_*"))), 1)
    symbols = symbolic_axes(graph)
    several = any(name not in dims for name in symbols) or any(len(sizes) > 1 for sizes in dims.values())
    return 2 if symbols and several else 1


def read_inputs(graph: onnx.GraphProto, path: str) -> Iterator[tuple[str, Arrays]]:
    """Yield each set of inputs with its name, from ``.npz``, ``.npy``, ``.pb``, or a folder in ONNX's test format.

    Raises:
        RequestError: for files that cannot be read or do not fit the graph's inputs.
    """
    place, entries = Path(path), free_inputs(graph)
    if place.is_dir():
        for folder in sorted(place.glob("test_data_set_*")) or [place]:
            tensors = read_tensors(folder, "input")
            yield folder.name, _fit(entries, {str(number): x for number, x in enumerate(tensors)}, path)
        return
    if not place.is_file():
        raise RequestError(f"inputs {path!r}: file not found")
    try:
        loaded: Any = read_tensor(place) if place.suffix == ".pb" else np.load(place, allow_pickle=False)
        given = {"0": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, MemoryError) as error:
        raise RequestError(f"inputs {path!r} cannot be read: {error}") from None
    yield place.name, _fit(entries, given, path)


def read_tensors(folder: Path, kind: str) -> list[Array]:
    """Return the tensors in ``<kind>_<number>.pb`` of a folder in ONNX's test format, by their numbers."""

    def number(file: Path) -> int:
        match = re.search(r"(\d+)\.pb$", file.name)
        return int(match[1]) if match else 0

    return [read_tensor(file) for file in sorted(folder.glob(f"{kind}_*.pb"), key=number)]


def read_tensor(path: Path) -> Array:
    """Return the tensor in a file of its own; raises RequestError."""
    proto = onnx.TensorProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except Exception as error:  # noqa: BLE001 – protobuf's errors have no narrower common base
        raise RequestError(f"{path} is not an ONNX tensor: {error}") from None
    if proto.data_location == onnx.TensorProto.EXTERNAL:
        raise RequestError(f"{path}: a tensor of a test must not have external data")
    return to_array(proto)


def _fit(entries: Sequence[onnx.ValueInfoProto], arrays: Mapping[str, Any], path: str) -> Arrays:
    """Return the arrays under the graph's names – by name, else by order – and in its types."""
    names = [entry.name for entry in entries]
    if not set(names) <= set(arrays):
        if len(arrays) != len(names):
            raise RequestError(f"inputs {path!r}: expected {names}, got {sorted(arrays)}")
        arrays = dict(zip(names, arrays.values(), strict=True))
    feeds: Arrays = {}
    for entry in entries:
        array, declared = np.asarray(arrays[entry.name]), entry.type.tensor_type
        shape = [d.dim_value if d.HasField("dim_value") else None for d in declared.shape.dim]
        fits = len(shape) == array.ndim and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
        if declared.HasField("shape") and not fits:
            raise RequestError(f"input {entry.name!r}: expected shape {shape_text(entry)}, got {array.shape}")
        feeds[entry.name] = array.astype(_dtype(entry), copy=False)
    return feeds


def random_inputs(graph: onnx.GraphProto, sizes: Mapping[str, int], turn: int = 0, seed: int = 0) -> tuple[str, Arrays]:
    """Return random inputs of the declared shapes and their title; ``sizes``: of all symbolic axes, by name.

    Raises:
        RequestError: for an input that is too large, or no tensor.
    """
    rng = np.random.default_rng([seed, turn])
    chosen = shapes(graph, sizes)
    title = ", ".join(f"{name} {shape}" for name, shape in chosen.items())
    return title, {entry.name: _random(rng, chosen[entry.name], _dtype(entry)) for entry in free_inputs(graph)}


def shapes(graph: onnx.GraphProto, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the inputs, by their names; raises RequestError for one that is too large."""
    return {entry.name: _shape(entry, sizes) for entry in free_inputs(graph)}


def symbolic_axes(graph: onnx.GraphProto) -> dict[str, str]:
    """Return what each axis without a size is for, by name or, if nameless, as ``input.axis``.

    ``"batch"``, ``"channel"`` or ``"spatial"``: where inputs share a name, the first of these.
    """
    axes: dict[str, set[str]] = {}
    for entry in free_inputs(graph):
        unknown = [not dim.HasField("dim_value") for dim in _dims(entry)]
        channels_last = len(unknown) > 2 and all(unknown[1:-1]) and not unknown[-1]
        for axis in np.flatnonzero(unknown):
            role = "batch" if axis == 0 else "channel" if axis == 1 and not channels_last else "spatial"
            axes.setdefault(_symbol(entry, int(axis)), set()).add(role)
    return {name: min(roles) for name, roles in axes.items()}


def _shape(entry: onnx.ValueInfoProto, sizes: Mapping[str, int]) -> tuple[int, ...]:
    dims = enumerate(_dims(entry))
    shape = tuple(d.dim_value if d.HasField("dim_value") else sizes[_symbol(entry, axis)] for axis, d in dims)
    if len(shape) > _MAX_AXES:
        raise RequestError(f"input {entry.name!r} has {len(shape)} axes, more than the {_MAX_AXES} of a NumPy array")
    if math.prod(max(size, 1) for size in shape) > _MAX_ELEMENTS:
        raise RequestError(f"input {entry.name!r} of shape {shape} is too large for random data: give inputs")
    return shape


def _dims(entry: onnx.ValueInfoProto) -> Any:
    if not entry.type.HasField("tensor_type"):
        raise RequestError(f"input {entry.name!r} is not a tensor: give inputs")
    if not entry.type.tensor_type.HasField("shape"):
        raise RequestError(f"input {entry.name!r} is declared without a shape: give inputs")
    return entry.type.tensor_type.shape.dim


def _symbol(entry: onnx.ValueInfoProto, axis: int) -> str:
    return _dims(entry)[axis].dim_param or f"{entry.name}.{axis}"


def _dtype(entry: onnx.ValueInfoProto) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type)
    except (KeyError, ValueError):
        raise RequestError(f"input {entry.name!r} has an unknown element type") from None
    return dtype


def _random(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return normal numbers; integers from 0 to 255 for bytes, else 0 and 1, which are rows of any embedding table."""
    if dtype.kind in "iub":
        info = np.iinfo(dtype) if dtype.kind != "b" else None
        top = int(info.max) + 1 if info is not None and info.bits == 8 else 2
        return rng.integers(0, top, shape).astype(dtype)
    if dtype.kind not in "fV":
        raise RequestError(f"convspec makes no random inputs of type {dtype}: give inputs")
    return rng.standard_normal(shape).astype(dtype)


def shape_text(entry: onnx.ValueInfoProto) -> str:
    """Return the declared shape as text."""
    dims = entry.type.tensor_type.shape.dim
    sizes = (str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in dims)
    return f"({printable(', '.join(sizes))})"
