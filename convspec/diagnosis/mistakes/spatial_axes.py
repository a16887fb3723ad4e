"""Mistakes that exchange height and width, or use one axis's value for all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import numpy as np

from convspec.diagnosis.faulty_layer import Layer, Variants, transpose
from convspec.diagnosis.mistakes.catalogue import mistake
from convspec.spec import layouts


def _swaps(ndim: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the exchanges of two spatial axes, each with a name."""
    letters = layouts.spatial_letters(ndim)
    for a, b in combinations(range(ndim), 2):
        order = list(range(ndim))
        order[a], order[b] = b, a
        yield f"{letters[a]} and {letters[b]} exchanged", tuple(order)


def _reorder(values: tuple[int, ...], order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(values[i] for i in order)


def _axes(order: tuple[int, ...]) -> tuple[int, ...]:
    return (0, 1, *(i + 2 for i in order))


@mistake(
    "Height and width of the kernel are exchanged", frameworks=("torch", "keras", "flax", "onnx"),
    explanation="Some formats store kernels as (W, H); the shape of a square kernel shows no difference.",
    fix="Transpose the kernel's spatial axes.",
    threads=("TropComplique/mtcnn-pytorch/issues/16", "pytorch/executorch/pull/18783"),
)  # fmt: skip
def kernel_height_and_width_exchanged(layer: Layer) -> Variants:
    for name, order in _swaps(layer.spec.ndim):
        kernel = layer.params.kernel.transpose(_axes(order))
        size = _reorder(layer.spec.kernel_size, order)
        yield f"the kernel's {name}", layer.with_kernel(kernel, kernel_size=size)


@mistake(
    "Height and width of the input are exchanged", frameworks=("torch", "keras", "flax", "onnx"),
    explanation="The image is transposed: some libraries give sizes as (width, height), others as (height, width).",
    fix="Transpose the input's spatial axes.",
    threads=("TropComplique/mtcnn-pytorch/issues/16", "ml-explore/mlx/issues/2190"),
)  # fmt: skip
def input_height_and_width_exchanged(layer: Layer) -> Variants:
    for name, order in _swaps(layer.spec.ndim):
        yield f"the input's {name}", replace(layer, x=layer.x.transpose(_axes(order)))


@mistake(
    "Height and width of the output are exchanged", frameworks=("torch", "keras", "flax", "onnx"),
    explanation="The layer is right; its output is transposed.",
    fix="Transpose the output's spatial axes.",
    threads=("TropComplique/mtcnn-pytorch/issues/16", "rustnn/rustnn/pull/27"),
)  # fmt: skip
def output_height_and_width_exchanged(layer: Layer) -> Variants:
    for name, order in _swaps(layer.spec.ndim):
        yield f"the output's {name}", layer.then(transpose(*_axes(order)))


@mistake(
    "Height and width are exchanged before the layer and exchanged back after it",
    frameworks=("torch", "keras", "flax", "onnx"),
    explanation="Kernel, stride and padding act along the other axis; the shapes may be equal.",
    fix="Remove both transposes, or transpose the layer with them.",
    threads=("TropComplique/mtcnn-pytorch/issues/16", "pytorch/executorch/pull/18783"),
)  # fmt: skip
def height_and_width_exchanged_around_the_layer(layer: Layer) -> Variants:
    for name, order in _swaps(layer.spec.ndim):
        axes = _axes(order)
        exchanged = replace(layer, x=layer.x.transpose(axes))
        yield f"{name} around the layer", exchanged.then(transpose(*axes))


def _exchanged(layer: Layer, field: str) -> Variants:
    """Yield the layer with the values of a field exchanged between two spatial axes."""
    values = getattr(layer.spec, field)
    for name, order in _swaps(layer.spec.ndim):
        if _reorder(values, order) != values:
            changed = {field: _reorder(values, order)}
            yield f"the {field}'s {name}", layer.respec(**changed)
            yield f"the {field}'s {name}, the pads unchanged", layer.explicit(**changed)


@mistake(
    "The strides of height and width are exchanged", frameworks=("torch", "keras", "flax", "onnx"),
    explanation="A pair was written as (width, height).",
    fix="Write strides in the order of the tensor's axes: (height, width).",
    threads=("tensorflow/tensorflow/issues/33005", "pytorch/executorch/pull/18783"),
)  # fmt: skip
def stride_axes_exchanged(layer: Layer) -> Variants:
    return _exchanged(layer, "stride")


@mistake(
    "The dilations of height and width are exchanged", frameworks=("torch", "keras", "flax", "onnx"),
    explanation="A pair was written as (width, height).",
    fix="Write dilations in the order of the tensor's axes: (height, width).",
    threads=("pytorch/executorch/pull/18783", "ml-explore/mlx/issues/2190"),
)  # fmt: skip
def dilation_axes_exchanged(layer: Layer) -> Variants:
    return _exchanged(layer, "dilation")


@mistake(
    "One axis's value is used for all axes", frameworks=("onnx", "torch", "keras"),
    explanation="A converter reads the first (or last) value of a pair and applies it to every axis.",
    fix="Pass one value per spatial axis.",
    threads=("iree-org/iree/issues/23545", "tensorflow/tensorflow/issues/33005", "onnx/tensorflow-onnx/issues/66"),
)  # fmt: skip
def one_value_for_all_axes(layer: Layer) -> Variants:
    spec = layer.spec
    for field in ("stride", "dilation", "padding"):
        values = layer.pads if field == "padding" else getattr(spec, field)
        for which, value in (("first", values[0]), ("last", values[-1])):
            if len(set(values)) > 1:
                yield f"the {which} axis's {field} for all", layer.explicit(**{field: (value,) * spec.ndim})


@mistake(
    "The input is upside down or mirrored", frameworks=("torch", "onnx", "keras"),
    explanation="In some image formats the first row is the top row, in others the bottom row.",
    fix="Flip the input along that axis.",
    threads=("TropComplique/mtcnn-pytorch/issues/16",),
)  # fmt: skip
def input_flipped(layer: Layer) -> Variants:
    for axis, letter in enumerate(layouts.spatial_letters(layer.spec.ndim), start=2):
        yield f"the input flipped along {letter}", replace(layer, x=np.flip(layer.x, axis))
