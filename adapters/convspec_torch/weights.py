"""Weights and data between NumPy and PyTorch, whose kernels have the canonical order already."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from convspec.contract import Array, ConvParams
from convspec.errors import UnsupportedError

CONVOLUTIONS = (
    *(torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d),
    *(torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d),
)


def convolution(layer: torch.nn.Module) -> Any:
    """Return the one convolution that ``layer`` is or contains.

    Raises:
        UnsupportedError: if there is none, or more than one.
    """
    found = [module for module in layer.modules() if isinstance(module, CONVOLUTIONS)]
    if len(found) != 1:
        raise UnsupportedError(f"{type(layer).__name__} has {len(found)} convolutions of PyTorch, but must have one")
    return found[0]


def load(conv: Any, params: ConvParams, device: str, memory_format: Any = torch.contiguous_format) -> None:
    """Give ``conv`` parameters of its own dtype with copies of these values, in one transfer to the device."""
    dtype = conv.weight.dtype
    kernel = tensor(params.kernel, dtype, device).contiguous(memory_format=memory_format)
    conv.weight = torch.nn.Parameter(kernel)
    if params.bias is not None:
        conv.bias = torch.nn.Parameter(tensor(params.bias, dtype, device))


def tensor(values: Array, dtype: Any, device: str) -> torch.Tensor:
    """Return a tensor with its own memory; bfloat16 values are given in float32."""
    return torch.from_numpy(np.array(values, order="C")).to(device=device, dtype=dtype)


def array(values: torch.Tensor) -> Array:
    """Return the values on the host; bfloat16 as float32."""
    values = values.detach().cpu()
    result: Array = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return result
