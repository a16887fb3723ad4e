"""Arrays of an ONNX graph: its initialisers, and those of its subgraphs and functions."""

from __future__ import annotations

from convspec.spec import Array
from convspec_onnx.loading import all_tensors, load_proto, to_array


def load_weights(path: str) -> dict[str, Array]:
    """Return all stored tensors by name; those without one are numbered.

    Raises:
        RequestError: for a file that breaks a rule of ONNX, or names data outside its folder.
    """
    found: dict[str, Array] = {}
    for number, tensor in enumerate(all_tensors(load_proto(path))):
        array = to_array(tensor)
        if array.dtype.kind in "biufV":
            found[tensor.name or f"constant {number}"] = array if array.dtype.kind != "V" else array.astype("float32")
    return found
