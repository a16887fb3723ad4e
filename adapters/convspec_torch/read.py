"""PyTorch layers and models → ConvSpec and ConvParams."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.overrides import TorchFunctionMode

from convspec.contract import ConvSpec, FoundConv, Reading, layouts, no_convolutions, refuse_shape
from convspec.contract.tracing import Answer, Array, layer_inference
from convspec.errors import ConvspecError, UnsupportedError
from convspec_torch import programs, weights
from convspec_torch.arguments import spec_of
from convspec_torch.functions import CALLS, bound, called, dtype_of, params_of

_ATTRIBUTES = (
    *("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"),
    *("padding_mode", "output_padding"),
)


def read(layer: Any, input_shape: Sequence[int] | None = None) -> Reading:
    """Return the one convolution that a module is or contains, its weights as in inference.

    Raises:
        UnsupportedError: where the module is more than that, or is lazy and has not been called.
    """
    layer = getattr(layer, "_orig_mod", layer)  # of torch.compile
    if isinstance(layer, torch.export.ExportedProgram):
        layer = layer.module()
    if not isinstance(layer, torch.nn.Module):
        raise UnsupportedError(f"{type(layer).__name__} is not a module of PyTorch")
    with _inference(layer):
        return _plain(layer) if is_plain(layer) else layer_inference.read(_runner(layer), input_shape)


def convs(model: Any, input_shape: Sequence[int] | None = None) -> list[FoundConv]:  # noqa: ARG001 – the contract's
    """Every convolution of a module or an exported program, each by itself; paths are those of ``named_modules``.

    Raises:
        UnsupportedError: where there is none, listing the kinds of its layers.
    """
    scripted = isinstance(model, torch.jit.ScriptModule) and model._c._has_method("forward")  # else only its modules
    if isinstance(model, torch.export.ExportedProgram) or scripted:
        return programs.convs(model)
    if not isinstance(model, torch.nn.Module):
        raise UnsupportedError(f"{type(model).__name__} is not a module of PyTorch")
    with _inference(model):
        found = [_found(path, module) for path, module in model.named_modules() if is_convolution(module)]
    if not found:
        kinds = {_listed(module) for module in model.modules()} - {_listed(model)}
        raise UnsupportedError(
            f"{no_convolutions(_kind(model), kinds)} (convolutions that are called as functions, F.conv2d, are listed "
            f"for the program that torch.export makes of it)"
        )
    return found


# -- plain layers ------------------------------------------------------------------------------------------------------


def is_convolution(module: torch.nn.Module) -> bool:
    """Whether this is one of PyTorch's convolutions, or was before it was scripted."""
    if isinstance(module, torch.jit.ScriptModule):
        return _kind(module) in [kind.__name__ for kind in weights.CONVOLUTIONS]
    return isinstance(module, weights.CONVOLUTIONS)


def is_plain(module: torch.nn.Module, *, hooked: bool = False) -> bool:
    """Whether this convolution computes as PyTorch's own classes do: no ``forward`` of its own, nor hooks."""
    if isinstance(module, torch.jit.ScriptModule):
        return is_convolution(module)
    base = next((kind for kind in weights.CONVOLUTIONS if isinstance(module, kind)), None)
    same = base and all(getattr(type(module), name) is getattr(base, name) for name in ("forward", "_conv_forward")
                        if hasattr(base, name))  # fmt: skip
    unhooked = not module._forward_hooks and all(map(_known, module._forward_pre_hooks.values()))
    return bool(same) and (hooked or unhooked)


def _known(hook: Any) -> bool:
    """Return whether a hook only sets the weight, which is read as the hook would set it."""
    sets = isinstance(hook, WeightNorm | SpectralNorm | BasePruningMethod)
    return sets or isinstance(getattr(hook, "__self__", None), LazyModuleMixin)


def _found(path: str, module: torch.nn.Module) -> FoundConv:
    if not is_plain(module):
        why = "has hooks" if is_plain(module, hooked=True) else "computes in its own way"
        return FoundConv(path, None, f"{_kind(module)} {why}: read it alone, with its input_shape")
    try:
        return FoundConv(path, _plain(module))
    except (ConvspecError, AttributeError) as error:
        return FoundConv(path, None, str(error))


def _kind(module: torch.nn.Module) -> str:
    return str(module.original_name if isinstance(module, torch.jit.ScriptModule) else type(module).__name__)


def _listed(module: torch.nn.Module) -> str:
    """Return the kind of a layer, with its module where PyTorch's convolutions have the same name (quantised ones)."""
    kind = _kind(module)
    return f"{type(module).__module__}.{kind}" if kind in [one.__name__ for one in weights.CONVOLUTIONS] else kind


def _plain(conv: Any) -> Reading:
    return Reading(spec_of_layer(conv), params_of(weight_of(conv), conv.bias), layouts.CHANNELS_FIRST,
                   dtype_of(conv.weight))  # fmt: skip


def spec_of_layer(conv: Any) -> ConvSpec:
    """Return the spec of a plain convolution from its attributes."""
    if not isinstance(conv, torch.jit.ScriptModule) and any(is_lazy(p) for p in conv.parameters(recurse=False)):
        raise UnsupportedError(f"{_kind(conv)} has no weights yet: call it once on an input")
    if not hasattr(conv, "kernel_size"):
        raise UnsupportedError(f"the traced {_kind(conv)} has kept its weights, but not its arguments")
    transposed = "Transpose" in _kind(conv) or isinstance(conv, torch.nn.modules.conv._ConvTransposeNd)
    arguments = {name: getattr(conv, name) for name in _ATTRIBUTES if hasattr(conv, name)}
    if not transposed:
        del arguments["output_padding"]
    return spec_of(arguments | {"bias": conv.bias is not None}, len(conv.kernel_size), transposed=transposed)


def weight_of(conv: Any) -> torch.Tensor:
    """The weight that ``forward`` would use: the old norms set theirs by a hook."""
    for hook in getattr(conv, "_forward_pre_hooks", {}).values():
        if isinstance(hook, SpectralNorm):
            return hook.compute_weight(conv, do_power_iteration=False)
        if isinstance(hook, WeightNorm):
            return hook.compute_weight(conv)
        if isinstance(hook, BasePruningMethod):
            return hook.apply_mask(conv)
    weight: torch.Tensor = conv.weight
    return weight


# -- layers with something around the convolution ----------------------------------------------------------------------


class _Answering(TorchFunctionMode):  # type: ignore[misc]
    """Makes convolutions return ``answer(reading, input)``."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in CALLS:
            return func(*args, **(kwargs or {}))
        ndim, transposed = CALLS[func]
        given, x, weight, bias = bound(func, args, kwargs or {})
        if x.ndim != ndim + 2:
            raise UnsupportedError("a convolution is called without a batch")
        y = self.answer(called(given, weight, bias, ndim, transposed), weights.array(x))
        return weights.tensor(y, weight.dtype, weight.device)


def _runner(layer: torch.nn.Module) -> Callable[[Array, Answer], Array]:
    if isinstance(layer, torch.jit.ScriptModule):
        raise UnsupportedError("a TorchScript module can be read only where it is a plain convolution; try convs")
    if any(is_lazy(p) for p in layer.parameters()):
        raise UnsupportedError(f"{_kind(layer)} contains lazy layers without weights: call it once on an input")
    like = next((p for p in layer.parameters() if p.is_floating_point()), torch.empty(0))

    def run(x: Array, answer: Answer) -> Array:
        with refuse_shape(x.shape), _Answering(answer):
            y = layer(weights.tensor(x, like.dtype, str(like.device)))
        if not isinstance(y, torch.Tensor):
            raise UnsupportedError(f"the layer returns {type(y).__name__}, not one tensor")
        return weights.array(y)

    return run


@contextmanager
def _inference(model: torch.nn.Module) -> Iterator[None]:
    """No gradients, and every module in evaluation: spectral norms change their buffers in training."""
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
