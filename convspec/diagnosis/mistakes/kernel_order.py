"""Mistakes in the order of the kernel's axes and taps."""

from __future__ import annotations

import numpy as np

from convspec.contract import kernel_axes
from convspec.diagnosis.faulty_layer import Layer, Variants, take
from convspec.diagnosis.mistakes.catalogue import described
from convspec.spec import layouts

_ORDERS = ("OI*", "IO*", "*IO", "*OI", "O*I", "I*O")


@described()
def kernel_flipped(layer: Layer) -> Variants:
    axes = tuple(range(2, layer.spec.ndim + 2))
    yield "the kernel flipped along all spatial axes", layer.with_kernel(np.flip(layer.params.kernel, axes))


@described()
def kernel_flipped_along_one_axis(layer: Layer) -> Variants:
    if layer.spec.ndim > 1:
        for axis, letter in enumerate(layouts.spatial_letters(layer.spec.ndim), start=2):
            yield f"the kernel flipped along {letter}", layer.with_kernel(np.flip(layer.params.kernel, axis))


@described()
def kernel_in_and_out_exchanged(layer: Layer) -> Variants:
    spec, kernel = layer.spec, layer.params.kernel
    first = len(kernel) // spec.groups
    if first == kernel.shape[1]:
        blocks = kernel.reshape(spec.groups, first, first, *spec.kernel_size).swapaxes(1, 2).reshape(kernel.shape)
        yield "the kernel's channel axes exchanged", layer.with_kernel(blocks)
        flipped = np.flip(blocks, tuple(range(2, kernel.ndim)))
        yield "the kernel's channel axes exchanged, its taps flipped", layer.with_kernel(flipped)


@described()
def kernel_reshaped(layer: Layer) -> Variants:
    spec, kernel = layer.spec, layer.params.kernel
    for order in _ORDERS:
        axes = kernel_axes(order, spec.ndim, transposed=spec.transposed)
        if axes == tuple(range(kernel.ndim)):
            continue
        stored, name = kernel.transpose(axes), order.replace("*", layouts.spatial_letters(spec.ndim))
        unmoved = layer.with_kernel(stored.reshape(kernel.shape))
        yield f"the kernel stored as {name} and read without a transpose", unmoved
        misread = kernel.reshape(stored.shape).transpose(np.argsort(axes))
        yield f"the kernel read as if stored as {name}", layer.with_kernel(misread)


@described()
def kernel_column_major(layer: Layer) -> Variants:
    kernel = layer.params.kernel
    yield "column-major memory read as row-major", layer.with_kernel(kernel.ravel(order="F").reshape(kernel.shape))
    yield "row-major memory read as column-major", layer.with_kernel(kernel.reshape(kernel.shape, order="F"))


@described()
def depthwise_multiplier_order(layer: Layer) -> Variants:
    spec = layer.spec
    multiplier = spec.out_channels // spec.groups
    if not spec.depthwise or multiplier == 1:
        return
    order = np.arange(spec.out_channels)
    for what, taken in (
        ("multiplier first", order.reshape(spec.groups, multiplier).T.reshape(-1)),
        ("channel first", order.reshape(multiplier, spec.groups).T.reshape(-1)),
    ):
        filters = layer.params.kernel.reshape(spec.out_channels, 1, *spec.kernel_size)[taken]
        kernel = filters.reshape(layer.params.kernel.shape)
        yield f"the filters ordered {what}", layer.with_kernel(kernel)
        if layer.params.bias is not None:
            both = layer.with_kernel(kernel).with_bias(layer.params.bias[taken])
            yield f"the filters and the bias ordered {what}", both
        yield f"the outputs ordered {what}", layer.then(take(slice(None), taken))
