"""Conv and ConvTranspose nodes as text → ConvSpec, and the meaning of their attributes, which ``read`` shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convspec.contract import ConstructorCall, parse_call
from convspec.errors import CallError, SpecError
from convspec.spec import ConvSpec

_ATTRIBUTES = "kernel_shape strides pads dilations group auto_pad output_padding output_shape"
_FREE = "name doc_string domain overload"
_SIGNATURE = ", ".join(["W", *(f"{name}=None" for name in f"B {_ATTRIBUTES} {_FREE}".split())])


def parse(text: str, in_channels: int | None = None) -> ConvSpec:
    """Return the spec of ``Conv(W=[16, 3, 3, 3], B=[16], strides=[2, 2], pads=[1, 1, 1, 1])``; W and B are shapes.

    Also reads ``helper.make_node("Conv", ["x", "w", "b"], ["y"], W=[16, 3, 3, 3], …)``, where the number of inputs
    decides whether the layer has a bias.

    Raises:
        CallError: for another text, with the position.
        SpecError: for a layer that breaks a rule.
    """
    call = parse_call(text)
    if call.function == "make_node":
        call = _from_make_node(call)
    if call.function not in ("Conv", "ConvTranspose"):
        raise CallError(text, f"{call.function} is not a convolution; expected Conv or ConvTranspose")
    arguments = call.bind(_SIGNATURE, _FREE.split())
    weight, bias = arguments["W"], arguments["B"]
    if not isinstance(weight, tuple) or len(weight) < 3 or not all(type(n) is int and n > 0 for n in weight):
        raise CallError(text, "W must be the weight's shape, such as [16, 3, 3, 3]")
    spec = spec_of(arguments, weight, bias=bool(bias), transposed=call.function == "ConvTranspose")
    if in_channels not in (None, spec.in_channels):
        raise CallError(text, f"W={list(weight)} has {spec.in_channels} input channels, not {in_channels}")
    return spec


def _from_make_node(call: ConstructorCall) -> ConstructorCall:
    if len(call.args) < 2 or not isinstance(call.args[0], str) or not isinstance(call.args[1], tuple):
        raise CallError(call.text, 'make_node needs an operator and its inputs: make_node("Conv", ["x", "w"], ["y"])')
    given = {k: v for k, v in call.kwargs.items() if k not in ("inputs", "outputs")}
    if "W" not in given:
        raise CallError(call.text, "the channels are unknown: add the weight's shape, W=[16, 3, 3, 3]")
    given.setdefault("B", len(call.args[1]) > 2 and call.args[1][2] != "")
    return ConstructorCall(call.text, call.args[0], (), given)


def spec_of(attributes: Mapping[str, Any], weight: Sequence[int], *, bias: bool, transposed: bool) -> ConvSpec:
    """Return the spec of a node with these attributes and a weight of this shape.

    ``auto_pad`` of a transposed node is resolved by the standard: length L·s, the odd pixel cropped at the end for
    SAME_UPPER and at the start for SAME_LOWER.

    Raises:
        SpecError: for attributes that contradict the weight, and those whose meaning depends on the runtime
            (``output_shape``; ``auto_pad`` together with ``output_padding``).
    """
    kernel = tuple(attributes.get("kernel_shape") or weight[2:])
    if kernel != tuple(weight[2:]):
        raise SpecError([f"kernel_shape={list(kernel)} must equal the weight's, {list(weight[2:])}"])
    ndim, groups = len(kernel), attributes.get("group") or 1
    auto = attributes.get("auto_pad") or "NOTSET"
    if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise SpecError([f"auto_pad={auto!r} must be NOTSET, VALID, SAME_UPPER or SAME_LOWER"])
    if attributes.get("output_shape"):
        raise SpecError(["output_shape must not be given: runtimes differ in the rows that they drop; write pads"])
    flat = attributes.get("pads") or (0,) * 2 * ndim
    if len(flat) != 2 * ndim:
        raise SpecError([f"pads={list(flat)} must hold {2 * ndim} numbers: all begins, then all ends"])
    extra = tuple(attributes.get("output_padding") or (0,) * ndim)
    padding: Any = tuple(zip(flat[:ndim], flat[ndim:], strict=True))
    if auto != "NOTSET":
        padding = {"VALID": "valid", "SAME_UPPER": "same", "SAME_LOWER": "same_lower"}[auto]
    strides, dilations = (tuple(attributes.get(key) or (1,) * ndim) for key in ("strides", "dilations"))
    if transposed and auto.startswith("SAME"):
        if any(extra):
            raise SpecError([f"auto_pad={auto!r} must not be used with output_padding: runtimes disagree on its size"])
        if auto == "SAME_LOWER":
            padding, extra = _same_lower_crops(kernel, strides, dilations)
    first, second = (weight[0], weight[1] * groups) if transposed else (weight[1] * groups, weight[0])
    return ConvSpec(first, second, kernel, strides, padding, dilations, groups, bias, transposed=transposed,
                    output_padding=extra, ndim=ndim)  # fmt: skip


def _same_lower_crops(kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> tuple[Any, Any]:
    over = [(k - 1) * d + 1 - s for k, s, d in zip(kernel, strides, dilations, strict=True)]
    crops = tuple((max(t, 0) - max(t, 0) // 2, max(t, 0) // 2) for t in over)
    return crops, tuple(max(-t, 0) for t in over)
