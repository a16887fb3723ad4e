"""Inputs for a port that its author has not seen: several sizes, batches, scales and distributions, and repetitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convspec.spec import Array
from convspec.spec.layouts import CHANNELS_FIRST

Shapes = tuple[tuple[int, ...], ...]

GIVEN, OTHER_BATCH = "as given", "another batch"
NORMAL = "normal numbers"
_REPEATED = 5
_MOST_BATCH = 4


@dataclass(frozen=True, eq=False, slots=True)
class Draw:
    """One set of inputs, in the source's layout.

    Attributes:
        arrays: in order.
        kind: of their numbers.
        size: ``as given``, ``another batch`` or ``another size``.
    """

    arrays: list[Array]
    kind: str
    size: str = GIVEN

    @property
    def shapes(self) -> Shapes:
        return tuple(x.shape for x in self.arrays)


def draw(sizes: Sequence[Shapes], seed: int, layout: str, *, fixed: bool) -> tuple[list[Draw], list[int]]:
    """Return inputs, and the order in which they are sent; some are sent again, in between others.

    ``fixed``: no batches and sizes but the given ones.
    """
    rng = np.random.default_rng(seed)
    drawn: list[Draw] = []
    for place, shapes in enumerate(sizes):
        drawn.append(Draw([rng.standard_normal(s, np.float32) for s in shapes], NORMAL))
        kinds = _kinds(drawn[-1].arrays, rng)
        drawn += [Draw(kinds[kind], kind) for kind in (kinds if place == 0 else list(kinds)[:3])]
        for size, others in () if fixed else _other_sizes(shapes, layout, rng):
            arrays = [rng.standard_normal(s, np.float32) for s in others]
            drawn += [Draw(arrays, NORMAL, size), Draw([_shifted(x, rng) for x in arrays], "shifted numbers", size)]
    order = list(rng.permutation(len(drawn)))
    for again in rng.choice(len(drawn), min(_REPEATED, len(drawn)), replace=False):
        first = order.index(again)  # not at once: another input of the same shape comes in between
        order.insert(int(rng.integers(min(first + 2, len(order)), len(order) + 1)), again)
    return drawn, [int(i) for i in order]


def _kinds(arrays: list[Array], rng: np.random.Generator) -> dict[str, list[Array]]:
    """Return inputs of the same shapes with numbers of other kinds; the last ones resemble the given ones."""
    shapes, scales = [x.shape for x in arrays], (10 ** -rng.uniform(1, 3), 10 ** rng.uniform(0.8, 1.8))
    small, large = ([(rng.standard_normal(s) * scale).astype(np.float32) for s in shapes] for scale in scales)
    return {
        "small numbers": small,
        "large numbers": large,
        "shifted numbers": [_shifted(x, rng) for x in arrays],
        "numbers from 0 to 1": [rng.random(s, np.float32) for s in shapes],
        "whole numbers from 0 to 255": [rng.integers(0, 256, s).astype(np.float32) for s in shapes],
        "mostly zeros": [(rng.standard_normal(s) * (rng.random(s) < 0.1)).astype(np.float32) for s in shapes],
        "another order of the batch": [np.ascontiguousarray(x[::-1]) for x in arrays],
        "the same first elements": [_with_first(x, rng.standard_normal(x.shape, np.float32)) for x in arrays],
        "one element changed": [_one_changed(x, rng) for x in arrays],
    }


def _shifted(x: Array, rng: np.random.Generator) -> Array:
    return (x * np.float32(0.5) + np.float32(rng.choice((-1, 1)) * rng.uniform(1, 3))).astype(np.float32)


def _with_first(x: Array, other: Array) -> Array:
    other.reshape(-1)[: max(1, x.size // 8)] = x.reshape(-1)[: max(1, x.size // 8)]
    return other


def _one_changed(x: Array, rng: np.random.Generator) -> Array:
    changed = x.copy()
    changed.reshape(-1)[rng.integers(x.size)] += np.float32(4)
    return changed


def _other_sizes(shapes: Shapes, layout: str, rng: np.random.Generator) -> list[tuple[str, Shapes]]:
    """Return other batches – of one sample, and of several –, and larger and smaller images."""
    batch = shapes[0][0]
    several = int(rng.choice([n for n in range(2, 3 + _MOST_BATCH) if n != batch]))
    sizes = [(OTHER_BATCH, tuple((n, *s[1:]) for s in shapes)) for n in {1, several} - {batch}]
    for low, high in ((0.6, 0.95), (1.05, 1.5)):
        factors = rng.uniform(low, high, 3)
        sizes.append(("another size", tuple(_resized(s, factors, layout) for s in shapes)))
    return [(words, other) for words, other in sizes if other != shapes]


def _resized(shape: tuple[int, ...], factors: Array, layout: str) -> tuple[int, ...]:
    if len(shape) < 3:
        return shape
    first = 2 if layout == CHANNELS_FIRST else 1
    return tuple(
        max(1, math.floor(n * factors[axis - first] + 0.5)) if first <= axis < first + len(shape) - 2 else n
        for axis, n in enumerate(shape)
    )
