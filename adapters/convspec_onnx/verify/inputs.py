"""Inputs for a graph: read from files, or made from the declared shapes."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper

from convspec.errors import RequestError, printable
from convspec_onnx.graph.constants import array_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

_SIZES = ((1, 4, 64), (2, 4, 96))  # of symbolic axes 0, 1 and the others: two runs; both suit five halvings
_MOST_AXES = 64
_LARGEST = 1 << 25  # elements of a made input


def free(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The inputs that somebody must give: those without an initialiser."""
    known = {tensor.name for tensor in graph.initializer}
    return [entry for entry in graph.input if entry.name not in known]


def number(graph: onnx.GraphProto, path: str | None, dims: Mapping[str, Sequence[int]]) -> int:
    """How many sets of inputs there are: those of :func:`given` or of :func:`made`."""
    if path:
        return max(len(list(Path(path).glob("test_data_set_*"))), 1)
    symbols = _symbols(free(graph))
    several = any(name not in dims for name in symbols) or any(len(sizes) > 1 for sizes in dims.values())
    return 2 if symbols and several else 1


def given(graph: onnx.GraphProto, path: str) -> Iterator[tuple[str, Arrays]]:
    """Each set of inputs in a file or folder with its name: ``.npz``, ``.npy``, ``.pb``, or ONNX's ``test_data_set_*``.

    Raises:
        RequestError: where it cannot be read, or does not fit the graph's inputs.
    """
    place, entries = Path(path), free(graph)
    if place.is_dir():
        folders = sorted(place.glob("test_data_set_*")) or [place]
        for folder in folders:
            files = sorted(folder.glob("input_*.pb"), key=number_of)
            yield folder.name, _fitted(entries, {str(i): tensor(file) for i, file in enumerate(files)}, path)
        return
    if not place.is_file():
        raise RequestError(f"inputs {path!r}: no such file or folder")
    try:
        if place.suffix == ".pb":
            arrays = {"0": tensor(place)}
        else:
            loaded = np.load(place, allow_pickle=False)
            arrays = {"0": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, MemoryError) as error:
        raise RequestError(f"inputs {path!r} cannot be read: {error}") from None
    yield place.name, _fitted(entries, arrays, path)


def outputs(graph: onnx.GraphProto, folder: Path) -> Arrays:
    """The expected outputs in a folder of ONNX's test format, by the graph's names."""
    files = sorted(folder.glob("output_*.pb"), key=number_of)
    return {entry.name: tensor(file) for entry, file in zip(graph.output, files, strict=False)}


def tensor(path: Path) -> NDArray[Any]:
    """One tensor in a file of its own; raises RequestError."""
    found = onnx.TensorProto()
    try:
        found.ParseFromString(path.read_bytes())
    except Exception as error:  # noqa: BLE001 – protobuf's errors have no common base but this
        raise RequestError(f"{path} is no ONNX tensor: {error}") from None
    if found.data_location == onnx.TensorProto.EXTERNAL:
        raise RequestError(f"{path}: a tensor of a test must hold its own data")
    return array_of(found)


def _fitted(entries: Sequence[onnx.ValueInfoProto], arrays: Mapping[str, Any], path: str) -> Arrays:
    """The arrays under the graph's names – by name, else by order – and in its types."""
    names = [entry.name for entry in entries]
    if not set(names) <= set(arrays):
        if len(arrays) != len(names):
            raise RequestError(f"inputs {path!r} has {sorted(arrays)}, but the graph wants {names}")
        arrays = dict(zip(names, arrays.values(), strict=True))
    found: Arrays = {}
    for entry in entries:
        array, declared = np.asarray(arrays[entry.name]), entry.type.tensor_type
        shape = [d.dim_value if d.HasField("dim_value") else None for d in declared.shape.dim]
        if declared.HasField("shape") and (
            len(shape) != array.ndim or any(n is not None and n != m for n, m in zip(shape, array.shape, strict=False))
        ):
            raise RequestError(f"input {entry.name!r} of shape {array.shape} must be {written(entry)}")
        found[entry.name] = array.astype(_dtype(entry), copy=False)
    return found


def made(graph: onnx.GraphProto, dims: Mapping[str, Sequence[int]], seed: int = 0) -> Iterator[tuple[str, Arrays]]:
    """Random inputs of the declared shapes: one set, or two of different sizes where an axis has none of its own.

    Args:
        dims: sizes for symbolic axes, by name or, for nameless ones, as ``input.axis``; one, or one for each set.

    Raises:
        RequestError: where an axis is negative or the whole too large, and for dims that the graph does not have.
    """
    entries = free(graph)
    symbols = _symbols(entries)
    if strange := sorted(set(dims) - symbols):
        raise RequestError(f"--dim {strange[0]}: no axis has that name; there are {sorted(symbols) or 'none'}")
    for turn in range(number(graph, None, dims)):
        rng = np.random.default_rng([seed, turn])
        chosen = {name: values[min(turn, len(values) - 1)] for name, values in dims.items()}
        shapes = {entry.name: _shape(entry, chosen, turn) for entry in entries}
        title = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        yield title, {entry.name: _random(rng, shapes[entry.name], _dtype(entry)) for entry in entries}


def _shape(entry: onnx.ValueInfoProto, chosen: Mapping[str, int], turn: int) -> tuple[int, ...]:
    shape = []
    for axis, dim in enumerate(_dims(entry)):
        default = _SIZES[turn][min(axis, 2)]
        size = dim.dim_value if dim.HasField("dim_value") else chosen.get(_symbol(entry, axis), default)
        if size < 0:
            raise RequestError(f"input {entry.name!r} is declared as {written(entry)}, with a negative axis")
        shape.append(size)
    if len(shape) > _MOST_AXES:
        raise RequestError(f"input {entry.name!r} has {len(shape)} axes, more than the {_MOST_AXES} of a NumPy array")
    if np.prod([max(size, 1) for size in shape], dtype=object) > _LARGEST:
        raise RequestError(f"input {entry.name!r} of shape {tuple(shape)} is too large to be made up: give the inputs")
    return tuple(shape)


def _dims(entry: onnx.ValueInfoProto) -> Any:
    if not entry.type.HasField("tensor_type"):
        raise RequestError(f"input {entry.name!r} is no tensor: give the inputs")
    if not entry.type.tensor_type.HasField("shape"):
        raise RequestError(f"input {entry.name!r} is declared without a shape: give the inputs")
    return entry.type.tensor_type.shape.dim


def _symbols(entries: Sequence[onnx.ValueInfoProto]) -> set[str]:
    """Names of the axes that have no size of their own."""
    return {
        _symbol(entry, i) for entry in entries for i, dim in enumerate(_dims(entry)) if not dim.HasField("dim_value")
    }


def _symbol(entry: onnx.ValueInfoProto, axis: int) -> str:
    return _dims(entry)[axis].dim_param or f"{entry.name}.{axis}"


def _dtype(entry: onnx.ValueInfoProto) -> np.dtype[Any]:
    try:
        found: np.dtype[Any] = helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type)
    except (KeyError, ValueError):
        raise RequestError(f"input {entry.name!r} has elements of unknown type") from None
    return found


def _random(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Normal numbers; of integers those from 0 to 255 for bytes, else 0 and 1, which any table of ids has."""
    if dtype.kind in "iub":
        info = np.iinfo(dtype) if dtype.kind != "b" else None
        top = int(info.max) + 1 if info is not None and info.bits == 8 else 2
        return rng.integers(0, top, shape).astype(dtype)
    if dtype.kind not in "fV":
        raise RequestError(f"inputs of type {dtype} are not made up: give the inputs")
    return rng.standard_normal(shape).astype(dtype)


def written(entry: onnx.ValueInfoProto) -> str:
    """The declared shape in words."""
    sizes = (
        str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in entry.type.tensor_type.shape.dim
    )
    return f"({printable(', '.join(sizes))})"


def number_of(file: Path) -> int:
    """The place that a file of ONNX's test format has: 3 of ``input_3.pb``."""
    found = re.search(r"(\d+)\.pb$", file.name)
    return int(found[1]) if found else 0
