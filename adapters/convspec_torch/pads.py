"""Pads right before the convolutions of PyTorch models: modules in a Sequential, calls of ``F.pad``, graphs' nodes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from convspec.errors import UnsupportedError
from convspec.folding import Pad, described
from convspec_torch import programs, read

_MODULE = re.compile(r"(Zero|Constant|Reflection|Replication|Circular)Pad([123])d")
_OPERATOR = re.compile(r"aten\.(constant_pad_nd|pad|(?:reflection|replication)_pad[123]d)\.default")


def before(model: Any, input_shape: Sequence[int] | None) -> dict[str, list[Pad | str]]:
    """By the path of each convolution, the pads before it, the nearest first.

    A module's are those that a run on an input of that shape meets; without a shape, those that stand before it in a
    Sequential.
    """
    if isinstance(model, torch.export.ExportedProgram):
        nodes = [node for node in model.graph.nodes if node.op == "call_function" and programs._operator(node)]
        return {programs._path(node): list(_chain(node.args[0])) for node in nodes}
    if input_shape is None or isinstance(model, torch.jit.ScriptModule):
        return _in_sequences(model)
    return _met(model, input_shape)


# -- modules in a Sequential -------------------------------------------------------------------------------------------


def _in_sequences(model: torch.nn.Module) -> dict[str, list[Pad | str]]:
    found: dict[str, list[Pad | str]] = {}
    paths = {id(module): path for path, module in model.named_modules()}
    for module in model.modules():
        if read._kind(module) != "Sequential":
            continue
        pads: list[Pad | str] = []
        for inner in module.children():
            if read.is_convolution(inner):
                found[paths[id(inner)]] = pads[::-1]
            pad = _of_module(inner)
            pads = [*pads, pad] if pad is not None else []
    return found


def _of_module(module: Any) -> Pad | str | None:
    """What a module pads; None where it is no pad."""
    match = _MODULE.fullmatch(read._kind(module))
    if match is None:
        return None
    mode = "constant" if match[1] == "Constant" else match[1].lower()
    return _described(tuple(module.padding), mode, getattr(module, "value", 0), int(match[2]))


def _described(flat: Sequence[Any], mode: str, value: Any, ndim: int) -> Pad | str:
    """A pad written as PyTorch does: (before, after) from the last axis on."""
    if not all(isinstance(n, int) for n in flat):
        return "it depends on the input's size"
    pairs = [(flat[i], flat[i + 1]) for i in range(0, len(flat), 2)][::-1]
    return described(mode, [(0, 0)] * (ndim + 2 - len(pairs)) + pairs, 0 if value is None else value)


# -- exported programs -------------------------------------------------------------------------------------------------


def _chain(node: Any) -> Iterator[Pad | str]:
    while isinstance(node, torch.fx.Node):
        match = _OPERATOR.fullmatch(str(node.target))
        if match is None:
            return
        x, flat, *rest = node.args
        value = next(iter(rest[-1:]), node.kwargs.get("value"))
        mode = {"constant_pad_nd": "constant", "pad": str(next(iter(rest), "constant"))}.get(
            match[1], match[1].partition("_")[0]
        )
        value = value if mode == "constant" and not isinstance(value, str) else 0
        yield _described(flat, mode, value, len(x.meta["val"].shape) - 2)
        node = x


# -- what a run meets --------------------------------------------------------------------------------------------------


class _Noting(TorchFunctionMode):  # type: ignore[misc]
    """Keeps, for every tensor that a pad returned, what was padded and how."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, tuple[torch.Tensor, torch.Tensor, Pad | str]] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        y = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") == "pad" and isinstance(y, torch.Tensor):
            given = dict(zip(("input", "pad", "mode", "value"), args, strict=False)) | dict(kwargs or {})
            x = given["input"]
            pad = _described(tuple(given["pad"]), given.get("mode", "constant"), given.get("value"), x.ndim - 2)
            self.made[id(y)] = y, x, pad
        return y

    def behind(self, x: torch.Tensor) -> Iterator[Pad | str]:
        """The pads that made ``x``, the last first."""
        while id(x) in self.made:
            _, x, pad = self.made[id(x)]
            yield pad


def _met(model: torch.nn.Module, input_shape: Sequence[int]) -> dict[str, list[Pad | str]]:
    found: dict[str, list[Pad | str]] = {}
    noting = _Noting()

    def hook(path: str) -> Callable[[Any, tuple[Any, ...], Mapping[str, Any]], None]:
        def note(_: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            pads = list(noting.behind(args[0] if args else kwargs["input"]))
            if found.setdefault(path, pads) != pads:
                found[path] = ["it is called several times, with other pads before it"]

        return note

    convs = [(path, module) for path, module in model.named_modules() if read.is_convolution(module)]
    handles = [module.register_forward_pre_hook(hook(path), with_kwargs=True) for path, module in convs]
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    try:
        with read._inference(model), noting:
            model(torch.zeros(tuple(input_shape), dtype=like.dtype, device=like.device))
    except Exception as error:
        raise UnsupportedError(f"an input of shape {tuple(input_shape)} cannot be given to it: {error}") from error
    finally:
        for handle in handles:
            handle.remove()
    return found
