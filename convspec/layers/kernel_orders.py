"""The order of each framework's kernels, and the NumPy code that brings one order to another.

========= ======================================== ===================================================
framework convolution                              transposed
========= ======================================== ===================================================
PyTorch   ``(O, I/g, *K)``                         ``(I, O/g, *K)``
ONNX      ``(O, I/g, *K)``                         ``(I, O/g, *K)``
Keras     ``(*K, I/g, O)``, depthwise ``(*K, C, M)`` ``(*K, O, I)``; groups: one such kernel for each
Flax      ``(*K, I/g, O)``                         ``(*K, O, I)``, by default ``(*K, I, O)`` and flipped;
                                                   groups: ``(*K, I/g, O)`` and flipped
Equinox   ``(O, I/g, *K)``                         ``(O, I/g, *K)`` and flipped
MLX       ``(O, *K, I/g)``                         ``(O, *K, I/g)``
ncnn      ``(O, I/g, *K)``                         ``(O, I/g, *K)``
OpenVINO  ``(O, I, *K)``, groups                   ``(I, O, *K)``, groups ``(g, I/g, O/g, *K)``
          ``(g, O/g, I/g, *K)``
LiteRT    ``(O, *K, I/g)``, depthwise ``(1, *K, O)``; ``(O, *K, I)``; 3-D ``(*K, O, I)``
          3-D ``(*K, I, O)``
========= ======================================== ===================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from convspec.spec import ConvSpec, layouts

Kind: TypeAlias = Literal["plain", "depthwise", "dilated", "split", "grouped"]


@dataclass(frozen=True, slots=True)
class Stored:
    """The order of a kernel in memory.

    Attributes:
        order: its axes, ``*`` for all spatial axes; O and I without the division by the groups.
        flipped: whether it is flipped along the spatial axes, compared with a scatter (or a correlation).
        kind: ``"plain"``, or an order that is not a permutation: ``"depthwise"``, ``(*K, C, M)``; ``"dilated"``, the
            grouped kernel of a transposed layer in the order of the convolution of the dilated input, ``(O, I/g)``;
            ``"split"`` into one kernel
            per group; ``"grouped"`` with an axis of groups before the others.
    """

    order: str
    flipped: bool = False
    kind: Kind = "plain"

    def shape(self, spec: ConvSpec) -> tuple[int, ...]:
        """Return the shape of the array, or of one array of a split kernel."""
        kernel, groups = spec.kernel_size, spec.groups
        if self.kind == "depthwise":
            return (*kernel, spec.in_channels, spec.out_channels // spec.in_channels)
        if self.kind == "dilated":
            return layouts.permute(_of_dilated(spec), "*IO", self.order, spec.ndim)
        sizes = list(spec.kernel_shape)
        if self.kind in ("split", "grouped"):
            sizes[0] //= groups
        if self.kind == "grouped":
            return (groups, *sizes)
        return layouts.permute(sizes, canonical(spec).order, self.order, spec.ndim)

    def axes(self, spec: ConvSpec) -> str:
        """Return the names of the axes: ``(H, W, I/2, O)``."""
        names = {"C": "C", "M": "M", "I": "I", "O": "O"}
        if spec.groups > 1 and self.kind != "depthwise":
            both = self.kind in ("split", "grouped")
            divided = "IO" if both else "I" if self.kind == "dilated" or not spec.transposed else "O"
            names |= {letter: f"{letter}/{spec.groups}" for letter in divided}
        spatial = ", ".join(layouts.spatial_letters(spec.ndim))
        order = "*CM" if self.kind == "depthwise" else self.order
        first = [str(spec.groups)] if self.kind == "grouped" else []
        return f"({', '.join([*first, *(spatial if letter == '*' else names[letter] for letter in order)])})"


def _of_dilated(spec: ConvSpec) -> tuple[int, ...]:
    """Return ``(*K, I/g, O)``, the kernel of the convolution of the dilated input that equals a transposed layer."""
    return (*spec.kernel_size, spec.in_channels // spec.groups, spec.out_channels)


def canonical(spec: ConvSpec) -> Stored:
    """Return the order of PyTorch, of ONNX and of :class:`convspec.ConvParams`."""
    return Stored("IO*" if spec.transposed else "OI*")


def of_plan(spec: ConvSpec, framework: str, text: str) -> Stored:
    """Return the order of the kernel of a framework's layer, given its code."""
    if framework == "keras":
        return keras(spec, depthwise="DepthwiseConv" in text, split="self.conv_0" in text)
    if framework == "flax":
        return flax(spec, dilated="input_dilation=" in text)
    if framework == "equinox":
        return equinox(spec)
    if framework in ("mlx", "ncnn"):
        return unflipped(spec, "O*I" if framework == "mlx" else "OI*")
    if framework == "openvino" and spec.groups > 1:
        return Stored(canonical(spec).order, kind="grouped")
    return litert(spec) if framework == "litert" else canonical(spec)


def keras(spec: ConvSpec, *, depthwise: bool = False, split: bool = False) -> Stored:
    """Return Keras' order, the same on all backends and in both data formats."""
    if split:
        return Stored("*OI", kind="split")
    return Stored("*IO", kind="depthwise") if depthwise else Stored("*OI" if spec.transposed else "*IO")


def flax(spec: ConvSpec, *, dilated: bool = False, transpose_kernel: bool = True) -> Stored:
    """Return Flax' order; ``transpose_kernel`` is that argument of its ConvTranspose."""
    if dilated:
        return Stored("*IO", flipped=True, kind="dilated" if spec.groups > 1 else "plain")
    if spec.transposed and transpose_kernel:
        return Stored("*OI")
    return Stored("*IO", flipped=spec.transposed)


def equinox(spec: ConvSpec) -> Stored:
    """Return Equinox' order: a transposed layer has the kernel of its convolution of the dilated input."""
    if not spec.transposed:
        return canonical(spec)
    return Stored("OI*", flipped=True, kind="dilated" if spec.groups > 1 else "plain")


def unflipped(spec: ConvSpec, order: str) -> Stored:
    """Return MLX' and ncnn's order: O is first in transposed layers too."""
    return Stored(order, kind="dilated" if spec.transposed and spec.groups > 1 else "plain")


def litert(spec: ConvSpec) -> Stored:
    """Return the order of LiteRT's operators; those of 2-D layers, which 1-D ones are too, differ from 3-D ones."""
    if spec.ndim == 3:
        return Stored("*OI" if spec.transposed else "*IO")
    return Stored("I*O" if spec.depthwise and spec.in_channels > 1 else "O*I")


def moves(spec: ConvSpec, source: Stored, target: Stored) -> tuple[str, ...]:
    """Return statements on ``kernel`` (a list ``kernels`` if split) that bring one order to the other."""
    if source == target:
        return ()
    if source.kind == target.kind == "plain":
        return _permuted(spec, source, target)
    if {source.kind, target.kind} == {"plain", "depthwise"} and source.order == target.order == "*IO":
        return (f"kernel = kernel.reshape{target.shape(spec)}",)
    return (*_to_canonical(spec, source), *_from_canonical(spec, target))


def _permuted(spec: ConvSpec, source: Stored, target: Stored) -> tuple[str, ...]:
    axes = layouts.permutation(source.order, target.order, spec.ndim)
    steps = [f"kernel = np.transpose(kernel, {axes})"] if axes != tuple(sorted(axes)) else []
    if source.flipped != target.flipped:
        first = target.order.index("*")
        steps.append(f"kernel = np.flip(kernel, {tuple(range(first, first + spec.ndim))})")
    return tuple(steps)


def _to_canonical(spec: ConvSpec, source: Stored) -> tuple[str, ...]:
    n, groups = spec.ndim, spec.groups
    spatial = tuple(range(n))
    if source.kind == "plain":
        return _permuted(spec, source, canonical(spec))
    if source.kind == "grouped":
        return (f"kernel = kernel.reshape{spec.kernel_shape}",)
    if source.kind == "depthwise":
        return (f"kernel = np.transpose(kernel, {(n, n + 1, *spatial)}).reshape{spec.kernel_shape}",)
    if source.kind == "split":
        axes = layouts.permutation(source.order, "IO*", n)
        return (f"kernel = np.concatenate([np.transpose(part, {axes}) for part in kernels])",)
    parts = (*spec.kernel_size, spec.in_channels // groups, groups, spec.out_channels // groups)
    turned = f"np.flip(kernel, {spatial})" if source.flipped else "kernel"
    return (
        *_permuted(spec, Stored(source.order), Stored("*IO")),
        f"kernel = {turned}.reshape{parts}",
        f"kernel = np.transpose(kernel, {(n + 1, n, n + 2, *spatial)}).reshape{spec.kernel_shape}",
    )


def _from_canonical(spec: ConvSpec, target: Stored) -> tuple[str, ...]:
    n, groups = spec.ndim, spec.groups
    spatial = tuple(range(n))
    if target.kind == "plain":
        return _permuted(spec, canonical(spec), target)
    if target.kind == "grouped":
        return (f"kernel = kernel.reshape{target.shape(spec)}",)
    if target.kind == "depthwise":
        parts = (spec.in_channels, spec.out_channels // spec.in_channels, *spec.kernel_size)
        return (f"kernel = np.transpose(kernel.reshape{parts}, {(*range(2, 2 + n), 0, 1)})",)
    if target.kind == "split":
        axes = layouts.permutation("IO*", target.order, n)
        return (f"kernels = [np.transpose(part, {axes}) for part in np.split(kernel, {groups})]",)
    parts = (groups, spec.in_channels // groups, spec.out_channels // groups, *spec.kernel_size)
    whole = f"kernel.reshape{_of_dilated(spec)}"
    return (
        f"kernel = np.transpose(kernel.reshape{parts}, {(*range(3, 3 + n), 1, 0, 2)})",
        f"kernel = np.flip({whole}, {spatial})" if target.flipped else f"kernel = {whole}",
        *_permuted(spec, Stored("*IO"), Stored(target.order)),
    )
