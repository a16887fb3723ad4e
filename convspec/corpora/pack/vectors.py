"""The vectors of the pack: each layer of ``layers.jsonl`` with arrays, in one layout and kind of test.

============= =======================================================================================================
``exact``     integers so small that every correct implementation returns exactly ``y``
``random``    fractions of all digits; ``y`` is exact, and ``bound`` is what rounding in ``dtype`` may change in it
``gradient``  integers; the gradients of ⟨y, dy⟩ are exact
``quantized`` 8-bit integers; every legal rounding of the scaled sum is between ``lower`` and ``upper``
``refused``   the layer has no output for this input, and an implementation must say so
============= =======================================================================================================
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convspec import reference
from convspec.corpora.features import traits
from convspec.corpora.pack.drawing import draw_integers
from convspec.reference import products
from convspec.spec import ConvParams, ConvSpec, exact_budget, format_of, layouts, resolve_padding

Array = NDArray[Any]
LAYERS = Path(__file__).parent / "layers.jsonl"
_DIGITS = 20  # of fractions; a product has 40, so that float64 holds a sum of 2¹³ products exactly
_GRADIENT = 3  # magnitude of dy
_DATA = ("x", "y", "dy", "dx", "bound", "lower", "upper")  # in the vector's layout


@dataclass(eq=False)
class Vector:
    """One test: a layer, its arrays by name, and how they are judged.

    Attributes:
        kind: ``exact``, ``random``, ``gradient``, ``quantized`` or ``refused``.
        layout: of the data; kernels are in canonical order.
        dtype: the format that holds the numbers: of ``exact`` and ``gradient`` the narrowest in which all sums are
            exact, of ``random`` that of the bound, of ``quantized`` that of input and output.
        zeros: the zero points of input and output; 0 for all but ``quantized``.
        scales: the scales of input, output, and of each output channel's kernel; empty for all but ``quantized``.
    """

    id: str
    title: str
    kind: str
    spec: ConvSpec
    input_shape: tuple[int, ...]
    layout: str
    dtype: str
    arrays: dict[str, Array] = field(default_factory=dict, repr=False)
    zeros: tuple[int, int] = (0, 0)
    scales: tuple[float, ...] = ()

    @cached_property
    def canonical(self) -> dict[str, Array]:
        """The arrays with data as ``(N, C, *spatial)``."""
        return {n: layouts.move_axes(a, self.layout, "NCHW") if n in _DATA else a for n, a in self.arrays.items()}

    @property
    def params(self) -> ConvParams:
        return ConvParams(self.arrays["kernel"], self.arrays.get("bias"))

    @property
    def numbers(self) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...]]:
        """The pads, or crops of a transposed layer, and the output padding, as numbers."""
        return resolve_padding(self.spec, self.input_shape[2:])

    @property
    def features(self) -> dict[str, str]:
        return traits(self.spec, self.input_shape) | {"layout": self.layout, "dtype": self.dtype, "kind": self.kind}


def draw_vectors() -> Iterator[Vector]:
    """Yield every vector, in the order of the pack."""
    for number, text in enumerate(LAYERS.read_text("utf-8").splitlines()):
        line = json.loads(text)
        spec, shape = ConvSpec.from_dict(line["spec"]), tuple(line["input_shape"])
        for words in line["vectors"]:
            kind, layout, dtype = words.split()
            name = f"{number:03d}-{kind}-{layout.lower()}-{dtype}"
            vector = Vector(name, line["name"], kind, spec, shape, layout, dtype)
            arrays = _KINDS[kind](vector)
            moved = {n: layouts.move_axes(a, "NCHW", layout) if n in _DATA else a for n, a in arrays.items()}
            vector.arrays.update({n: np.ascontiguousarray(a) + 0.0 for n, a in moved.items()})  # no -0.0
            yield vector


def _draw(vector: Vector, array: str, shape: tuple[int, ...], magnitude: int, digits: int = 0) -> Array:
    """Return integers, or with ``digits`` integers · 2^-digits."""
    numbers = np.array(draw_integers(f"{vector.id}/{array}", math.prod(shape), magnitude), np.float64)
    return np.asarray(numbers.reshape(shape) / 2**digits)


def _given(vector: Vector, x: int, kernel: int, bias: int, digits: int = 0) -> dict[str, Array]:
    """Return input, kernel and bias of these magnitudes."""
    spec, own = vector.spec, {"x": (vector.input_shape, x), "kernel": (vector.spec.kernel_shape, kernel)}
    if spec.bias:
        own["bias"] = ((spec.out_channels,), bias)
    return {name: _draw(vector, name, shape, magnitude, digits) for name, (shape, magnitude) in own.items()}


def _layer(vector: Vector, arrays: dict[str, Array]) -> tuple[ConvSpec, ConvParams, Array]:
    return vector.spec, ConvParams(arrays["kernel"], arrays.get("bias")), arrays["x"]


def _refused(vector: Vector) -> dict[str, Array]:
    budget = exact_budget(vector.spec, vector.dtype)
    return _given(vector, budget.x, budget.kernel, budget.bias)


def _exact(vector: Vector) -> dict[str, Array]:
    arrays = _refused(vector)
    return arrays | {"y": reference.conv(*_layer(vector, arrays))}


def _gradient(vector: Vector) -> dict[str, Array]:
    budget = exact_budget(vector.spec, vector.dtype)
    arrays = _given(vector, budget.x, budget.kernel, budget.bias)
    arrays["dy"] = _draw(vector, "dy", vector.spec.output_shape(vector.input_shape), _GRADIENT)
    found = reference.gradients(*_layer(vector, arrays), arrays["dy"])
    arrays |= {"dx": found.input, "dkernel": found.kernel}
    return arrays if found.bias is None else arrays | {"dbias": found.bias}


def _random(vector: Vector) -> dict[str, Array]:
    digits = min(format_of(vector.dtype).digits, _DIGITS)
    largest = 2**digits
    arrays = _given(vector, largest, largest, largest, digits)
    layer = _layer(vector, arrays)
    relative, absolute = rounding_bound(vector.dtype, products(vector.spec))
    size = reference.magnitude(*layer)
    bound = [float(relative * Fraction(g) + absolute) for g in size.reshape(-1).tolist()]
    return arrays | {"y": reference.conv(*layer), "bound": np.array(bound, np.float64).reshape(size.shape)}


def rounding_bound(dtype: str, count: int) -> tuple[Fraction, Fraction]:
    """Return r and a of |ŷ - y| ≤ r·G + a for sums of ``count`` products and a bias.

    The sums are in float32, or float64 if ``dtype`` is, in any order; two roundings to ``dtype`` follow, as where the
    bias is added separately; subnormal numbers may become 0. With γ = (K+1)·u / (1 - (K+1)·u), r = (1 + γ)·(1 + v)² - 1
    and a = (K + 3)·η, where u and v are the unit roundoffs of sum and result, and η is the smallest normal number of
    ``dtype``.
    """
    out, sums = format_of(dtype), format_of("float64" if dtype == "float64" else "float32")
    nu = Fraction(count + 1, 2**sums.digits)
    relative = (1 + nu / (1 - nu)) * (1 + Fraction(1, 2**out.digits)) ** 2 - 1
    return relative, (count + 3) * Fraction(out.smallest_normal)


# -- integers ----------------------------------------------------------------------------------------------------------


def _quantized(vector: Vector) -> dict[str, Array]:
    """Return 8-bit data whose outputs fill the range and pass its ends, and the integers of every legal rounding."""
    spec, low = vector.spec, -128 if vector.dtype == "int8" else 0
    channels = spec.out_channels
    numbers = _draw(vector, "numbers", (channels + 3,), 64) + 64  # 0 to 128
    x_zero, y_zero = int(numbers[0]) + 64 + low, int(numbers[1]) + 64 + low
    arrays = _given(vector, 1 << 30, 127, 2000)
    arrays["x"] = arrays["x"] % 256 + low
    layer = _layer(vector, arrays | {"x": arrays["x"] - x_zero})
    sums = reference.conv(*layer)
    reach = max(int(np.abs(sums).max()) if sums.size else 1, 1)
    # x_scale·w_scale / y_scale: two factors of 8 bits, then a power of two; float32 holds it and its factors exactly
    x_scale, w_scales = (128 + numbers[2]) / 2**12, (128 + numbers[3:] // 2) / 2**14
    y_scale = 2.0 ** (math.frexp(x_scale * float(w_scales.max()) * reach)[1] - 8)
    scale = x_scale * w_scales / y_scale
    vector.zeros, vector.scales = (x_zero, y_zero), (float(x_scale), y_scale, *w_scales.tolist())
    column = scale.reshape(-1, *(1,) * spec.ndim)
    values, half = sums * column + y_zero, Fraction(1, 2)
    spread = np.broadcast_to(column, sums.shape).reshape(-1).tolist()
    reaches = [half + reference.quantized.rounding_slack(s) for s in spread]
    pairs = [(math.ceil(Fraction(v) - r), math.floor(Fraction(v) + r))
             for v, r in zip(values.reshape(-1).tolist(), reaches, strict=True)]  # fmt: skip
    ends = np.clip(np.array(pairs, np.float64).reshape(*sums.shape, 2), low, low + 255)
    return arrays | {"scale": scale, "lower": ends[..., 0], "upper": ends[..., 1]}


_KINDS: dict[str, Callable[[Vector], dict[str, Array]]] = {
    "exact": _exact, "random": _random, "gradient": _gradient, "quantized": _quantized, "refused": _refused,
}  # fmt: skip
