"""ConvParams: the kernel and the bias of one layer, in the canonical order."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec.dtypes import format_of, rounded
from convspec.errors import ParamsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec.spec import ConvSpec

Array = "NDArray[np.floating[Any]]"


@dataclass(frozen=True, eq=False, slots=True)
class ConvParams:
    """Kernel and bias of one convolution layer.

    Attributes:
        kernel: ``(O, I/g, *kernel)``; of a transposed layer ``(I, O/g, *kernel)``. Correlation, not flipped:
            PyTorch's and ONNX's order.
        bias: ``(O,)``, or None for a layer without.
    """

    kernel: NDArray[np.floating[Any]]
    bias: NDArray[np.floating[Any]] | None = None

    def check(self, spec: ConvSpec) -> ConvParams:
        """These parameters, if they fit the spec.

        Raises:
            ParamsError: naming the array, the shape that the spec wants and the one that came.
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
        """Normal random numbers of variance 1 / fan-in, representable in ``dtype``; the same for the same seed."""
        rng = np.random.default_rng([seed, 1])
        fan_in = spec.in_channels // spec.groups * math.prod(spec.kernel_size)
        kernel = rng.standard_normal(spec.kernel_shape, np.float32) / np.float32(math.sqrt(fan_in))
        bias = rng.standard_normal(spec.out_channels, np.float32) if spec.bias else None
        return cls(rounded(kernel, dtype), None if bias is None else rounded(bias, dtype))

    @classmethod
    def exact(cls, spec: ConvSpec, seed: int = 0, dtype: str = "float32", reduction: int | None = None) -> ConvParams:
        """Small integers for which every order of summation gives the exact result in ``dtype``.

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
            kernel *= _sparse_mask(rng, spec, budget.taps)
        bias = nonzero_integers(rng, (spec.out_channels,), budget.bias) if spec.bias else None
        carrier = format_of(dtype).carrier
        return cls(kernel.astype(carrier), None if bias is None else bias.astype(carrier))

    def save(self, path: str | os.PathLike[str], spec: ConvSpec | None = None) -> None:
        """Write ``kernel`` and ``bias`` as a safetensors file, the spec's JSON in its metadata."""
        from safetensors.numpy import save_file

        arrays = {"kernel": np.ascontiguousarray(self.kernel)}
        if self.bias is not None:
            arrays["bias"] = np.ascontiguousarray(self.bias)
        save_file(arrays, path, {"format": "convspec.params/1", **({"spec": spec.to_json()} if spec else {})})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ConvParams:
        """Read what :meth:`save` wrote.

        Raises:
            ParamsError: if the file is no safetensors file, or holds no ``kernel``.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            arrays = load_file(path)
        except SafetensorError as error:
            raise ParamsError(f"{os.fspath(path)} is no safetensors file: {error}") from None
        if "kernel" not in arrays:
            raise ParamsError(f"{os.fspath(path)} holds no tensor 'kernel', only {sorted(arrays)}")
        return cls(arrays["kernel"], arrays.get("bias"))


@dataclass(frozen=True, slots=True)
class ExactBudget:
    """Magnitudes of integer data, |x|·|w|·K + |b| ≤ 2ᵖ; ``taps`` is the number of non-zero ones, None for all."""

    x: int
    kernel: int
    bias: int
    taps: int | None


def exact_budget(spec: ConvSpec, dtype: str, reduction: int | None = None) -> ExactBudget:
    """How large integers may be for a sum of ``reduction`` products to be exact in ``dtype``."""
    limit = 2 ** min(format_of(dtype).digits, 24)
    products = reduction or spec.in_channels // spec.groups * math.prod(spec.kernel_size)
    bias = max(limit // 16, 1)
    magnitude = min(math.isqrt((limit - bias) // products), 15)
    if magnitude >= 2:
        return ExactBudget(magnitude, magnitude, bias, None)
    return ExactBudget(3, 3, bias, max((limit - bias) // 9, 1))


def nonzero_integers(rng: np.random.Generator, shape: tuple[int, ...], magnitude: int) -> NDArray[np.float32]:
    """Integers from -magnitude to magnitude without 0, so that no error hides behind a zero."""
    values = rng.integers(1, magnitude + 1, shape) * (2 * rng.integers(0, 2, shape) - 1)
    return values.astype(np.float32)


def _sparse_mask(rng: np.random.Generator, spec: ConvSpec, taps: int) -> NDArray[np.float32]:
    """1 at ``taps`` places of each output channel's filter, 0 elsewhere; every place is used where possible."""
    channels = spec.in_channels // spec.groups
    size = channels * math.prod(spec.kernel_size)
    mask = np.zeros((spec.out_channels, size), np.float32)
    start = int(rng.integers(size))
    for o in range(spec.out_channels):
        mask[o, (start + o * taps + np.arange(taps) * max(size // taps, 1)) % size] = 1
    return mask.reshape(spec.out_channels, channels, *spec.kernel_size)
