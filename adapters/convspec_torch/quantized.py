"""Quantised layers: the modules of ``torch.ao.nn.quantized``, by each engine of this PyTorch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, cast

import numpy as np
import torch

from convspec.contract import Array, ConvParams, ConvSpec, Plan, QuantizedForm, QuantSpec
from convspec.errors import UnsupportedError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that torchao is to follow
    from torch.ao.nn import quantized as modules

_FLOAT_BIAS = ("onednn", "x86")  # add it to scaled sums
_TYPES = ("uint8", "int8", "uint8")


def quantized(plan: Plan, quant: QuantSpec, params: ConvParams, variant: str) -> tuple[QuantizedForm, ...]:
    """Return PyTorch's quantised module by each engine that packs it; its bias is float, as PyTorch takes it."""
    spec = plan.spec
    if variant != "default":
        raise UnsupportedError("PyTorch's quantised modules are run in the variant default")
    pads = () if isinstance(spec.padding, str) else spec.padding  # a word: they depend on the input
    if not pads or plan.reasons or spec.padding_mode != "zeros" or any(lo != hi for lo, hi in pads):
        raise UnsupportedError("PyTorch's quantised modules are channels first and pad both sides alike, with zeros")
    if (quant.input, quant.weight, quant.output) != _TYPES or not quant.symmetric or quant.activation != "none":
        raise UnsupportedError("PyTorch's quantised modules take uint8 data and symmetric int8 weights")
    forms = []
    for engine in torch.backends.quantized.supported_engines:
        with suppress(RuntimeError), _engine(engine):  # of an engine that lacks the layer
            layer = _pack(spec, [lo for lo, _ in pads], quant, params)
            run = partial(_run, layer, quant, engine)
            forms.append(QuantizedForm(engine, layer, run, integer_sums=engine not in _FLOAT_BIAS))
    if not forms:
        raise UnsupportedError("no engine of this PyTorch has the quantised layer")
    return tuple(forms)


def _pack(spec: ConvSpec, pads: list[int], quant: QuantSpec, params: ConvParams) -> torch.nn.Module:
    kind = getattr(modules, f"Conv{'Transpose' if spec.transposed else ''}{spec.ndim}d")
    more = {"output_padding": spec.output_padding} if spec.transposed else {}
    layer: Any = kind(spec.in_channels, spec.out_channels, spec.kernel_size, spec.stride, pads, dilation=spec.dilation,
                      groups=spec.groups, bias=spec.bias, **more)  # fmt: skip
    scales, kernel = quant.weight_scale, torch.from_numpy(np.ascontiguousarray(params.kernel))
    if isinstance(scales, tuple):
        numbers, zeros = torch.tensor(scales, dtype=torch.double), torch.zeros(len(scales), dtype=torch.long)
        weight = torch._make_per_channel_quantized_tensor(kernel, numbers, zeros, int(spec.transposed))
    else:
        weight = torch._make_per_tensor_quantized_tensor(kernel, scales, 0)
    bias = None
    if params.bias is not None:
        bias = torch.from_numpy((params.bias * quant.input_scale * np.asarray(scales)).astype(np.float32))
    layer.set_weight_bias(weight, bias)
    layer.scale, layer.zero_point = quant.output_scale, quant.output_zero
    return cast(torch.nn.Module, layer)


def _run(layer: torch.nn.Module, quant: QuantSpec, engine: str, x: Array) -> Array:
    with _engine(engine):
        given = torch._make_per_tensor_quantized_tensor(torch.from_numpy(x), quant.input_scale, quant.input_zero)
        y: Array = layer(given).int_repr().numpy()
    return y


@contextmanager
def _engine(name: str) -> Iterator[None]:
    """Choose an engine, and the one before again at the end: it is a setting of the process."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that quantised tensors will be removed
            yield
    finally:
        torch.backends.quantized.engine = before
