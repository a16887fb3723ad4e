"""Functions with learnt arrays: convolutions, norms, embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from convspec.contract.tracing import Link, NoWord
from convspec.spec import steps
from convspec_torch.functions import spec_of_call
from convspec_torch.network import VOCABULARY
from convspec_torch.steps.calls import FIRST, Builder, Call, Given, by_word, step_of, without_batch

COMPUTED = "its kernel is computed from the data"


def _convolution(ndim: int, transposed: bool) -> Builder:
    last = ("output_padding", "groups", "dilation") if transposed else ("dilation", "groups")

    def build(call: Call) -> Iterable[Link]:
        return convolution(call, call.given("weight", "bias", "stride", "padding", *last), ndim, transposed)

    return build


def convolution(call: Call, given: Mapping[str, Any], ndim: int, transposed: bool) -> Iterable[Link]:
    """Return the link of a convolution; a kernel that depends on the data is read as a tensor too."""
    given = dict(given)
    weight, bias = given.pop("weight"), given.pop("bias", None)
    given = {name: value for name, value in given.items() if value is not None}
    spec = spec_of_call(given, weight, bias, ndim, transposed)
    more = [t for t in (weight, bias) if t is not None and not call.learnt(t)]
    link = call.link(spec, *more, arrays={"kernel": weight, "bias": bias}, layout=FIRST, note=COMPUTED if more else "")
    return (link,) if call.x.ndim == ndim + 2 else without_batch(link)


def _general(call: Call) -> Iterable[Link]:
    """Return the link of ``aten::convolution``, for all numbers of axes."""
    given = call.given()
    ndim, transposed = given["weight"].ndim - 2, bool(given.get("transposed"))
    names = ("weight", "bias", "stride", "padding", "dilation", "groups", *(("output_padding",) * transposed))
    return convolution(call, {name: given[name] for name in names}, ndim, transposed)


# -- norms -------------------------------------------------------------------------------------------------------------


def _scale_and_bias(call: Call, given: Given) -> tuple[dict[str, Tensor | None], dict[str, Any]]:
    """Return the learnt arrays of a norm, and the fields that say which it has."""
    arrays = {"scale": given.get("weight"), "bias": given.get("bias")}
    _only_learnt(call, arrays)
    fields = {name: array is not None for name, array in arrays.items()}
    return arrays, fields | {"epsilon": float(given.get("eps", 1e-5))}


def _only_learnt(call: Call, arrays: Mapping[str, Tensor | None]) -> None:
    for name, array in arrays.items():
        if array is not None and not call.learnt(array):
            raise NoWord(f"its {name} is computed from the data")


def _batch_norm(call: Call, given: Given, batch: bool) -> Iterable[Link]:
    arrays, fields = _scale_and_bias(call, given)
    if not batch:
        arrays |= {"mean": given["running_mean"], "variance": given["running_var"]}
        _only_learnt(call, arrays)
    step = steps.BatchNorm(channels=call.x.shape[1], batch_statistics=batch, **fields)
    return (Link(step, (call.x,), call.results[:1], arrays, FIRST),)


def _order(call: Call) -> tuple[str, ...]:
    """Return the order of a norm's arrays: that of ``F``, or of ``torch``, which has one argument more."""
    learnt, stored = ("weight", "bias"), ("running_mean", "running_var")
    return (*learnt, *stored) if len(call.args) == 9 else (*stored, *learnt)


def _batch_norm_function(call: Call) -> Iterable[Link]:
    given = call.given(*_order(call), "training", "momentum", "eps")
    return _batch_norm(call, given, bool(given.get("training", False)))


def _batch_norm_operator(call: Call) -> Iterable[Link]:
    return _batch_norm(call, call.given(), batch=False)


def _instance_norm(call: Call) -> Iterable[Link]:
    given = call.given(*_order(call), "use_input_stats", "momentum", "eps")
    if not given.get("use_input_stats", True):
        return _batch_norm(call, given, batch=False)
    arrays, fields = _scale_and_bias(call, given)
    return (call.link(steps.InstanceNorm(channels=call.x.shape[1], **fields), arrays=arrays, layout=FIRST),)


def _norm(name: str, layout: str = "") -> Builder:
    """Return the builder of a norm that may have learnt arrays."""

    def build(call: Call) -> Link:
        given = call.given(*VOCABULARY.functions[name].parameters[0][1:])
        arrays = {"scale": given.get("weight"), "bias": given.get("bias")}
        _only_learnt(call, arrays)
        more = {"eps": torch.finfo(call.x.dtype).eps} if name == "rms_norm" and given.get("eps") is None else {}
        return Link(step_of(call, name, **more), (call.x,), call.results[:1], arrays, layout)

    return build


def _embedding(call: Call) -> Link:
    given = call.given("weight", "padding_idx", "max_norm")
    weight, ids = given.get("weight", call.x), call.x
    if call.x.is_floating_point():  # the operator has the weight first
        weight, ids = call.x, given.get("indices", weight)
    _only_learnt(call, {"weight": weight})
    note = "" if given.get("max_norm") is None else f"rows are scaled to the norm {given['max_norm']}"
    return Link(steps.Embedding(*weight.shape), (ids,), call.results, {"weight": weight}, note=note)


TABLE: dict[str, Builder] = {
    **dict.fromkeys(("convolution", "_convolution", "_convolution_mode"), _general),
    "batch_norm": _batch_norm_function,
    **dict.fromkeys(("_native_batch_norm_legit_no_training", "native_batch_norm"), _batch_norm_operator),
    "instance_norm": _instance_norm,
    **dict.fromkeys(("group_norm", "native_group_norm"), _norm("group_norm", FIRST)),
    **dict.fromkeys(("layer_norm", "native_layer_norm"), _norm("layer_norm")),
    "rms_norm": _norm("rms_norm"),
    "normalize": by_word("normalize"),
    "local_response_norm": by_word("local_response_norm"),
    "embedding": _embedding,
    **{f"conv{n}d": _convolution(n, transposed=False) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _convolution(n, transposed=True) for n in (1, 2, 3)},
}
