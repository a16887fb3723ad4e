"""Data of quantised layers: types by kind; scales, zero points and integers by a seed.

============================ =========================================================================================
``int8``                     a scale for each output channel, weights symmetric
``int8_per_tensor``          one scale for all weights
``int8_relu``                ``int8`` with a ReLU
``uint8``                    int8 weights of at most 64, so that no pair of products saturates in 16 bits
``uint8_asymmetric``         uint8 weights with a zero point, and one scale
============================ =========================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convspec.spec import INTEGERS, Array, ConvParams, ConvSpec, QuantSpec, forward_products

_KINDS: dict[str, tuple[str, str, bool, str]] = {  # types of data and weights, a scale for each channel, activation
    "int8": ("int8", "int8", True, "none"),
    "int8_per_tensor": ("int8", "int8", False, "none"),
    "int8_relu": ("int8", "int8", True, "relu"),
    "uint8": ("uint8", "int8", True, "none"),
    "uint8_asymmetric": ("uint8", "uint8", False, "none"),
}
QUANTIZED_KINDS = tuple(_KINDS)
_HALF = 64  # weights that fit into seven bits, and the reach of zero points from the middle of their type
_OUTPUT = 60.0  # steps of the output in the standard deviation of a sum, so that a few outputs are clipped


def draw_quantized(spec: ConvSpec, shape: Sequence[int], kind: str, seed: int) -> tuple[QuantSpec, ConvParams, Array]:
    """Return what the integers stand for, the weights and the input, in canonical order.

    With an even seed the factors of every other channel are powers of two: many scaled sums lie in the middle of two
    integers, which tells the rules of rounding apart.
    """
    data, weight, per_channel, activation = _KINDS[kind]
    rng = np.random.default_rng([seed, 9, QUANTIZED_KINDS.index(kind)])
    reach = _HALF if (data, weight) == ("uint8", "int8") else 127
    middle = 0 if weight == "int8" else 128
    kernel = rng.integers(middle - reach, middle + reach + 1, spec.kernel_shape).astype(weight)
    deviation = math.sqrt(max(forward_products(spec), 1)) * 74 * reach / math.sqrt(3)
    bias = rng.integers(-int(deviation), int(deviation) + 1, spec.out_channels).astype("int32") if spec.bias else None
    x_scale, y_scale = rng.uniform(0.01, 0.1), rng.uniform(0.1, 1.0)
    channels = spec.out_channels if per_channel else 1
    factors = rng.uniform(0.5, 1.5, channels) * _OUTPUT / deviation
    if seed % 2 == 0:
        x_scale, y_scale = (2.0 ** round(math.log2(scale)) for scale in (x_scale, y_scale))
        factors[::2] = np.exp2(np.round(np.log2(factors[::2])))
    scales: Any = (factors * y_scale / x_scale).tolist()
    quant = QuantSpec(
        data, weight, data, x_scale, tuple(scales) if per_channel else scales[0], y_scale,
        input_zero=_zero(rng, data), weight_zero=_zero(rng, weight) if weight == "uint8" else 0,
        output_zero=_zero(rng, data), activation=activation,
    )  # fmt: skip
    return quant, ConvParams(kernel, bias), integers(rng, shape, data)


def integers(rng: np.random.Generator, shape: Sequence[int], dtype: str) -> NDArray[Any]:
    """Return numbers of the whole range of a type."""
    low, high = INTEGERS[dtype]
    return rng.integers(low, high + 1, tuple(shape)).astype(dtype)


def _zero(rng: np.random.Generator, dtype: str) -> int:
    """Return a zero point that is not 0, within 64 of the middle of its type."""
    return int(rng.integers(1, _HALF)) * int(rng.choice([-1, 1])) + (0 if dtype == "int8" else 128)
