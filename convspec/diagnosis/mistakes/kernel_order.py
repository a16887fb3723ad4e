"""Mistakes in the order of the kernel's axes and taps."""

from __future__ import annotations

import numpy as np

from convspec.contract import kernel_axes
from convspec.diagnosis.faulty_layer import Layer, Variants, take
from convspec.diagnosis.mistakes.catalogue import mistake
from convspec.spec import layouts

_ORDERS = ("OI*", "IO*", "*IO", "*OI", "O*I", "I*O")


@mistake(
    "The kernel is flipped, or not flipped where it should be", frameworks=("flax", "torch", "keras", "onnx"),
    explanation="PyTorch, Keras, Flax and ONNX correlate: they do not flip the kernel. Theano, MATLAB and signal "
                "processing flip it. Flax's ConvTranspose scatters the flipped kernel unless transpose_kernel=True, "
                "PyTorch's and Keras's the kernel as it is.",
    fix="Flip the kernel's spatial axes once: np.flip(kernel, spatial_axes).",
    threads=("jax-ml/jax/issues/11252", "google/flax/issues/3137", "keras-team/keras/issues/3015"),
)  # fmt: skip
def kernel_flipped(layer: Layer) -> Variants:
    axes = tuple(range(2, layer.spec.ndim + 2))
    yield "the kernel flipped along all spatial axes", layer.with_kernel(np.flip(layer.params.kernel, axes))


@mistake(
    "The kernel is flipped along one spatial axis only", frameworks=("torch", "keras", "flax", "onnx"),
    explanation="Some spatial axes were flipped, others were not.",
    fix="Flip all spatial axes, or none.",
    threads=("tensorflow/tensorflow/issues/11864", "coxlab/prednet/issues/46"),
)  # fmt: skip
def kernel_flipped_along_one_axis(layer: Layer) -> Variants:
    if layer.spec.ndim > 1:
        for axis, letter in enumerate(layouts.spatial_letters(layer.spec.ndim), start=2):
            yield f"the kernel flipped along {letter}", layer.with_kernel(np.flip(layer.params.kernel, axis))


@mistake(
    "Input and output channels of the kernel are exchanged", frameworks=("torch", "keras", "flax", "onnx"),
    explanation="Transposed kernels are (in, out, …) in PyTorch and ONNX, (…, out, in) in Keras: the reverse of "
                "regular kernels. With equal numbers of channels the shapes show no difference.",
    fix="Transpose the kernel's channel axes.",
    threads=("tensorflow/tensorflow/issues/31192", "apache/tvm/pull/9336", "tenstorrent/tt-metal/issues/19183"),
)  # fmt: skip
def kernel_in_and_out_exchanged(layer: Layer) -> Variants:
    spec, kernel = layer.spec, layer.params.kernel
    first = len(kernel) // spec.groups
    if first == kernel.shape[1]:
        blocks = kernel.reshape(spec.groups, first, first, *spec.kernel_size).swapaxes(1, 2).reshape(kernel.shape)
        yield "the kernel's channel axes exchanged", layer.with_kernel(blocks)
        flipped = np.flip(blocks, tuple(range(2, kernel.ndim)))
        yield "the kernel's channel axes exchanged, its taps flipped", layer.with_kernel(flipped)


@mistake(
    "The kernel is reshaped between the frameworks' orders instead of transposed",
    frameworks=("torch", "keras", "flax", "onnx"),
    explanation="PyTorch and ONNX store (out, in, H, W), Keras and Flax (H, W, in, out). After a reshape, or when raw "
                "memory is read in the other order, the shape is right and the numbers are in wrong places.",
    fix="Transpose: kernel.transpose(2, 3, 1, 0) from PyTorch to Keras and Flax, (3, 2, 0, 1) back.",
    threads=("pytorch/executorch/pull/17423", "AlexanderLutsenko/nobuco/issues/2", "apache/tvm/pull/9336"),
)  # fmt: skip
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


@mistake(
    "The kernel's memory is read in column-major order", frameworks=("onnx", "torch"),
    explanation="MATLAB, Julia and Fortran store the first axis contiguously, NumPy the last.",
    fix="Reshape with order='F', or reverse the axes after reading.",
    threads=("FluxML/Flux.jl/issues/2410", "pytorch/pytorch/issues/1246", "pytorch/pytorch/issues/55781"),
)  # fmt: skip
def kernel_column_major(layer: Layer) -> Variants:
    kernel = layer.params.kernel
    yield "column-major memory read as row-major", layer.with_kernel(kernel.ravel(order="F").reshape(kernel.shape))
    yield "row-major memory read as column-major", layer.with_kernel(kernel.reshape(kernel.shape, order="F"))


@mistake(
    "The filters of a depthwise layer are in the wrong order", frameworks=("torch", "keras", "flax", "onnx"),
    explanation="With a multiplier M, filter m of channel c is output c·M + m in all frameworks. A kernel with the "
                "multiplier first makes it output m·C + c.",
    fix="From Keras's (H, W, C, M): transpose to (C, M, H, W), then reshape to (C·M, 1, H, W).",
    threads=("AlexanderLutsenko/nobuco/issues/2", "pytorch/executorch/pull/18455",
             "huggingface/transformers/pull/18597"),
)  # fmt: skip
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
