"""Make more inputs from given ones: another random draw, and a scaled one that reaches saturations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from convspec.models.run_model import Given
from convspec.spec import Array
from convspec.spec.layouts import CHANNELS_FIRST

SCALE = 8.0
GIVEN = "the given inputs"
_DRAWN = "another random draw"
_PERMUTED = "the given inputs permuted"
_SCALED = f"the given inputs times {SCALE:g}"


def further_inputs(given: Given, seed: int = 0) -> dict[str, Given]:
    """Return further inputs of the same shapes by what they are.

    Numbers are drawn with the given ones' mean and deviation. Whole numbers – token ids, masks, labels – and inputs
    by name are permuted, as their meaning is not known.
    """
    rng = np.random.default_rng(seed)
    if isinstance(given, Mapping):
        return {_PERMUTED: {name: _permute(x, rng) for name, x in given.items()}}
    whole = [x.dtype.kind != "f" or np.array_equal(x, np.rint(x)) for x in given]
    drawn = [_permute(x, rng) if fixed else _draw(x, rng) for x, fixed in zip(given, whole, strict=True)]
    if all(whole):
        return {_PERMUTED: drawn}
    scaled = [x if fixed else (x * SCALE).astype(x.dtype) for x, fixed in zip(given, whole, strict=True)]
    return {_DRAWN: drawn, _SCALED: scaled}


def _draw(x: Array, rng: np.random.Generator) -> Array:
    return np.asarray(rng.standard_normal(x.shape) * np.std(x) + np.mean(x), x.dtype)


def _permute(x: Array, rng: np.random.Generator) -> Array:
    return rng.permutation(np.ravel(x)).reshape(x.shape)


def untried(tried: Sequence[Given], names: Sequence[str], layout: str) -> list[str]:
    """Return what the inputs cannot show; ``tried``: one of each size, ``names``: what all of them are."""
    arrays = [x for given in tried for x in (given.values() if isinstance(given, Mapping) else given)]
    spatial = slice(2, None) if layout == CHANNELS_FIRST else slice(1, -1)
    images = [x.shape[spatial] for x in arrays if x.ndim > 2]
    missing = ["other sizes"] if len(tried) == 1 else []
    if images and all(any(n % 2 for n in sizes) for sizes in images):
        missing.append("even sizes, where strided 'same' padding and equal padding differ")
    if _SCALED not in names:
        missing.append("large values, where activations saturate")
    return [*missing, "NaN and infinity", "training"]
