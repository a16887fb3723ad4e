"""Write the pack: ``manifest.json``, ``index.tsv``, the arrays of each vector, and backend tests of a graph format."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from convspec.atomic_files import write_file
from convspec.corpora.pack.vectors import Vector, draw_vectors
from convspec.errors import RequestError

VERSION = 1  # of the content: a change of any byte is a new version
GRAPHS = "onnx"
_HERE = Path(__file__).parent
_FRACTIONS = ("bound", "scale")  # arrays that are float64 in every kind of vector
Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Pack:
    """A written pack: the number of vectors and backend tests, all bytes, and the hash that stands for all of them."""

    vectors: int
    graphs: int
    size: int
    sha256: str


def write(folder: Path, graph_test: Callable[[Vector], Files]) -> Pack:
    """Write the pack into a new or empty folder.

    Args:
        graph_test: returns the files of a vector as a backend test; none where the format cannot express it.

    Raises:
        RequestError: if the folder is not empty or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise RequestError(f"{folder} must be a new or an empty folder")
        return _write(folder, graph_test)
    except OSError as error:
        raise RequestError(f"cannot write {error.filename or folder}: {error.strerror or error}") from None


def _write(folder: Path, graph_test: Callable[[Vector], Files]) -> Pack:
    hashes: dict[str, str] = {}
    sizes = 0

    def put(name: str, content: bytes) -> None:
        nonlocal sizes
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_file(folder / name, content)
        hashes[name] = sha256(content).hexdigest()
        sizes += len(content)

    entries, rows = [], []
    for vector in draw_vectors():
        put(f"vectors/{vector.id}.bin", b"".join(_bytes(vector, name) for name in vector.arrays))
        files = graph_test(vector)
        for name, content in files.items():
            put(f"{GRAPHS}/{vector.id}/{name}", content)
        entries.append(_entry(vector) | {"graph": f"{GRAPHS}/{vector.id}" if files else None})
        rows.append(_row(vector))
    index = "".join("\t".join(row) + "\n" for row in (rows[0], *(row.values() for row in rows)))
    put("index.tsv", index.encode())
    put("README.txt", (_HERE / "README.txt").read_text("utf-8").encode())
    manifest = _manifest(entries, hashes)
    put("manifest.json", manifest.encode())
    graphs = sum(entry["graph"] is not None for entry in entries)
    return Pack(len(entries), graphs, sizes, hashes["manifest.json"])


def _type(vector: Vector, name: str) -> str:
    return "float64" if vector.kind == "random" or name in _FRACTIONS else "int32"


def _bytes(vector: Vector, name: str) -> bytes:
    stored = vector.arrays[name].astype(np.dtype(_type(vector, name)).newbyteorder("<"))
    assert np.array_equal(stored, vector.arrays[name]), (vector.id, name)
    return stored.tobytes()


def _row(vector: Vector) -> dict[str, str]:
    """Return the line of the index, by column."""
    spec, (pads, output_padding) = vector.spec, vector.numbers
    y = next((vector.arrays[name].shape for name in ("y", "dy", "lower") if name in vector.arrays), ())
    columns: dict[str, Iterable[int]] = {
        "stride": spec.stride, "dilation": spec.dilation, "pads": [n for pair in pads for n in pair],
        "output_padding": output_padding, "x": vector.arrays["x"].shape, "kernel": spec.kernel_shape, "y": y,
        "zeros": vector.zeros,
    }  # fmt: skip
    texts = {name: ",".join(map(str, numbers)) or "-" for name, numbers in columns.items()}
    words = {
        "id": vector.id, "kind": vector.kind, "layout": vector.layout, "dtype": vector.dtype,
        "transposed": str(int(spec.transposed)), "groups": str(spec.groups), "mode": spec.padding_mode,
    }  # fmt: skip
    return words | texts | {"arrays": ",".join(vector.arrays)}


def _entry(vector: Vector) -> dict[str, Any]:
    pads, output_padding = vector.numbers
    arrays, offset = [], 0
    for name, array in vector.arrays.items():
        kind = _type(vector, name)
        arrays.append({"name": name, "type": kind, "shape": list(array.shape), "offset": offset})
        offset += array.size * (8 if kind == "float64" else 4)
    own = {"x_zero": vector.zeros[0], "y_zero": vector.zeros[1], "x_scale": vector.scales[0],
           "y_scale": vector.scales[1], "w_scales": list(vector.scales[2:])} if vector.scales else None  # fmt: skip
    return {
        "id": vector.id, "title": vector.title, "kind": vector.kind, "layout": vector.layout, "dtype": vector.dtype,
        "spec": vector.spec.to_dict(), "pads": [list(pair) for pair in pads], "output_padding": list(output_padding),
        "quantization": own, "features": vector.features, "file": f"vectors/{vector.id}.bin", "arrays": arrays,
    }  # fmt: skip


def _manifest(entries: list[dict[str, Any]], hashes: dict[str, str]) -> str:
    """Return the manifest's JSON, one line for each vector, so that two versions can be compared line by line."""
    about = json.loads((_HERE / "about.json").read_text("utf-8"))
    counts: dict[str, dict[str, int]] = {}
    for name in entries[0]["features"]:
        counts[name] = dict(sorted(Counter(entry["features"][name] for entry in entries).items()))
    head = {"schema": about.pop("schema"), "version": VERSION, **about, "features": counts, "files": hashes}
    lines = [json.dumps(entry, separators=(",", ":"), allow_nan=False) for entry in entries]
    text = json.dumps(head, indent=1, ensure_ascii=False)
    return text.removesuffix("\n}") + ',\n "vectors": [\n' + ",\n".join(lines) + "\n]}\n"
