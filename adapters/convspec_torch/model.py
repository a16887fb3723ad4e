"""PyTorch models: their layers with weights, the inputs and outputs of these in a run, and new weights for them."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.weight_norm import WeightNorm

from convspec.contract import Array, Call, ModelTrace, Part, refuse_inputs
from convspec.errors import UnsupportedError
from convspec_torch import programs, read, weights
from convspec_torch.functions import Functions
from convspec_torch.steps import own_convolution, tensors_of, trace_steps, traces_plainly

__all__ = ["parameters", "parts", "results", "save", "trace_model", "trace_steps", "traces_plainly", "widen", "write"]

_REWRITTEN = ("_g", "_v", "_orig")  # of weight norms and pruning: the weight that they make is a part's
_MADE = 4.0  # roundings of a weight that is made of a length and a direction
_BATCH = nn.modules.batchnorm._BatchNorm
_INSTANCE = nn.modules.instancenorm._InstanceNorm
_NORMS = (_BATCH, _INSTANCE, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def parts(model: Any) -> list[Part]:
    """All convolutions, norms and linear layers, in the order of ``named_modules``; a program's in that of its text."""
    if programs.is_program(model):
        return programs.parts(model)
    if not isinstance(model, nn.Module):
        raise UnsupportedError(f"{type(model).__name__} is not a module of PyTorch: compare runs modules")
    with read._inference(model):
        return [part for path, module in model.named_modules() if (part := _part(path, module))]


def _part(path: str, module: Any) -> Part | None:
    name = type(module).__name__
    if read.is_convolution(module):
        conv = read._found(path, module)
        if conv.reading is None and not isinstance(module, torch.jit.ScriptModule):
            return own_convolution(path, module)
        return Part(path, "conv", name, conv.reading, problem=conv.problem, made=_is_made(module, "weight"))
    if isinstance(module, _NORMS):
        arrays = {ours: _array(module, theirs) for ours, theirs in programs.NORM_ARRAYS.items()
                  if getattr(module, theirs, None) is not None}  # fmt: skip
        return Part(path, "norm", name, arrays=arrays, **_norm(module))
    if isinstance(module, nn.Linear):
        arrays = {"kernel": np.array(weights.array(read.weight_of(module)))}
        if module.bias is not None:
            arrays["bias"] = _array(module, "bias")
        return Part(path, "linear", name, arrays=arrays, made=_is_made(module, "weight"))
    return None


def _norm(module: Any) -> dict[str, Any]:
    """The settings of a norm, as a part has them; a subclass with a ``forward`` of its own has no known form."""
    base = next(kind for kind in _NORMS if isinstance(module, kind))
    own = {"epsilon": float(module.eps or 0.0), "axis": 1}
    if isinstance(module, nn.RMSNorm) and module.eps is None:
        own["epsilon"] = torch.finfo(torch.float32).eps
    if type(module).forward is not base.forward:
        return own
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        kind = "layer" if isinstance(module, nn.LayerNorm) else "rms"
        return own | {"norm": kind, "axis": -1, "axes": tuple(range(-len(module.normalized_shape), 0))}
    if isinstance(module, nn.GroupNorm):
        return own | {"norm": "group", "groups": module.num_groups}
    if isinstance(module, _INSTANCE) and module.running_var is None:
        return own | {"norm": "group", "groups": module.num_features}
    return own | {"norm": "batch"}


def parameters(model: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of all parameters, by the path of their module and a part's name for them."""
    if programs.is_program(model):
        return {}
    names = {theirs: ours for ours, theirs in programs.NORM_ARRAYS.items()} | {"bias": "shift"}
    found: dict[str, tuple[int, ...]] = {}
    for path, module in model.named_modules():
        if "parametrizations" in path.split("."):
            continue  # the weight that they make is a part's
        layer = read.is_convolution(module) or isinstance(module, nn.Linear)
        ours = names if isinstance(module, _NORMS) else {"weight": "kernel"} if layer else {}
        found |= {f"{path}/{ours.get(name, name)}": tuple(p.shape) for name, p in module.named_parameters(recurse=False)
                  if not (read.is_convolution(module) and name.endswith(_REWRITTEN))}  # fmt: skip
    return found


def widen(model: Any) -> Any:
    """A copy that computes in float64."""
    return copy.deepcopy(model).double()


def _array(module: Any, name: str) -> Array:
    return np.array(weights.array(getattr(module, name)))


def trace_model(model: Any, inputs: Sequence[Array] | Mapping[str, Array]) -> ModelTrace:
    """Run the model once in evaluation mode, without gradients.

    Its ``parts`` are the convolutions called as functions, which replace parts of the same paths.
    """
    if programs.is_program(model):
        return programs.trace_model(model, inputs)
    calls: list[Call] = []
    wanted = {part.path: part for part in parts(model)}
    own = {path: part for path, part in wanted.items() if part.kind == "conv" and part.reading is None}
    functions = Functions({path for path, part in wanted.items() if part.kind == "conv"} - set(own), own, calls)
    listed, named = tensors_of(model, inputs)

    def hook(path: str) -> Callable[..., None]:
        def listen(_: Any, args: Any, kwargs: Any, y: Any) -> None:
            if path in own and functions.entered(path):
                return  # the function's own input and output are noted already
            x = args[0] if args else next(iter(kwargs.values()))
            calls.append(Call(path, np.array(weights.array(x)), np.array(weights.array(y))))

        return listen

    with ExitStack() as hooks:
        for path, module in model.named_modules():
            if path in wanted and not isinstance(module, torch.jit.ScriptModule):
                hooks.callback(module.register_forward_hook(hook(path), with_kwargs=True).remove)
        with refuse_inputs("PyTorch model"), read._inference(model), functions.watching(model):
            y = model(*listed, **named)
    return ModelTrace(calls, [np.array(weights.array(t)) for t in programs.tensors(y)], functions.parts)


def results(model: Any, inputs: Sequence[Array] | Mapping[str, Array]) -> list[Array]:
    """The results of one run in evaluation mode, without gradients."""
    if programs.is_program(model):
        return programs.trace_model(model, inputs).outputs
    listed, named = tensors_of(model, inputs)
    with refuse_inputs("PyTorch model"), read._inference(model):
        y = model(*listed, **named)
    return [np.array(weights.array(t)) for t in programs.tensors(y)]


def write(model: Any, arrays: Mapping[str, Mapping[str, Array]]) -> Any:
    """Copy the arrays into the model's own parameters and buffers; returns the model."""
    if programs.is_program(model):
        return programs.write(model, arrays)
    modules = dict(model.named_modules())
    with torch.no_grad(), read._inference(model):
        for path, own in arrays.items():
            for name, values in own.items():
                _set(modules.get(path), path, programs.ARRAYS.get(name, name), values)
    return model


def _set(module: Any, path: str, name: str, values: Array) -> None:
    """Set a parameter, or the parameters that make a weight.

    Raises:
        UnsupportedError: if there is none, or the weight that they make is another; they are as before then.
    """
    target = getattr(module, name, None)
    if not isinstance(target, torch.Tensor):
        raise UnsupportedError(f"{path} has no parameter {name}")
    new = weights.tensor(values, target.dtype, str(target.device))
    if not _is_made(module, name):
        target.copy_(new)
        return
    before = {key: value.clone() for key, value in module.state_dict().items()}
    norm = next((h for h in module._forward_pre_hooks.values() if isinstance(h, WeightNorm) and h.name == name), None)
    if norm is not None:
        getattr(module, f"{name}_v").copy_(new)
        getattr(module, f"{name}_g").copy_(torch.norm_except_dim(new, 2, norm.dim))
    elif parametrize.is_parametrized(module, name):
        setattr(module, name, new)
    else:
        getattr(module, f"{name}_orig").copy_(new)
    found = read.weight_of(module)
    if not bool((found - new).abs().le(_MADE * torch.finfo(new.dtype).eps * new.abs()).all()):
        module.load_state_dict(before)
        raise UnsupportedError(
            f"the {name} of {path} cannot be set: what makes it of other parameters (a spectral norm, a mask) gives "
            f"other numbers; remove that first"
        )


def _is_made(module: Any, name: str) -> bool:
    """Whether a tensor of a module is made of other parameters, by a parametrisation or a hook."""
    own = (f"{name}_orig", f"{name}_v")
    return parametrize.is_parametrized(module, name) or any(n in module._parameters for n in own)


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """The model's state dict, in PyTorch's own format."""
    torch.save(model.state_dict(), path)
