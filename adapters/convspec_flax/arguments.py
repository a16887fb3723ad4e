"""The arguments of Flax' convolutions as a spec, of nnx and linen: of constructors and layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convspec.contract import ConvSpec
from convspec.errors import SpecError


def spec_of(arguments: Mapping[str, Any], *, transposed: bool) -> ConvSpec:
    """The spec of a layer with these nnx constructor arguments or attributes.

    An int ``kernel_size`` means one spatial axis. ``'CIRCULAR'`` and ``'REFLECT'`` pad ((ke-1)//2, ke//2) whatever
    the stride. Explicit pads (a, b) of a transposed layer pad the dilated input: they crop ke-1-a and ke-1-b.
    A ``Conv`` with an ``input_dilation`` is a transposed layer of that stride, its kernel flipped.
    """
    if not transposed and dilates_input(arguments):
        arguments, transposed = _undilated(arguments), True
    kernel = _numbers(arguments["kernel_size"])
    ndim = len(kernel)
    strides, dilation = (_numbers(arguments.get(key) or 1, ndim) for key in ("strides", "kernel_dilation"))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    given = arguments.get("padding", "SAME")
    word = given.upper() if isinstance(given, str) else None
    padding: Any = _pairs(given, ndim) if word is None else word.lower()
    mode, extra = "zeros", (0,) * ndim
    if word in ("CIRCULAR", "REFLECT") and not transposed:
        mode, padding = word.lower(), tuple(((ke - 1) // 2, ke // 2) for ke in spans)
    elif word not in (None, "SAME", "VALID", *(() if transposed else ("SAME_LOWER", "CAUSAL"))):
        raise SpecError([f"padding={given!r} must be 'SAME', 'VALID' or numbers here"])
    if transposed and word == "VALID":
        extra = tuple(max(s - ke, 0) for s, ke in zip(strides, spans, strict=True))
    elif transposed and word is None:
        padding, extra = _crops(padding, spans)
    return ConvSpec(
        arguments["in_features"], arguments["out_features"], kernel, strides, padding, dilation,
        groups=arguments.get("feature_group_count") or 1, bias=arguments.get("use_bias", True), padding_mode=mode,
        transposed=transposed, output_padding=extra, ndim=ndim,
    )  # fmt: skip


def dilates_input(arguments: Mapping[str, Any]) -> bool:
    """Whether a ``Conv`` is a transposed layer in disguise.

    With groups, which ConvTranspose lacks, ``input_dilation`` marks it even where it is 1 on every axis.
    """
    dilation = arguments.get("input_dilation") or 1
    written = isinstance(dilation, tuple | list) and (arguments.get("feature_group_count") or 1) > 1
    return written or any(d != 1 for d in _numbers(dilation))


def _undilated(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the transposed layer that a ``Conv`` with an ``input_dilation`` is."""
    ndim = len(_numbers(arguments["kernel_size"]))
    padding = arguments.get("padding", "SAME")
    if isinstance(padding, str) and padding.upper() != "VALID":
        raise SpecError([f"padding={padding!r} must be numbers where the input is dilated"])
    if any(s != 1 for s in _numbers(arguments.get("strides") or 1, ndim)):
        raise SpecError([f"strides={arguments['strides']!r} must be 1 where the input is dilated"])
    pads = 0 if isinstance(padding, str) else padding
    return {**arguments, "strides": _numbers(arguments["input_dilation"], ndim), "padding": pads}


def _numbers(value: Any, ndim: int = 1) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,) * ndim


def _pairs(padding: Any, ndim: int) -> list[tuple[int, int]]:
    return [(p, p) if isinstance(p, int) else (p[0], p[1]) for p in _numbers(padding, ndim)]


def _crops(pads: list[tuple[int, int]], spans: list[int]) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...]]:
    """Crops and output padding of pads of the dilated input."""
    if any(a > ke - 1 for (a, _), ke in zip(pads, spans, strict=True)):
        most = [ke - 1 for ke in spans]
        raise SpecError([f"padding={pads!r} must not exceed {most} in front: ConvSpec cannot express it"])
    crops = tuple((ke - 1 - a, max(ke - 1 - b, 0)) for (a, b), ke in zip(pads, spans, strict=True))
    return crops, tuple(max(b - ke + 1, 0) for (_, b), ke in zip(pads, spans, strict=True))
