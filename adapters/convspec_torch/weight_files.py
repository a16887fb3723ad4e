"""Arrays of PyTorch's files of weights: tensors only, nothing else that a pickle can hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pickle import UnpicklingError
from typing import Any

import torch

from convspec.errors import RequestError, printable
from convspec.spec import Array


def load_weights(path: str) -> dict[str, Array]:
    """Return all tensors of a file by name; those of nested dictionaries with dots.

    Raises:
        RequestError: where the file holds more than tensors.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        said = printable(str(error).split("\n")[0])
        raise RequestError(f"{printable(path)} holds more than tensors: save model.state_dict() ({said})") from None
    return {name: _array(tensor) for name, tensor in _tensors(stored, "")}


def _tensors(stored: Any, path: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(stored, torch.Tensor):
        yield path or "tensor", stored
    elif isinstance(stored, Mapping | list | tuple):
        items = stored.items() if isinstance(stored, Mapping) else enumerate(stored)
        for name, value in items:
            yield from _tensors(value, f"{path}.{name}" if path else str(name))


def _array(tensor: torch.Tensor) -> Array:
    dense = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    array: Array = (dense.float() if dense.dtype == torch.bfloat16 else dense).numpy()
    return array
