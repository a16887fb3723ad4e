"""Layers in messages between the parent and the child process of a model file: JSON and safetensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec.contract import Part, Reading
from convspec.errors import UnsupportedError
from convspec.spec import ConvParams, ConvSpec

if TYPE_CHECKING:
    from pathlib import Path

    from convspec.models.run_model import Array

    Message = dict[str, Any]
    Entries = list[Message]


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays of numbers to a file; raises UnsupportedError for other elements."""
    from safetensors.numpy import save_file

    for array in arrays.values():
        if array.dtype.kind not in "fiub":
            raise UnsupportedError(f"a tensor of {array.dtype} is not an array of numbers")
    save_file({name: np.array(array, order="C") for name, array in arrays.items()}, path)


def read_arrays(path: Path) -> dict[str, Array]:
    """Return the arrays that :func:`write_arrays` wrote."""
    from safetensors.numpy import load_file

    return load_file(path)


def pack_readings(readings: Iterable[Reading | None], arrays: dict[str, Array]) -> Entries:
    """Return readings as JSON; their kernels and biases go into ``arrays``, by position."""
    entries: Entries = []
    for place, reading in enumerate(readings):
        if reading is None:
            entries.append({})
            continue
        arrays[f"{place}.kernel"] = reading.params.kernel
        if reading.params.bias is not None:
            arrays[f"{place}.bias"] = reading.params.bias
        entries.append({"spec": reading.spec.to_dict(), "layout": reading.layout, "dtype": reading.dtype})
    return entries


def unpack_readings(entries: Entries, arrays: Mapping[str, Array]) -> list[Reading | None]:
    """Return the readings that :func:`pack_readings` packed; raises ConvspecError if an array does not fit its spec."""
    found: list[Reading | None] = []
    for place, entry in enumerate(entries):
        if not entry:
            found.append(None)
            continue
        spec = ConvSpec.from_dict(entry["spec"])
        params = ConvParams(arrays[f"{place}.kernel"], arrays.get(f"{place}.bias"))
        params.check(spec)
        found.append(Reading(spec, params, str(entry["layout"]), str(entry["dtype"])))
    return found


def pack_parts(parts: Sequence[Part], arrays: dict[str, Array]) -> Entries:
    """Return layers as JSON; all their arrays go into ``arrays``."""
    readings = pack_readings((part.reading for part in parts), arrays)
    entries: Entries = []
    for place, (part, reading) in enumerate(zip(parts, readings, strict=True)):
        arrays.update({f"{place}.{name}": array for name, array in part.arrays.items()})
        entries.append({
            "path": part.path, "kind": part.kind, "name": part.name, "reading": reading, "arrays": list(part.arrays),
            "epsilon": part.epsilon, "axis": part.axis, "problem": part.problem,
        })  # fmt: skip
    return entries


def unpack_parts(entries: Entries, arrays: Mapping[str, Array]) -> list[Part]:
    """Return the layers that :func:`pack_parts` packed."""
    readings = unpack_readings([entry["reading"] for entry in entries], arrays)
    return [
        Part(
            str(entry["path"]), str(entry["kind"]), str(entry["name"]), reading,
            {str(name): arrays[f"{place}.{name}"] for name in entry["arrays"]},
            float(entry["epsilon"]), int(entry["axis"]), str(entry["problem"]),
        )
        for place, (entry, reading) in enumerate(zip(entries, readings, strict=True))
    ]  # fmt: skip
