"""The floating-point formats: their precision, their NumPy carriers, rounding to them, and a layer's arithmetic.

NumPy has no bfloat16 and no tf32: arrays "in" such a format travel as float32 holding representable values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from convspec.errors import UnknownName

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[np.floating[Any]]"


@dataclass(frozen=True, slots=True)
class Format:
    """A binary floating-point format.

    Attributes:
        name: ``"float32"``, …
        digits: significant bits p, the implicit one counted; the unit roundoff is 2⁻ᵖ.
        emin: exponent of the smallest normal number, 2ᵉᵐⁱⁿ.
        carrier: the NumPy dtype of arrays that hold its values.
    """

    name: str
    digits: int
    emin: int
    carrier: str

    @property
    def unit_roundoff(self) -> float:
        """u: half the distance from 1 to the next number above."""
        return 2.0**-self.digits

    @property
    def smallest_normal(self) -> float:
        return 2.0**self.emin

    @property
    def smallest_subnormal(self) -> float:
        return 2.0 ** (self.emin - self.digits + 1)

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return (2.0 - 2.0 ** (1 - self.digits)) * 2.0 ** (1 - self.emin)


_FORMATS = {form.name: form for form in (
    Format("float64", 53, -1022, "float64"), Format("float32", 24, -126, "float32"),
    Format("tf32", 11, -126, "float32"), Format("bfloat16", 8, -126, "float32"), Format("float16", 11, -14, "float16"),
)}  # fmt: skip
DTYPES = ("float32", "float64", "float16", "bfloat16")


def format_of(name: str) -> Format:
    """Return the format of that name.

    Raises:
        UnknownName: with the known names.
    """
    if name not in _FORMATS:
        raise UnknownName("dtype", name, _FORMATS)
    return _FORMATS[name]


def rounded(values: Array, name: str) -> Array:
    """Return ``values`` rounded to the format (to nearest, ties to even), in its carrier dtype.

    Subnormals of bfloat16 and tf32 are rounded on the format's own grid; overflow goes to infinity.
    """
    import numpy as np

    form = format_of(name)
    if name == form.carrier:
        with np.errstate(over="ignore"):
            return np.asarray(values).astype(form.carrier)
    bits = _sticky(np.asarray(values))
    drop = np.uint32(24 - form.digits)
    one = np.uint32(1)
    half = (one << (drop - one)) - one + ((bits >> drop) & one)
    result = ((bits + half) >> drop << drop).view(np.float32)
    return np.where(np.isnan(values), np.float32(np.nan), result)


def _sticky(values: Array) -> NDArray[np.uint32]:
    """Return the bits of ``values`` in float32, with a last bit of 1 where digits were lost.

    Rounding to odd first makes the second rounding, to fewer digits, correct (Boldo and Melquiond, When double
    rounding is odd, 2005).
    """
    import numpy as np

    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    bits = single.view(np.uint32)
    if values.dtype == np.float64:
        away = np.abs(single.astype(np.float64)) > np.abs(values)
        bits = (bits - away.astype(np.uint32)) | (single != values)
    return bits


def representable(values: Array, name: str) -> bool:
    """Return whether all ``values``, given in the format's carrier, are numbers of the format."""
    form = format_of(name)
    if name == form.carrier:
        return True
    import numpy as np

    mask = np.uint32((1 << (24 - form.digits)) - 1)
    # NaN may carry anything in its lower bits
    return not bool(np.any(np.ascontiguousarray(values).view(np.uint32) & mask, where=~np.isnan(values)))


@dataclass(frozen=True, eq=False, slots=True)
class Gradients:
    """Gradients of ⟨y, dy⟩, in canonical order: ``input`` as x's layout, ``kernel``, ``bias`` (None without one)."""

    input: Array
    kernel: Array
    bias: Array | None


@dataclass(frozen=True, slots=True)
class ComputePrecision:
    """The arithmetic of a layer, which its error bounds follow from.

    Attributes:
        accumulator: the format of the sums.
        output_roundings: m, how often a result is rounded to the layer's dtype: 1, or 2 with a separate bias add.
        flushes_subnormals: whether numbers below the smallest normal one become 0.
        inputs: the format that inputs and kernels are rounded to before the products, if it is coarser than the
            layer's dtype (``"tf32"`` on a GPU as shipped), else None.
        stored: the format that results are rounded to before the layer's dtype, if it is coarser (a runtime that keeps
            all tensors in bfloat16), else None.
    """

    accumulator: str
    output_roundings: int = 1
    flushes_subnormals: bool = False
    inputs: str | None = None
    stored: str | None = None
