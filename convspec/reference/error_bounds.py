"""Error bounds that are derived, not guessed: the only tolerances in the project.

With u the unit roundoff of the accumulator, u_out that of the output's dtype, K products per output, y the oracle,
ŷ the actual value and G = Σ|x||w| + |b|:

* exact data: ŷ = y; the tolerance is zero;
* hard bound: |ŷ - y| ≤ γ(K+1)·G + m·u_out·G + (K+1)·η, with γ(n) = n·u / (1 - n·u);
* statistical bound: RMS(q) ≤ √((K+1)/3), with q = (|ŷ - y| less the output's rounding) / (u·G).

``docs/explanation/bounds.md`` has the derivations, and the small terms that these lines leave out (the oracle's own
rounding; inputs rounded to a coarser format).
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from convspec.spec import (
    ComputePrecision,
    ConvSpec,
    Format,
    copies,
    format_of,
    forward_products,
    output_spatial,
    product,
)

ORACLE = format_of("float64")
STATISTICAL_MINIMUM = 1000
# Errors of elementary functions in unit roundoffs: 5 units in the last place for exp, log, tanh, √ …, 16 for erf and
# powers. These are OpenCL's limits (The OpenCL C Specification 3.0, §7.4); CPU libraries err by 1 to 4 units.
ELEMENTARY, ERF_AND_POWER = 10.0, 32.0
# PyTorch's vector code computes erf in float32 by Abramowitz and Stegun's 7.1.26: off by 1.5e-7, which is 2.5 unit
# roundoffs of 1, not of erf, and by the roundings of some nine operations.
ERF_POLYNOMIAL = 12.0


def gamma(n: int, unit_roundoff: float) -> float:
    """Return γ(n) = n·u / (1 - n·u). Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., §3.1.

    From n·u = 1 on, where γ has no meaning, n·u itself: proved for sums and inner products of any length and in any
    order by Jeannerod and Rump, SIAM J. Matrix Anal. Appl. 34 (2013) 338.
    """
    nu = n * unit_roundoff
    return nu / (1 - nu) if nu < 1 else nu


def products(spec: ConvSpec, input_shape: Sequence[int] = (), of: str = "output") -> int:
    """Return K, the largest number of products in one element of a result.

    Args:
        input_shape: canonical, ``(N, C, *spatial)``; not needed for the output.
        of: ``"output"``, or the gradient with respect to ``"input"``, ``"kernel"`` or ``"bias"``.
    """
    if of == "output":
        return forward_products(spec)
    batch, _, *spatial = input_shape
    if of == "input":
        return spec.out_channels // spec.groups * product(spec.kernel_size) * copies(spec, spatial)
    sizes = spatial if of == "kernel" and spec.transposed else output_spatial(spec, spatial)
    return batch * product(sizes)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds on the rounding error of a sum of products: |ŷ - y| ≤ relative·G + absolute.

    Attributes:
        unit: u, the unit roundoff of the accumulator; errors are reported in units of u·G + ``floor``.
        floor: η, the error of one underflow in the accumulator.
        relative: relative term of the hard bound.
        absolute: absolute term of the hard bound.
        output_rounding: relative error of the rounding to an output format coarser than the accumulator, else 0.
        further_rounding: error of the roundings to that format before the last one, relative to G.
        rms: limit for the root mean square of q.
        largest: the largest finite number of the output's format.
    """

    unit: float
    floor: float
    relative: float
    absolute: float
    output_rounding: float
    further_rounding: float
    rms: float
    largest: float


@functools.lru_cache(maxsize=256)
def bounds(dtype: str, products: int, arithmetic: ComputePrecision) -> Bounds:
    """Return the bounds for sums of ``products`` products and a bias, for results in ``dtype``."""
    out, accumulator = format_of(dtype), format_of(arithmetic.accumulator)
    roundings, terms = arithmetic.output_roundings, products + 1
    unit = accumulator.unit_roundoff
    coarse = out.digits < accumulator.digits
    inputs = form.unit_roundoff if (form := _coarser(out, arithmetic.inputs)) else 0.0
    oracle = gamma(terms, ORACLE.unit_roundoff)
    floor = max(_underflow(accumulator, flushes=arithmetic.flushes_subnormals), sys.float_info.min)
    absolute = terms * floor
    if coarse:
        absolute += roundings * _underflow(out, flushes=arithmetic.flushes_subnormals and out.emin == accumulator.emin)
    stored = _coarser(out, arithmetic.stored)
    if stored is not None:
        absolute += _underflow(stored, flushes=arithmetic.flushes_subnormals)
    # log1p and expm1, because 1 + u is not representable for the smallest u
    growth = 2 * math.log1p(inputs) + math.log1p(gamma(terms, unit)) + roundings * math.log1p(out.unit_roundoff)
    growth += math.log1p(stored.unit_roundoff) if stored else 0.0
    return Bounds(
        unit=unit, floor=floor, relative=math.expm1(growth) + oracle, absolute=absolute,
        output_rounding=out.unit_roundoff if coarse else 0.0,
        further_rounding=(roundings - 1) * out.unit_roundoff if coarse else 0.0,
        rms=math.sqrt((terms * (1 + (ORACLE.unit_roundoff / unit) ** 2) + 2 * (inputs / unit) ** 2) / 3),
        largest=out.largest,
    )  # fmt: skip


def two_sided(one: Bounds, other: Bounds) -> Bounds:
    """Return the bounds for the difference of two results ŷ₁, ŷ₂ of the same sums: |ŷ₁ - ŷ₂| ≤ |ŷ₁ - y| + |y - ŷ₂|.

    RMS(q₁ + q₂) ≤ RMS(q₁) + RMS(q₂), whether the errors are independent or not; each q is converted to the larger unit.
    The outputs' roundings cost at most u₁|ŷ₁| + u₂|ŷ₂|, where |ŷ₂|·(1 - u₂) ≤ |ŷ₁|·(1 + u₁) + |s₁ - s₂| with the
    unrounded sums s, so that ŷ₁ alone bounds them.
    """
    unit, floor = max(one.unit, other.unit), max(one.floor, other.floor)
    u1, u2 = one.output_rounding, other.output_rounding
    rms = sum(side.rms * max(side.unit / unit, side.floor / floor) for side in (one, other))
    return Bounds(
        unit=unit, floor=floor, relative=one.relative + other.relative, absolute=one.absolute + other.absolute,
        output_rounding=u1 + u2 * (1 + u1) / (1 - u2),
        further_rounding=(one.further_rounding + other.further_rounding) / (1 - u2), rms=rms / (1 - u2),
        largest=min(one.largest, other.largest),
    )  # fmt: skip


def _coarser(out: Format, name: str | None) -> Format | None:
    """Return the format of that name if it is coarser than the layer's own."""
    return None if name is None or format_of(name).digits >= out.digits else format_of(name)


def _underflow(form: Format, *, flushes: bool) -> float:
    """Return η: the smallest normal number if subnormal results become 0, else half a subnormal unit."""
    return form.smallest_normal if flushes else form.smallest_subnormal / 2
