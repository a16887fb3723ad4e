"""Record convolutions that a module calls as functions – ``F.conv2d(x, self.w)`` – during a run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from convspec.contract import Call, ConvParams, ConvSpec, Part, Reading, known_dtype, layouts
from convspec.errors import ConvspecError, UnsupportedError
from convspec_torch import weights
from convspec_torch.arguments import REGULAR_CALL, TRANSPOSED_CALL, spec_of

NO_LAYER = "it is called as a function: no layer holds its weights"

CALLS = {
    torch.conv1d: (1, False), torch.conv2d: (2, False), torch.conv3d: (3, False),
    torch.conv_transpose1d: (1, True), torch.conv_transpose2d: (2, True), torch.conv_transpose3d: (3, True),
}  # fmt: skip


def params_of(weight: torch.Tensor, bias: torch.Tensor | None) -> ConvParams:
    """Return copies, which do not change when training continues."""
    dtype_of(weight)
    if weight.is_meta:
        raise UnsupportedError("the weights are on the device 'meta': there are no values to read")
    arrays = [None if t is None else np.array(weights.array(t), order="C") for t in (weight, bias)]
    assert arrays[0] is not None
    return ConvParams(arrays[0], arrays[1])


def dtype_of(weight: torch.Tensor) -> str:
    return known_dtype(str(weight.dtype).removeprefix("torch."))


def bound(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any, Any, Any]:
    """Return the settings, the input, the weight and the bias of a call of one of ``CALLS``."""
    names = TRANSPOSED_CALL if CALLS[func][1] else REGULAR_CALL
    given = {name: value for name, value in zip_longest(names, args) if value is not None} | dict(kwargs)
    return given, given.pop("input"), given.pop("weight"), given.pop("bias", None)


def called(
    arguments: dict[str, Any], weight: torch.Tensor, bias: torch.Tensor | None, ndim: int, transposed: bool
) -> Reading:
    """Return a call of the functional interface as a convolution."""
    spec = spec_of_call(arguments, weight, bias, ndim, transposed)
    return Reading(spec, params_of(weight, bias), layouts.CHANNELS_FIRST, dtype_of(weight))


def spec_of_call(
    arguments: Mapping[str, Any], weight: torch.Tensor, bias: torch.Tensor | None, ndim: int, transposed: bool
) -> ConvSpec:
    """Return the spec of a call of the functional interface."""
    groups = arguments.get("groups", 1)
    first, second = weight.shape[:2]
    channels = (first, second * groups) if transposed else (second * groups, first)
    numbers = {k: v if isinstance(v, str | int) else tuple(v) * (ndim // len(v)) for k, v in arguments.items()}
    numbers |= {"in_channels": channels[0], "out_channels": channels[1], "kernel_size": tuple(weight.shape[2:])}
    return spec_of(numbers | {"bias": bias is not None}, ndim, transposed=transposed)


class Functions(TorchFunctionMode):  # type: ignore[misc]
    """Records the convolutions that are called outside of the known layers.

    One that is called by a layer with its own computation has that layer's path; any other has the path of the calling
    module and its number there in the order of execution: ``block.conv2d_0``. A repeated call with the same settings
    and weights is another call of the same convolution.

    Attributes:
        parts: the convolutions that were called.
        calls: their inputs and outputs; the list is shared, so it also has calls that others append.
    """

    def __init__(self, known: Collection[str], own: Mapping[str, Part], calls: list[Call]) -> None:
        super().__init__()
        self.known, self.own, self.calls = known, own, calls
        self.stack: list[str] = []
        self._met: dict[tuple[str, str], list[Part]] = {}  # by module and function

    @property
    def parts(self) -> list[Part]:
        return [part for parts in self._met.values() for part in parts]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        y = func(*args, **(kwargs or {}))
        if func in CALLS and not any(path in self.known for path in self.stack):
            self._meet(func, args, kwargs or {}, y)
        return y

    def _meet(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], y: Any) -> None:
        ndim, transposed = CALLS[func]
        given, x, weight, bias = bound(func, args, kwargs)
        try:
            reading, problem = called(given, weight, bias, ndim, transposed), NO_LAYER
            arrays = [np.array(weights.array(t if t.ndim == ndim + 2 else t[None])) for t in (x, y)]
        except ConvspecError as error:
            reading, problem, arrays = None, str(error), []
        path = self._path(func.__name__, reading, problem)
        if arrays:
            self.calls.append(Call(path, *arrays))

    def entered(self, path: str) -> bool:
        """Return whether a convolution with this path was called already."""
        return any(part.path == path for part in self.parts)

    def _path(self, name: str, reading: Reading | None, problem: str) -> str:
        """Return the path of a part that is called again, or of a new one."""
        where = self.stack[-1] if self.stack else ""
        mine = self._met.setdefault((where, name), [])
        for part in mine:
            if _same(part.reading, reading):
                return part.path
        if where in self.own and not mine:
            own = self.own[where]
            part = Part(where, "conv", own.name, reading, own.arrays, problem=own.problem)
        else:
            part = Part(f"{where}.{name}_{len(mine)}".lstrip("."), "conv", name, reading, problem=problem)
        mine.append(part)
        return part.path

    @contextmanager
    def watching(self, model: torch.nn.Module) -> Iterator[None]:
        """Follow a run of the model; compiled and scripted modules are opaque."""

        def entering(path: str) -> Callable[..., None]:
            return lambda *_: self.stack.append(path)

        def left(*_: Any) -> None:
            self.stack.pop()

        modules = [both for both in model.named_modules() if not isinstance(both[1], torch.jit.ScriptModule)]
        with ExitStack() as hooks:
            for path, module in modules:
                hooks.callback(module.register_forward_pre_hook(entering(path), prepend=True).remove)
                hooks.callback(module.register_forward_hook(left, always_call=True).remove)
            if not any(hasattr(module, "_orig_mod") for _, module in modules):
                hooks.enter_context(self)
            yield


def _same(a: Reading | None, b: Reading | None) -> bool:
    if a is None or b is None:
        return a is b
    arrays = [(one.params.kernel, one.params.bias) for one in (a, b)]
    return a.spec == b.spec and all(
        (x is None) == (y is None) and (x is None or np.array_equal(x, y, equal_nan=True))
        for x, y in zip(*arrays, strict=True)
    )
