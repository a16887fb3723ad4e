"""How much memory the oracle takes: at most four times its input, kernel and output in float64."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from convspec import ConvParams, ConvSpec, reference

LAYERS = {
    "3x3": (ConvSpec(32, 48, 3, padding=1), (1, 32, 60, 52)),
    "3x3, large batch": (ConvSpec(8, 12, 3, padding=1), (32, 8, 30, 26)),
    "5x5, many taps, one filter": (ConvSpec(512, 1, 5, padding=2), (1, 512, 24, 20)),
    "7x7, stride 2": (ConvSpec(3, 32, 7, stride=2, padding=3), (1, 3, 160, 150)),
    "1x1": (ConvSpec(96, 64, 1), (2, 96, 40, 44)),
    "1x1, stride 2": (ConvSpec(96, 64, 1, stride=2), (2, 96, 40, 44)),
    "patches": (ConvSpec(3, 96, 16, stride=16), (1, 3, 224, 208)),
    "depthwise 3x3": (ConvSpec(64, 64, 3, padding=1, groups=64), (1, 64, 56, 50)),
    "depthwise 31x31 on 9x8": (ConvSpec(256, 256, 31, padding=15, groups=256), (1, 256, 9, 8)),
    "groups": (ConvSpec(128, 128, 3, padding=1, groups=16), (1, 128, 40, 36)),
    "dilation far beyond the input": (ConvSpec(256, 16, 3, padding=36, dilation=36), (1, 256, 33, 30)),
    "depthwise, dilation far beyond the input": (
        ConvSpec(256, 256, 3, padding=36, dilation=36, groups=256),
        (1, 256, 33, 30),
    ),
    "groups, dilation far beyond the input": (
        ConvSpec(256, 8, 3, padding=36, dilation=36, groups=2),
        (1, 256, 33, 30),
    ),
    "circular": (ConvSpec(24, 24, 5, padding=2, padding_mode="circular"), (1, 24, 60, 64)),
    "1-D": (ConvSpec(16, 24, 9, padding=8, dilation=2, ndim=1), (2, 16, 4000)),
    "3-D": (ConvSpec(8, 12, 3, padding=1, ndim=3), (1, 8, 20, 24, 28)),
    "3-D, one slice": (ConvSpec(16, 4, (5, 3, 3), padding=(0, 1, 1)), (1, 16, 5, 40, 44)),
    "transposed": (ConvSpec(48, 32, 4, stride=2, padding=1, transposed=True), (1, 48, 28, 26)),
    "transposed, stride 1": (ConvSpec(48, 32, 5, padding=2, transposed=True), (1, 48, 44, 40)),
    "transposed, depthwise": (ConvSpec(64, 64, 4, 2, 1, groups=64, transposed=True), (1, 64, 28, 26)),
}


def peak(function: Callable[..., Any], *args: Any) -> int:
    """Bytes that were allocated at once, beyond those of the arguments."""
    tracemalloc.start()
    try:
        function(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def problem(name: str, dtype: str) -> tuple[ConvSpec, ConvParams, np.ndarray, int]:
    """A layer with its arrays, and the bytes that input, kernel and output have in float64."""
    spec, shape = LAYERS[name]
    params, x = ConvParams.random(spec, dtype=dtype), np.ones(shape, dtype)
    size = 8 * (x.size + params.kernel.size + math.prod(spec.output_shape(shape)))
    assert size >= 1 << 20
    return spec, params, x, size


@pytest.mark.parametrize("name", LAYERS)
def test_peak_memory(name: str) -> None:
    spec, params, x, size = problem(name, "float32")
    for function in (reference.conv, reference.magnitude):
        assert peak(function, spec, params, x) <= 4 * size


@pytest.mark.parametrize("name", ["3x3", "patches", "circular", "depthwise 31x31 on 9x8", "transposed"])
def test_peak_memory_of_gradients(name: str) -> None:
    spec, params, x, size = problem(name, "float64")
    dy = np.ones(spec.output_shape(x.shape))
    assert peak(reference.gradient_magnitudes, spec, params, x, dy) <= 6 * size


def test_the_measure_sees_a_whole_unfolded_input() -> None:
    _, shape = LAYERS["3x3"]

    def unfolded(x: np.ndarray) -> np.ndarray:
        return np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3)).copy()

    x = np.ones(shape)
    size = 8 * (x.size + 48 * 32 * 9 + 48 * 60 * 52)
    assert peak(unfolded, x) > 3 * size
