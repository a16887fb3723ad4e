"""Hypothesis strategies for layers and cases; they shrink towards small, readable layers.

``hypothesis`` is not among convspec's own requirements: install it beside convspec to use this module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from convspec.cases import Case
from convspec.errors import ShapeError
from convspec.fields import PADDING_MODES
from convspec.spec import ConvSpec

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
) -> ConvSpec:
    """Valid specs: every form of padding, every mode, groups, dilation, transposed layers with output padding.

    Args:
        draw: given by hypothesis.
        ndims: numbers of spatial axes to draw from.
        transposed: True or False for one kind only; None for both.
        padding_modes: modes to draw from.
        max_kernel: most taps along an axis (two fewer with three axes, at least 2).
        max_channels: most channels, in and out.
    """
    ndim = draw(st.sampled_from(ndims))
    most = max_kernel if ndim < 3 else max(max_kernel - 2, 2)
    groups = draw(st.integers(1, 3))
    channels = st.integers(1, max(max_channels // groups, 1)).map(lambda n: n * groups)
    is_transposed = draw(st.booleans()) if transposed is None else transposed
    kernel, stride, dilation = (draw(_per_axis(ndim, 1, top)) for top in (most, 3, 3 if ndim < 3 else 2))
    words = ["valid", "same"] if is_transposed else ["valid", "same", "same_lower"] + ["causal"] * (ndim == 1)
    pairs = st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * ndim)
    padding = draw(st.integers(0, 2) | _per_axis(ndim, 0, 2) | pairs | st.sampled_from(words))
    extra: int | tuple[int, ...] = 0
    if is_transposed and padding != "same":
        limits = [max(s, d) - 1 for s, d in zip(stride, dilation, strict=True)]
        extra = draw(st.just(0) | st.tuples(*[st.integers(0, n) for n in limits]))
    return ConvSpec(
        draw(channels),
        draw(channels),
        kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode="zeros" if is_transposed else draw(st.sampled_from(padding_modes)),
        transposed=is_transposed,
        output_padding=extra,
    )


@st.composite
def cases(draw: Draw, *, layers: st.SearchStrategy[ConvSpec] | None = None, max_size: int = 9) -> Case:
    """Cases whose input fits the layer, float32, with exact data.

    Args:
        draw: given by hypothesis.
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
