"""ConvParams: the kernel and the bias of one layer, in the canonical order."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convspec.atomic_files import write_file
from convspec.errors import ParamsError
from convspec.spec.conv_spec import ConvSpec
from convspec.spec.dtypes import Array, format_of, rounded

# Small numbers are readable and exact in every format; larger biases distinguish the channels.
MAX_MAGNITUDE = 15
MAX_BIAS = 4095
SPARSE_MAGNITUDE = 3


@dataclass(frozen=True, eq=False, slots=True)
class ConvParams:
    """Kernel and bias of one convolution layer.

    Attributes:
        kernel: ``(O, I/g, *kernel)``; of a transposed layer ``(I, O/g, *kernel)``. Correlation, not flipped:
            PyTorch's and ONNX's order.
        bias: ``(O,)``, or None for a layer without.
    """

    kernel: Array
    bias: Array | None = None

    def __repr__(self) -> str:
        bias = "none" if self.bias is None else f"{self.bias.shape} {self.bias.dtype}"
        return f"<ConvParams: kernel {self.kernel.shape} {self.kernel.dtype}, bias {bias}>"

    def check(self, spec: ConvSpec) -> ConvParams:
        """Return these parameters if they fit the spec.

        Raises:
            ParamsError: with the array, its expected and its actual shape.
        """
        problems = []
        if self.kernel.shape != spec.kernel_shape:
            order = "(I, O/groups, *kernel)" if spec.transposed else "(O, I/groups, *kernel)"
            problems.append(
                f"kernel must have shape {spec.kernel_shape}, which is {order}, but has {self.kernel.shape}"
            )
        if spec.bias and self.bias is None:
            problems.append(f"bias must be given, of shape ({spec.out_channels},): the spec has bias=True")
        if not spec.bias and self.bias is not None:
            problems.append("bias must be None: the spec has bias=False")
        if spec.bias and self.bias is not None and self.bias.shape != (spec.out_channels,):
            problems.append(f"bias must have shape ({spec.out_channels},), but has {self.bias.shape}")
        if problems:
            raise ParamsError("; ".join(problems))
        return self

    @classmethod
    def random(cls, spec: ConvSpec, seed: int = 0, dtype: str = "float32") -> ConvParams:
        """Return normal random numbers of variance 1 / fan-in, representable in ``dtype``, fixed by the seed."""
        rng = np.random.default_rng([seed, 1])
        kernel = normal(rng, spec.kernel_shape, dtype, 1 / math.sqrt(forward_products(spec)))
        return cls(kernel, normal(rng, (spec.out_channels,), dtype) if spec.bias else None)

    @classmethod
    def exact(cls, spec: ConvSpec, seed: int = 0, dtype: str = "float32", reduction: int | None = None) -> ConvParams:
        """Return small integers for which every order of summation gives the exact result in ``dtype``.

        With inputs of magnitude up to :func:`exact_budget`'s ``x``, every partial sum of ``reduction`` products
        and the bias is an integer of at most p bits (p = 24 / 11 / 8 for float32 / float16 / bfloat16), hence
        representable. Where ``reduction`` alone exceeds the budget, the kernel is sparse.

        Args:
            reduction: products per output; by default those of the forward pass, (I/g)·∏kernel.
        """
        budget = exact_budget(spec, dtype, reduction)
        rng = np.random.default_rng([seed, 2])
        kernel = nonzero_integers(rng, spec.kernel_shape, budget.kernel)
        if budget.taps is not None:
            kernel *= sparse_mask(rng, spec, budget.taps)
        bias = nonzero_integers(rng, (spec.out_channels,), budget.bias) if spec.bias else None
        carrier = format_of(dtype).carrier
        return cls(kernel.astype(carrier), None if bias is None else bias.astype(carrier))

    def save(self, path: str | os.PathLike[str], spec: ConvSpec | None = None) -> None:
        """Write ``kernel`` and ``bias`` as a safetensors file, the spec's JSON in its metadata."""
        from safetensors.numpy import save

        arrays = {"kernel": np.ascontiguousarray(self.kernel)}
        if self.bias is not None:
            arrays["bias"] = np.ascontiguousarray(self.bias)
        metadata = {"format": "convspec.params/1", **({"spec": spec.to_json()} if spec else {})}
        write_file(path, save(arrays, metadata))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ConvParams:
        """Read a file of :meth:`save`.

        Raises:
            ParamsError: if the file is not a safetensors file, or has no ``kernel``.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            arrays = load_file(path)
        except SafetensorError as error:
            raise ParamsError(f"{os.fspath(path)} is not a safetensors file: {error}") from None
        if "kernel" not in arrays:
            raise ParamsError(f"{os.fspath(path)} has no tensor 'kernel', only {sorted(arrays)}")
        return cls(arrays["kernel"], arrays.get("bias"))


@dataclass(frozen=True, slots=True)
class ExactBudget:
    """Largest magnitudes of integer data, |x|·|w|·K + |b| ≤ 2ᵖ; ``taps`` non-zero ones per sum, None for all K."""

    x: int
    kernel: int
    bias: int
    taps: int | None


def exact_limit(dtype: str) -> int:
    """Return 2ᵖ: all integers up to it are representable in ``dtype``, p = 24 / 11 / 8 (24 for float64 too)."""
    return int(2 ** min(format_of(dtype).digits, 24))


def forward_products(spec: ConvSpec) -> int:
    """Return K: products per output of the forward pass, (I/g)·∏kernel (of a transposed layer: at most that many)."""
    return spec.in_channels // spec.groups * math.prod(spec.kernel_size)


def exact_budget(spec: ConvSpec, dtype: str, reduction: int | None = None) -> ExactBudget:
    """Return the largest integers whose sum of ``reduction`` products and a bias is exact in ``dtype``."""
    limit = exact_limit(dtype)
    bias = min(limit // 16, MAX_BIAS) if spec.bias else 0
    kernel, x, taps = magnitudes(limit - bias, reduction or forward_products(spec))
    return ExactBudget(x, kernel, bias, taps)


def magnitudes(room: int, products: int) -> tuple[int, int, int | None]:
    """Return the largest w and x with w·x·products ≤ room, and None or, of too many products, how many are not 0."""
    share = room // max(products, 1)
    if share < 1:
        return SPARSE_MAGNITUDE, SPARSE_MAGNITUDE, room // SPARSE_MAGNITUDE**2
    first = min(math.isqrt(share), MAX_MAGNITUDE)
    return first, min(share // first, MAX_MAGNITUDE), None


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, scale: float = 1.0) -> Array:
    """Return normal random numbers of standard deviation ``scale`` with all the digits of ``dtype``, in its carrier."""
    drawn = np.float64 if dtype == "float64" else np.float32
    return rounded(rng.standard_normal(shape, drawn) * drawn(scale), dtype)


def nonzero_integers(rng: np.random.Generator, shape: tuple[int, ...], magnitude: int) -> NDArray[np.float32]:
    """Return integers from -magnitude to magnitude without 0, so that a zero hides no error."""
    values = rng.integers(-magnitude, magnitude, shape, np.int8 if magnitude < 128 else np.int32)
    return (values + (values >= 0)).astype(np.float32)


def sparse_mask(rng: np.random.Generator, spec: ConvSpec, taps: int, per: str = "output") -> Array:
    """Return a kernel of 1 at ``taps`` positions per output (or input) channel and 0 elsewhere.

    ``per="output"`` limits the products in each sum of the forward pass, ``per="input"`` those of the input's
    gradient.
    """
    kept, summed = _kept_and_summed(spec, per)
    rows = dealt(rng, spec.groups * kept, summed * math.prod(spec.kernel_size), taps)
    return as_kernel(rows, spec, per)


def as_kernel(rows: Array, spec: ConvSpec, per: str = "output") -> Array:
    """Return a kernel in canonical order whose taps for output (or input) channel i are row i, ``(O, I/g·∏kernel)``."""
    kept, summed = _kept_and_summed(spec, per)
    kernel = rows.reshape(spec.groups, kept, summed, *spec.kernel_size)
    if (per == "output") == spec.transposed:
        kernel = kernel.swapaxes(1, 2)
    return kernel.reshape(spec.kernel_shape)


def _kept_and_summed(spec: ConvSpec, per: str) -> tuple[int, int]:
    """Return the channels per group that have sums, and the channels that each sum runs over."""
    sizes = spec.out_channels // spec.groups, spec.in_channels // spec.groups
    return sizes if per == "output" else sizes[::-1]


def dealt(rng: np.random.Generator, rows: int, size: int, taps: int) -> NDArray[np.float32]:
    """Return a (rows, size) array with ``taps`` ones per row; every column is used before one is used again."""
    taps = min(taps, size)
    order = rng.permutation(size)
    mask = np.zeros((rows, size), np.float32)
    places = np.arange(rows)[:, None] * taps + np.arange(taps)
    np.put_along_axis(mask, order[places % max(size, 1)], 1, axis=1)
    return mask
