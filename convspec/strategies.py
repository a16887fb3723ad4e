"""Hypothesis strategies for layers and cases; they shrink towards small, readable layers.

``hypothesis`` is not a requirement of convspec: install it to use this module.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import gcd
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from convspec.corpora import Case
from convspec.errors import ShapeError, UnknownName
from convspec.spec import PADDING_MODES, Chain, ConvSpec

FEATURES = ("stride", "dilation", "padding", "groups", "bias", "output_padding")
Draw = Callable[[st.SearchStrategy[Any]], Any]


def _per_axis(ndim: int, least: int, most: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[st.integers(least, most)] * ndim)


@st.composite
def specs(
    draw: Draw,
    *,
    ndims: tuple[int, ...] = (1, 2, 3),
    transposed: bool | None = None,
    padding_modes: tuple[str, ...] = PADDING_MODES,
    max_kernel: int = 4,
    max_channels: int = 6,
    having: Collection[str] = (),
    lacking: Collection[str] = (),
) -> ConvSpec:
    """Draw valid specs: every form of padding, every mode, groups, dilation, transposed layers with output padding.

    Args:
        draw: provided by hypothesis.
        ndims: numbers of spatial axes to draw from.
        transposed: True or False for one kind only; None for both.
        padding_modes: modes to draw from.
        max_kernel: largest number of taps along an axis (two fewer with three axes, at least 2).
        max_channels: largest number of input and output channels.
        having: features of every layer, from :data:`FEATURES`: a stride, a dilation, padding, groups, a bias, output
            padding (of transposed layers only).
        lacking: features of no layer.

    Raises:
        UnknownName: if a feature is not in :data:`FEATURES`.
    """
    for name in (*having, *lacking):
        if name not in FEATURES:
            raise UnknownName("feature", name, FEATURES)
    ndim = draw(st.sampled_from(ndims))
    largest = max_kernel if ndim < 3 else max(max_kernel - 2, 2)
    groups = draw(st.just(1) if "groups" in lacking else st.integers(1 + ("groups" in having), 3))
    channels = st.integers(1, max(max_channels // groups, 1)).map(lambda n: n * groups)
    is_transposed = draw(st.booleans()) if transposed is None else transposed
    if transposed is None and "output_padding" in having:
        is_transposed = True
    limits = (largest, 1 if "stride" in lacking else 3, 1 if "dilation" in lacking else 3 if ndim < 3 else 2)
    kernel, stride, dilation = (draw(_per_axis(ndim, 1, limit)) for limit in limits)
    padding = 0 if "padding" in lacking else draw(_paddings(ndim, transposed=is_transposed))
    output_padding: int | tuple[int, ...] = 0
    if is_transposed and padding != "same" and "output_padding" not in lacking:
        largest_pads = [max(s, d) - 1 for s, d in zip(stride, dilation, strict=True)]
        output_padding = draw(st.just(0) | st.tuples(*[st.integers(0, n) for n in largest_pads]))
    spec = ConvSpec(
        draw(channels), draw(channels), kernel, stride=stride, padding=padding, dilation=dilation, groups=groups,
        bias="bias" not in lacking and ("bias" in having or draw(st.booleans())),
        padding_mode="zeros" if is_transposed else draw(st.sampled_from(padding_modes)), transposed=is_transposed,
        output_padding=output_padding,
    )  # fmt: skip
    assume(all(_has(spec, name) for name in having))
    return spec


def _paddings(ndim: int, *, transposed: bool) -> st.SearchStrategy[Any]:
    words = ["valid", "same"] if transposed else ["valid", "same", "same_lower"] + ["causal"] * (ndim == 1)
    pairs = st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * ndim)
    return st.integers(0, 2) | _per_axis(ndim, 0, 2) | pairs | st.sampled_from(words)


def _has(spec: ConvSpec, feature: str) -> bool:
    """Whether a layer has one of :data:`FEATURES`; a word such as "same" counts as padding, whatever its numbers."""
    value = getattr(spec, feature)
    plain = {"stride": 1, "dilation": 1, "output_padding": 0}
    if feature in plain:
        return bool(max(value) > plain[feature])
    if feature == "padding":
        return isinstance(value, str) or any(map(any, value))
    return bool(value > 1 if feature == "groups" else value)


@st.composite
def cases(draw: Draw, *, layers: st.SearchStrategy[ConvSpec] | None = None, max_size: int = 9) -> Case:
    """Draw cases whose input fits the layer, float32, with exact data.

    Args:
        draw: provided by hypothesis.
        layers: specs to draw from; default :func:`specs`.
        max_size: largest length of a spatial axis.
    """
    spec = draw(specs() if layers is None else layers)
    spatial = draw(st.tuples(*[st.integers(1, max_size)] * spec.ndim))
    shape = (draw(st.integers(1, 3)), spec.in_channels, *spatial)
    try:
        spec.output_shape(shape)
    except ShapeError:
        assume(False)
    return Case(spec, shape, seed=draw(st.integers(0, 2**16)))


@st.composite
def chains(draw: Draw, *, max_layers: int = 3, layers: st.SearchStrategy[ConvSpec] | None = None) -> Chain:
    """Draw sequences of layers that fit: equal numbers of spatial axes, and the output channels of the layer before.

    Args:
        draw: provided by hypothesis.
        max_layers: largest number of layers in a chain; at least 1.
        layers: specs to draw from; default :func:`specs`. From the second layer on, input channels are the output
            channels of the layer before, and groups are changed to divide them.
    """
    source = specs() if layers is None else layers
    chain = [draw(source)]
    for _ in range(draw(st.integers(0, max_layers - 1))):
        spec = draw(source)
        assume(spec.ndim == chain[0].ndim)
        channels = chain[-1].out_channels
        fitting = {"in_channels": channels, "groups": gcd(spec.groups, channels)}
        chain.append(ConvSpec.from_dict(spec.to_dict() | fitting))
    return Chain(chain)


@st.composite
def invalid_fields(draw: Draw) -> tuple[dict[str, Any], str]:
    """Draw the fields of a layer with one invalid field, and its name.

    All other fields are valid: ``ConvSpec(**fields)`` raises a SpecError with a sentence that begins with ``name=``.
    """
    fields = draw(specs()).to_dict()
    ndim, transposed = len(fields["kernel_size"]), fields["transposed"]
    below = st.integers(-3, 0)
    wrong_type = st.sampled_from([None, "3", 1.5, True])
    wrong: dict[str, st.SearchStrategy[Any]] = {
        "in_channels": below | wrong_type,
        "out_channels": below | wrong_type,
        "groups": below | wrong_type | st.just(fields["in_channels"] + 1),
        "kernel_size": below | wrong_type | _per_axis(ndim, -2, 0),
        "stride": below | wrong_type | _per_axis(ndim, -2, 0),
        "dilation": below | wrong_type | _per_axis(ndim, -2, 0),
        "padding": st.integers(-3, -1) | st.sampled_from(["SAME", "full", None, 0.5]),
        "bias": st.sampled_from([None, 1, "yes"]),
        "transposed": st.sampled_from([None, 1, "yes"]),
        "padding_mode": st.sampled_from(["constant", "REFLECT", None, 0]),
        "output_padding": st.integers(-3, -1) | (st.integers(9, 12) if transposed else st.integers(1, 3)),
    }
    name = draw(st.sampled_from(sorted(wrong)))
    return {**fields, name: draw(wrong[name])}, name
