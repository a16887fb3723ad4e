"""Arrays of Keras' files of weights: HDF5, by itself or in a ``.keras`` archive; no link is followed."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import h5py
import numpy as np

from convspec.errors import RequestError, printable
from convspec.spec import Array


def load_weights(path: str) -> dict[str, Array]:
    """Return all datasets of the file by name.

    Raises:
        RequestError: where the file is broken, or has data in other files.
    """
    source: str | io.BytesIO = path
    if path.endswith(".keras"):
        with zipfile.ZipFile(path) as archive:
            name = "model.weights.h5"
            if name not in archive.namelist():
                raise RequestError(f"{printable(path)} is not a Keras file: it has no {name}")
            source = io.BytesIO(archive.read(name))
    found: dict[str, Array] = {}
    with h5py.File(source, "r") as file:
        _collect(file, "", found, Path(path).name)
    return found


def _collect(group: h5py.Group, prefix: str, found: dict[str, Array], file: str) -> None:
    for name in group:
        path = f"{prefix}{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise RequestError(f"{printable(file)}: {printable(path)} is a link, which is not followed")
        item = group[name]
        if isinstance(item, h5py.Group):
            _collect(item, f"{path}/", found, file)
        elif item.external or item.is_virtual:
            raise RequestError(f"{printable(file)}: {printable(path)} has its data in another file, which is not read")
        elif item.dtype.kind in "biuf":
            found[path] = np.asarray(item[()])
