"""Mistakes that exchange height and width, or take one axis for all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from convspec.diagnosis.mistakes.catalogue import Mistake, github, mistake
from convspec.diagnosis.mistakes.index_maps import turned
from convspec.spec import layouts

if TYPE_CHECKING:
    from convspec.diagnosis.faulty_layer import Layer

    Wrong: TypeAlias = Iterator[tuple[str, Layer]]


def _swaps(ndim: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Exchanges of two spatial axes, and their reversal where it is another one; each with a name."""
    letters = layouts.spatial_letters(ndim)
    for a, b in combinations(range(ndim), 2):
        order = list(range(ndim))
        order[a], order[b] = b, a
        yield f"{letters[a]} and {letters[b]} exchanged", tuple(order)


def _ordered(values: tuple[int, ...], order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(values[i] for i in order)


def _axes(order: tuple[int, ...]) -> tuple[int, ...]:
    return (0, 1, *(i + 2 for i in order))


@mistake
class KernelAxes(Mistake):
    id = "kernel-height-and-width-exchanged"
    title = "Height and width of the kernel are exchanged"
    frameworks = ("torch", "keras", "flax", "onnx")
    explanation = "Some formats store kernels as (W, H); a square kernel shows no difference in shape."
    fix = "Transpose the kernel's spatial axes."
    evidence = github("TropComplique/mtcnn-pytorch/issues/16", "pytorch/executorch/pull/18783")

    def made_in(self, layer: Layer) -> Wrong:
        for name, order in _swaps(layer.spec.ndim):
            kernel = layer.params.kernel.transpose(_axes(order))
            size = _ordered(layer.spec.kernel_size, order)
            yield f"the kernel's {name}", layer.with_kernel(kernel, kernel_size=size)


@mistake
class InputAxes(Mistake):
    id = "input-height-and-width-exchanged"
    title = "Height and width of the input are exchanged"
    frameworks = ("torch", "keras", "flax", "onnx")
    explanation = "The image is transposed: libraries disagree on whether a size is (width, height) or (height, width)."
    fix = "Transpose the input's spatial axes."
    evidence = github("TropComplique/mtcnn-pytorch/issues/16", "ml-explore/mlx/issues/2190")

    def made_in(self, layer: Layer) -> Wrong:
        for name, order in _swaps(layer.spec.ndim):
            yield f"the input's {name}", replace(layer, x=layer.x.transpose(_axes(order)))


@mistake
class OutputAxes(Mistake):
    id = "output-height-and-width-exchanged"
    title = "Height and width of the output are exchanged"
    frameworks = ("torch", "keras", "flax", "onnx")
    explanation = "The layer is right, its output is transposed."
    fix = "Transpose the output's spatial axes."
    evidence = github("TropComplique/mtcnn-pytorch/issues/16", "rustnn/rustnn/pull/27")

    def made_in(self, layer: Layer) -> Wrong:
        for name, order in _swaps(layer.spec.ndim):
            yield f"the output's {name}", layer.then(turned(*_axes(order)))


@mistake
class LayerAxes(Mistake):
    id = "height-and-width-exchanged-around-the-layer"
    title = "Height and width are exchanged before the layer and exchanged back after it"
    frameworks = ("torch", "keras", "flax", "onnx")
    explanation = (
        "Every field of the layer – kernel, stride, padding – acts along the other axis; the shapes may agree."
    )
    fix = "Remove both transposes, or transpose the layer with them."
    evidence = github("TropComplique/mtcnn-pytorch/issues/16", "pytorch/executorch/pull/18783")

    def made_in(self, layer: Layer) -> Wrong:
        for name, order in _swaps(layer.spec.ndim):
            axes = _axes(order)
            exchanged = replace(layer, x=layer.x.transpose(axes))
            yield f"{name} around the layer", exchanged.then(turned(*axes))


class _FieldAxes(Mistake):
    """A field whose values are given from the last axis to the first."""

    field: str

    def made_in(self, layer: Layer) -> Wrong:
        values = getattr(layer.spec, self.field)
        for name, order in _swaps(layer.spec.ndim):
            if _ordered(values, order) != values:
                changed = {self.field: _ordered(values, order)}
                yield f"the {self.field}'s {name}", layer.respec(**changed)
                yield f"the {self.field}'s {name}, the pads as they were", layer.explicit(**changed)


@mistake
class StrideAxes(_FieldAxes):
    id = "stride-axes-exchanged"
    title = "The strides of height and width are exchanged"
    frameworks = ("torch", "keras", "flax", "onnx")
    explanation = "A pair was written as (width, height)."
    fix = "Write strides in the order of the tensor's axes: (height, width)."
    evidence = github("tensorflow/tensorflow/issues/33005", "pytorch/executorch/pull/18783")
    field = "stride"


@mistake
class DilationAxes(_FieldAxes):
    id = "dilation-axes-exchanged"
    title = "The dilations of height and width are exchanged"
    frameworks = ("torch", "keras", "flax", "onnx")
    explanation = "A pair was written as (width, height)."
    fix = "Write dilations in the order of the tensor's axes: (height, width)."
    evidence = github("pytorch/executorch/pull/18783", "ml-explore/mlx/issues/2190")
    field = "dilation"


@mistake
class OneForAll(Mistake):
    id = "one-value-for-all-axes"
    title = "One axis's value is used for all axes"
    frameworks = ("onnx", "torch", "keras")
    explanation = "A converter reads the first of a pair (or the last) and applies it to every axis."
    fix = "Pass one value per spatial axis."
    evidence = github(
        "iree-org/iree/issues/23545", "tensorflow/tensorflow/issues/33005", "onnx/tensorflow-onnx/issues/66"
    )

    def made_in(self, layer: Layer) -> Wrong:
        spec = layer.spec
        for field in ("stride", "dilation", "padding"):
            values = layer.pads if field == "padding" else getattr(spec, field)
            for which, value in (("first", values[0]), ("last", values[-1])):
                if len(set(values)) > 1:
                    yield f"the {which} axis's {field} for all", layer.explicit(**{field: (value,) * spec.ndim})


@mistake
class ImageFlipped(Mistake):
    id = "input-flipped"
    title = "The input is upside down or mirrored"
    frameworks = ("torch", "onnx", "keras")
    explanation = "Image formats differ in whether the first row is the top or the bottom one."
    fix = "Flip the input along that axis."
    evidence = github("TropComplique/mtcnn-pytorch/issues/16")

    def made_in(self, layer: Layer) -> Wrong:
        for axis, letter in enumerate(layouts.spatial_letters(layer.spec.ndim), start=2):
            yield f"the input flipped along {letter}", replace(layer, x=np.flip(layer.x, axis))
