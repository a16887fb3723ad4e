"""Probes that measure a layer's arithmetic: data that distinguish the accuracy classes at any K.

* ``input``: one-hot kernels of ones, so that each output is one input, with all the digits of the dtype;
* ``kernel``: the input is 1 everywhere, so that each output is one weight with all its digits;
* ``accumulator``: odd integers whose sums are exact in float32 (in float64 for a float64 layer), but need more digits
  than the next coarser format.

A layer that keeps its dtype's digits returns the first two exactly for sums of any length: all other products are
zero.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from convspec.reference.convolution import conv
from convspec.reference.verdict import Verdict
from convspec.spec import (
    Array,
    ComputePrecision,
    ConvParams,
    ConvSpec,
    as_kernel,
    dealt,
    format_of,
    forward_products,
    overlap,
    representable,
    rounded,
)

# from fine to coarse; float16 has tf32's digits, but a narrower range
LADDER = ("float64", "float32", "tf32", "float16", "bfloat16")


@dataclass(frozen=True, eq=False)
class Probe:
    """Weights and input of the layer's own shapes, in the dtype's carrier."""

    name: str
    spec: ConvSpec
    params: ConvParams
    x: Array
    dtype: str

    @functools.cached_property
    def expected(self) -> Array:
        """The exact result ``(N, O, *out)``."""
        return conv(self.spec, self.params, self.x)


@dataclass(frozen=True, slots=True)
class AccuracyClass:
    """The formats of rounded inputs (and weights) and of sums; None if unknown."""

    inputs: str | None
    accumulator: str | None

    @property
    def name(self) -> str | None:
        """The coarser of the two."""
        return max(filter(None, (self.inputs, self.accumulator)), key=LADDER.index, default=None)


def probes(spec: ConvSpec, input_shape: Sequence[int], dtype: str = "float32", seed: int = 0) -> tuple[Probe, ...]:
    """Return the three probes for a layer and an input ``(N, C, *spatial)``."""
    rng = np.random.default_rng([seed, 9])
    shape, taps = tuple(input_shape), forward_products(spec)
    hot = as_kernel(dealt(rng, spec.out_channels, taps, 1), spec)
    bias = rounded(np.zeros(spec.out_channels), dtype) if spec.bias else None
    data = {
        "input": (hot, _all_digits(rng, shape, dtype)),
        "kernel": (hot * _all_digits(rng, spec.kernel_shape, dtype), np.ones(shape)),
        "accumulator": (_odd_integers(rng, spec.kernel_shape, dtype, taps), _odd_integers(rng, shape, dtype, taps)),
    }
    return tuple(
        Probe(name, spec, ConvParams(rounded(kernel, dtype), bias), rounded(x, dtype), dtype)
        for name, (kernel, x) in data.items()
    )


def measure(run: Sequence[Probe], outputs: Mapping[str, Array]) -> AccuracyClass:
    """Return the accuracy class that follows from the layer's ``outputs``, by name of probe, in canonical order.

    The layer must be correct on exact data: an incorrect one looks like a coarse one.
    """
    seen = {probe.name: probe for probe in run}
    parts = [_inputs_class(outputs[name], seen[name]) for name in ("input", "kernel") if name in outputs]
    inputs = max(filter(None, parts), key=LADDER.index, default=None)
    name = "accumulator"
    return AccuracyClass(inputs, _accumulator_class(outputs[name], seen[name]) if name in outputs else None)


def declared(arithmetic: ComputePrecision, dtype: str) -> AccuracyClass:
    """Return the class that the probes measure for a layer with this ``arithmetic``.

    The accumulator is None after more than two roundings to the dtype: partial sums may then have that dtype.
    """
    accumulator = arithmetic.accumulator
    # a single product has no more digits than the accumulator
    inputs = max(dtype, arithmetic.inputs or dtype, accumulator, key=LADDER.index)
    shown = max(accumulator, _finest_accumulator(dtype), key=LADDER.index)
    return AccuracyClass(inputs, shown if arithmetic.output_roundings <= 2 else None)


def judge_class(measured: AccuracyClass, arithmetic: ComputePrecision, dtype: str) -> Verdict:
    """Return whether the measured class is the declared one; a finer class is wrong as a coarser one is.

    Unknown parts, and parts that the adapter does not declare, are not compared.

    Raises:
        ValueError: if the probes measured nothing, for example because every output is empty.
    """
    if measured.name is None:
        raise ValueError("this layer's outputs have no accuracy class: probe a layer with outputs inside its input")
    claim = declared(arithmetic, dtype)
    pairs = {"inputs": (measured.inputs, claim.inputs), "accumulator": (measured.accumulator, claim.accumulator)}
    wrong = [
        f"{part} {got}, declared {claimed}"
        for part, (got, claimed) in pairs.items()
        if got is not None and claimed is not None and got != claimed
    ]
    evidence = {part: {"measured": got, "declared": claimed} for part, (got, claimed) in pairs.items()}
    reason = f"precision: measured {'; '.join(wrong)}" if wrong else ""
    return Verdict("disagree" if wrong else "agree", reason, measured.name, evidence)


# -- data ------------------------------------------------------------------------------------------------------------


def _all_digits(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """Return numbers whose last binary digit is 1: around 1, and some so small that float16 loses most digits."""
    digits = format_of(dtype).digits
    fraction = 2 * rng.integers(0, 2 ** (digits - 2), shape) + 1
    exponents = rng.integers(-1, 2, shape)
    if format_of(dtype).emin < -100:
        exponents = np.where(rng.random(shape) < 0.25, -20, exponents)
    values = np.ldexp(1 + np.ldexp(fraction.astype(np.float64), 1 - digits), exponents)
    return np.asarray(values * rng.choice([-1.0, 1.0], shape), np.float64)


def _odd_integers(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, taps: int) -> Array:
    """Return odd integers of at most 7 binary digits, exact in all formats, for sums of ``taps`` products.

    Their sums are about reach²·√taps / 3: beyond the 11 digits of float16, but more than ten standard deviations below
    its largest number. For a float64 layer powers of two spread them beyond the 24 digits of float32.
    """
    reach = max(math.isqrt(int(2.0**14 / math.sqrt(taps))), 3)
    values = rng.choice([-1.0, 1.0], shape) * (2 * rng.integers(0, (reach + 1) // 2, shape) + 1)
    return np.ldexp(values, rng.choice([-5, 5], shape) if dtype == "float64" else 0)


# -- what the outputs show -------------------------------------------------------------------------------------------


def _inputs_class(actual: Array, probe: Probe) -> str | None:
    """Return the finest format whose rounding, or truncation, explains the errors."""
    y = probe.expected
    nonzero = y != 0
    if not nonzero.any():
        return None
    right, got = y[nonzero], actual[nonzero].astype(np.float64)
    with np.errstate(invalid="ignore"):
        error = np.abs(got - right) / np.abs(right)
    error[~np.isfinite(error)] = np.inf
    near = (np.abs(right) >= 0.25) & (np.abs(right) <= 8)
    worst, far = float(np.max(error[near], initial=0.0)), float(np.max(error[~near], initial=0.0))
    if not near.any():
        worst = far
    for name in LADDER[LADDER.index(probe.dtype) :]:
        candidate = format_of(name)
        limit = 0.0 if name == probe.dtype else 2 * candidate.unit_roundoff
        if worst <= limit and (far <= limit or candidate.emin > -100):  # where numbers far from 1 lose digits
            return name
    return None


def _finest_accumulator(dtype: str) -> str:
    """Return the finest accumulator that the probe's sums distinguish from a coarser one."""
    return "float64" if dtype == "float64" else "float32"


def _accumulator_class(actual: Array, probe: Probe) -> str | None:
    """Return the finest accumulator if the outputs are right, else the coarsest format that represents them."""
    y, dtype = probe.expected, probe.dtype
    if not _telling(y, probe):
        return None
    if np.array_equal(actual, rounded(y, dtype)):
        return _finest_accumulator(dtype)
    if dtype in ("float16", "bfloat16"):
        return dtype
    if dtype == "float64":
        return "float32" if _beyond_single(actual) else _coarsest(actual.astype(np.float32), ("float16", "float32"))
    return _coarsest(actual, ("bfloat16", "float16"))


def _telling(y: Array, probe: Probe) -> bool:
    """Return whether some sum needs more digits than the next coarser accumulator."""
    if probe.dtype in ("float16", "bfloat16"):
        # the one rounding of a sum of two is the output's own; of a transposed layer only taps that meet are summed
        spec = probe.spec
        many = spec.in_channels // spec.groups * overlap(spec) if spec.transposed else forward_products(spec)
        return many > 2 and bool(np.max(np.abs(y), initial=0.0) > 2.0**12)
    return not representable(rounded(y, "float32"), "tf32") if probe.dtype == "float32" else _beyond_single(y)


def _beyond_single(y: Array) -> bool:
    return not np.array_equal(y.astype(np.float32), y)


def _coarsest(values: Array, names: Sequence[str]) -> str:
    """Return the first format that represents all values, else the last: some sums had a finer format."""
    fine = (name for name in names if representable(values, "tf32" if name == "float16" else name))
    return next(fine, names[-1])
