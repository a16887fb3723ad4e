"""Functions that pad, cut, reorder or join elements."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from convspec.contract import tracing
from convspec.contract.tracing import Link, NoWord, slice_range
from convspec.spec import steps
from convspec.spec.steps import Step
from convspec_torch.network.meanings import pad, reshape
from convspec_torch.steps.calls import FIRST, Builder, Call, by_word

# -- pads and channels -------------------------------------------------------------------------------------------------


def _pad(call: Call) -> Link:
    given = call.given("pad", "mode", "value")
    numbers = given["pad"] if "pad" in given else given["padding"]
    return call.link(pad(numbers, given.get("mode", "constant"), given.get("value")))


def _pad_operator(mode: str) -> Builder:
    return lambda call: call.link(pad(call.given("padding")["padding"], mode))


def _channels(make: Callable[[int], Step], *names: str) -> Builder:
    def build(call: Call) -> Link:
        given = call.given(names[0])
        value = next((given[name] for name in names if name in given), None)
        if value is None or call.x.ndim != 4:
            raise NoWord("" if value is None else f"on {call.x.ndim} axes")
        return call.link(make(value), layout=FIRST)

    return build


def _shuffle(call: Call) -> Link:
    return call.link(steps.ChannelShuffle(call.given("groups")["groups"]), layout=FIRST)


# -- shapes ------------------------------------------------------------------------------------------------------------


def _reshape(call: Call) -> Link:
    return call.link(reshape(call.sizes("shape", "size")))


def _view(call: Call) -> Link:
    if any(isinstance(a, torch.dtype) for a in (*call.args[1:], *call.kwargs.values())):
        raise NoWord("as another dtype")
    return _reshape(call)


def _squeeze(call: Call) -> Link:
    """Return the link of a squeeze; PyTorch leaves axes that are larger than 1, the step refuses them."""
    axes = call.sizes("dim")
    if not axes and (len(call.args) > 1 or "dim" in call.kwargs):
        return call.link(steps.Identity())
    kept = tuple(axis for axis in axes if call.x.shape[axis] == 1)
    return call.link(steps.Identity() if axes and not kept else steps.Squeeze(kept))


def _permutation(move: Callable[..., Tensor] | None = None) -> Builder:
    """Return the builder of a function that reorders axes: it is asked on a tensor whose sizes name its axes."""

    def build(call: Call) -> Link:
        probe = torch.empty(tuple(range(2, call.x.ndim + 2)), device="meta")
        function = move or getattr(Tensor, call.name)
        kwargs = {name: value for name, value in call.kwargs.items() if value is not call.x}
        return call.link(steps.Permute(tuple(n - 2 for n in function(probe, *call.args[1:], **kwargs).shape)))

    return build


def _repeat(call: Call) -> Iterable[Link]:
    return tracing.tile_links(call.x, call.y, call.sizes("repeats", "sizes", "dims"))


def _repeat_interleave(call: Call) -> Iterable[Link]:
    given = call.given("repeats", "dim")
    count, dim = given["repeats"], given.get("dim")
    if not isinstance(count, int) or dim is None:
        raise NoWord
    return tracing.repeat_links(call.x, call.y, count, dim, Tensor.unsqueeze, Tensor.expand)


# -- parts -------------------------------------------------------------------------------------------------------------


def _slice(call: Call) -> Link:
    given = call.given("dim", "start", "end", "step")
    axis = given.get("dim", 0) % call.x.ndim
    end = given.get("end")
    part = slice(given.get("start"), None if end is None or end >= call.x.shape[axis] else end, given.get("step", 1))
    return call.link(_along(axis, part))


def _narrow(call: Call) -> Link:
    given = call.given("dim", "start", "length")
    axis, start = given["dim"] % call.x.ndim, int(given["start"])
    start %= max(call.x.shape[axis], 1)
    return call.link(_along(axis, slice(start, start + given["length"])))


def _along(axis: int, part: slice) -> Step:
    ranges = [(None, None, 1)] * axis + [slice_range(part)]
    return steps.Slice(ranges) if ranges[-1] != (None, None, 1) else steps.Identity()


def _split(call: Call) -> Link:
    given = call.given("size", "dim")
    axis = given.get("dim", 0)
    return call.link(steps.Split([y.shape[axis] for y in call.results], axis))


def _unbind(call: Call) -> Iterable[Link]:
    axis = call.given("dim").get("dim", 0) % call.x.ndim
    return tracing.unstack_links(call.x, call.results, axis, Tensor.unsqueeze)


def _flip(call: Call) -> Link:
    axes = {axis % call.x.ndim for axis in call.sizes("dims")}
    return call.link(steps.Slice([(None, None, -1 if i in axes else 1) for i in range(call.x.ndim)]))


def _roll(call: Call) -> Iterable[Link]:
    """Yield the links of a roll: along each axis the last part is moved before the first."""
    given = call.given("shifts", "dims")
    shifts, dims = (tuple(n) if isinstance(n, tuple | list) else (n,) for n in (given["shifts"], given.get("dims", ())))
    if not dims:
        raise NoWord("of all elements as one axis")
    x = call.x
    for number, (shift, dim) in enumerate(zip(shifts, dims, strict=True), 1):
        axis, at = dim % x.ndim, -shift % max(x.shape[dim], 1)
        last, first = x.narrow(axis, at, x.shape[axis] - at), x.narrow(axis, 0, at)
        y = call.y if number == len(dims) else torch.cat((last, first), axis)
        yield Link(_along(axis, slice(at, None)), (x,), (last,))
        yield Link(_along(axis, slice(None, at)), (x,), (first,))
        yield Link(steps.Concat(axis), (last, first), (y,))
        x = y


# -- joins -------------------------------------------------------------------------------------------------------------


def _listed(call: Call) -> list[Tensor]:
    if not isinstance(call.operand, tuple | list):
        raise NoWord
    return list(call.operand)


def _concat(call: Call) -> Link:
    joined = [t for t in _listed(call) if t.shape != (0,)]  # PyTorch skips empty tensors of one axis
    return Link(steps.Concat(call.given("dim").get("dim", 0)), joined, call.results)


def _stack(call: Call) -> Iterable[Link]:
    joined = _listed(call)
    axis = call.given("dim").get("dim", 0) % (joined[0].ndim + 1)
    return tracing.stack_links(joined, call.y, axis, Tensor.unsqueeze)


TABLE: dict[str, Builder] = {
    "pad": _pad,
    "constant_pad_nd": _pad,
    **{f"{word}_pad{n}d": _pad_operator(mode) for n in (1, 2, 3) for word, mode in
       (("reflection", "reflect"), ("replication", "replicate"))},
    "pixel_shuffle": _channels(steps.PixelShuffle, "upscale_factor"),
    "pixel_unshuffle": _channels(steps.PixelUnshuffle, "downscale_factor"),
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle"), _shuffle),
    **dict.fromkeys(("reshape", "_unsafe_view", "_reshape_copy"), _reshape),
    "view": _view,
    **dict.fromkeys(("unflatten", "view_as", "reshape_as"), lambda call: call.link(reshape(tuple(call.y.shape)))),
    **{name: by_word(name) for name in ("ravel", "flatten", "unsqueeze", "select")},
    "squeeze": _squeeze,
    **dict.fromkeys(("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t"), _permutation()),
    **dict.fromkeys(("T", "numpy_T"), _permutation(lambda probe: probe.permute(*reversed(range(probe.ndim))))),
    **dict.fromkeys(("mT", "adjoint"), _permutation(lambda probe: probe.transpose(-2, -1))),
    "expand": lambda call: call.link(steps.Expand(call.sizes("size", "sizes"))),
    **dict.fromkeys(("expand_as", "broadcast_to"), lambda call: call.link(steps.Expand(tuple(call.y.shape)))),
    **dict.fromkeys(("repeat", "tile"), _repeat),
    "repeat_interleave": _repeat_interleave,
    "getitem": lambda call: tracing.index_links(call.x, call.args[1], call.y, call.x.ndim, operator.getitem),
    "slice": _slice,
    "narrow": _narrow,
    **dict.fromkeys(("split", "chunk", "tensor_split", "split_with_sizes", "unsafe_split", "unsafe_chunk"), _split),
    "unbind": _unbind,
    "flip": _flip,
    "roll": _roll,
    **dict.fromkeys(("cat", "concat", "concatenate"), _concat),
    "stack": _stack,
}  # fmt: skip
