"""Build and run PyTorch layers."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from convspec.contract import Array, ConvParams, Gradients, Plan, check_layout, layouts
from convspec.errors import PlacementError, ShapeError, UnsupportedError
from convspec_torch import weights

_OVERRUN = "on this processor, PyTorch's oneDNN writes beyond its buffer in the kernel's gradient of such a layer"
_CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


class _NoInitialisation(TorchFunctionMode):  # type: ignore[misc]
    """Leaves parameters uninitialised: it saves time, and leaves the user's random generator alone."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return None if getattr(func, "__module__", None) == "torch.nn.init" else func(*args, **(kwargs or {}))


def build(plan: Plan, params: ConvParams, device: str, variant: str = "default") -> torch.nn.Module:
    """The layer that the plan's text defines, with these weights, on the device.

    Raises:
        PlacementError: where this PyTorch has no such device.
    """
    _check_device(device)
    with _NoInitialisation():
        layer: torch.nn.Module = plan.execute()
    weights.load(weights.convolution(layer), params, device, _memory_format(variant, plan.spec.ndim))
    return _compiled(layer) if variant == "compile" else layer


def apply(layer: torch.nn.Module, x: Array, layout: str, device: str, variant: str = "default") -> Array:
    """The layer's output for ``x``, both ``layout``, on the host."""
    with torch.no_grad():
        return weights.array(_run(layer, _input(layer, x, layout, device, variant)))


def gradients(
    layer: torch.nn.Module, x: Array, dy: Array, layout: str, device: str, variant: str = "default"
) -> Gradients:
    """Gradients of ⟨layer(x), dy⟩ by autograd; the layer's own ``.grad`` stay as they are.

    Raises:
        UnsupportedError: where computing them would damage the process.
    """
    conv = weights.convolution(layer)
    inputs = _input(layer, x, layout, device, variant).requires_grad_()
    wanted = [inputs, conv.weight] + ([] if conv.bias is None else [conv.bias])
    y = _run(layer, inputs)
    if y.shape != dy.shape:
        raise ShapeError(f"dy has shape {dy.shape}, but the output has {tuple(y.shape)}")
    moved = variant != "default" or layouts.family(layout, y.ndim - 2) == layouts.CHANNELS_LAST
    if moved and _overruns(conv, inputs):
        raise UnsupportedError(_OVERRUN)
    found = [weights.array(g) for g in torch.autograd.grad(y, wanted, weights.tensor(dy, y.dtype, device))]
    return Gradients(found[0], found[1], found[2] if len(found) == 3 else None)


def _overruns(conv: Any, x: torch.Tensor) -> bool:
    """Whether oneDNN writes beyond its buffer in the gradient of the kernel of a channels-last layer."""
    channels = conv.out_channels if conv.transposed else conv.in_channels
    return bool(
        x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.cpu.get_cpu_capability() == "AVX2"
        and x.ndim == 4 and len(x) > 1 and 1 < channels < 8 and conv.groups == 1
        and max(conv.kernel_size) == 1 and max(conv.stride) > 1
    )  # fmt: skip


def devices() -> tuple[str, ...]:
    """``cpu``, and ``cuda`` where PyTorch sees a GPU."""
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def configure(*, precision: str, threads: int | None, variant: str = "default", **_: str) -> None:
    """Set the number of threads; with precision ``strict`` no float32 work is done in tf32 or bfloat16.

    The compiler is started once, on a layer of no account: its first run takes many times as long as any other.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if precision == "strict":
        torch.backends.fp32_precision = "ieee"
    if variant == "compile":
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no processes of its own
        _compiled(torch.nn.Conv2d(1, 1, 2))(torch.zeros(1, 1, 3, 3))


def _compiled(layer: torch.nn.Module) -> torch.nn.Module:
    """Return the layer that Inductor compiles when it first runs.

    All layers of a class share one limit of compilations, after which they would run uncompiled, in silence: earlier
    ones are forgotten, and ``fullgraph`` makes it an error.
    """
    torch._dynamo.reset()
    compiled: torch.nn.Module = torch.compile(layer, fullgraph=True, dynamic=False)
    return compiled


def _check_device(device: str) -> None:
    if device.partition(":")[0] not in devices():
        raise PlacementError(f"this PyTorch cannot run on {device!r}, only on {', '.join(devices())}")


def _input(layer: torch.nn.Module, x: Array, layout: str, device: str, variant: str) -> torch.Tensor:
    """``x`` on the device, checked against the layer; only bfloat16 is converted, from float32."""
    conv = weights.convolution(layer)
    ndim = len(conv.kernel_size)
    if conv is getattr(layer, "_orig_mod", layer) and layouts.family(layout, ndim) == layouts.CHANNELS_LAST:
        raise ShapeError(f"{type(layer).__name__} takes {layouts.name('NCHW', ndim)} only, not {layout}")
    check_layout(x, conv.in_channels, layout, ndim)
    _check_device(device)
    bfloat16 = conv.weight.dtype == torch.bfloat16
    tensor = weights.tensor(x, torch.bfloat16 if bfloat16 else None, device)
    if layouts.family(layout, ndim) == layouts.CHANNELS_FIRST:
        tensor = tensor.contiguous(memory_format=_memory_format(variant, ndim))
    return tensor


def _run(layer: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The output, after a check of where and in which dtype it was computed."""
    y: torch.Tensor = layer(x)
    if y.device.type != x.device.type or y.dtype != x.dtype:
        raise PlacementError(f"asked for {x.dtype} on {x.device.type}, but got {y.dtype} on {y.device.type}")
    return y


def _memory_format(variant: str, ndim: int) -> Any:
    return _CHANNELS_LAST[ndim] if variant == "channels_last" else torch.contiguous_format
