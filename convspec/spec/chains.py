"""Layers in sequence: sizes from end to end, and the input of a Linear layer after a flatten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from convspec.errors import ShapeError, SpecError
from convspec.spec import layouts
from convspec.spec.conv_spec import ConvSpec
from convspec.spec.shapes import ReceptiveField, product, receptive_field


@dataclass(frozen=True, slots=True)
class Flattened:
    """A flattened ``(C, *spatial)`` tensor: the input features of a Linear layer.

    Attributes:
        in_features: number of features, the Linear layer's ``in_features``.
        channels: C.
        spatial: sizes of the spatial axes.
    """

    channels: int
    spatial: tuple[int, ...]

    @property
    def in_features(self) -> int:
        return self.channels * product(self.spatial)

    def axes(self, layout: str) -> str:
        """Return the axes in the order of a flatten in ``layout``, slowest first: ``CHW`` or ``HWC``."""
        return layouts.name(layout, len(self.spatial)).removeprefix("N")

    def order(self, layout: str, source: str = "NCHW", first: int | None = None) -> tuple[int, ...]:
        """Return for every feature of a flatten in ``layout``, or the first few, its index in a flatten in ``source``.

        It permutes the weights of a Linear layer trained after a flatten in ``source``: with PyTorch's ``(out, in)``
        weights, ``weight[:, order]`` fits a flatten in ``layout``.

        >>> Flattened(2, (1, 3)).order("NHWC")
        (0, 3, 1, 4, 2, 5)
        """
        ndim = len(self.spatial)
        shape = layouts.shape_in((1, self.channels, *self.spatial), layout, ndim)[1:]
        of_source = layouts.shape_in((1, self.channels, *self.spatial), source, ndim)[1:]
        axes = layouts.permutation(layouts.order(source, ndim), layouts.order(layout, ndim), ndim)[1:]
        steps = [product(of_source[axis:]) for axis in axes]  # of_source has no batch axis: axis is after axis - 1
        places = [0]
        for size, step in zip(shape, steps, strict=True):
            indices = range(size if first is None else min(size, first))
            places = [p + i * step for p in places for i in indices][:first]
        return tuple(places)


class Chain:
    """Convolution layers in sequence, each fed by the one before.

    Args:
        specs: the layers, first to last.

    Raises:
        SpecError: if the chain is empty, or two neighbours do not fit, with a way to fix them.

    >>> chain = Chain([ConvSpec(1, 6, 5, padding=2), ConvSpec(6, 16, 5, stride=2)])
    >>> chain.output_shape((1, 1, 28, 28))
    (1, 16, 12, 12)
    >>> chain.flatten((1, 1, 28, 28)).in_features
    2304
    """

    def __init__(self, specs: Iterable[ConvSpec]) -> None:
        self.specs = tuple(specs)
        if not self.specs:
            raise SpecError(["specs=() must hold at least one layer"])
        problems = []
        for i, (a, b) in enumerate(zip(self.specs, self.specs[1:], strict=False)):
            if a.ndim != b.ndim:
                problems.append(f"layers {i} and {i + 1} must have as many spatial axes: {a.ndim} against {b.ndim}")
            if a.out_channels != b.in_channels:
                problems.append(
                    f"layers {i} and {i + 1} must fit: layer {i} has out_channels={a.out_channels}, "
                    f"layer {i + 1} in_channels={b.in_channels}; set layer {i}'s out_channels to {b.in_channels}, "
                    f"or layer {i + 1}'s in_channels to {a.out_channels}"
                )
        if problems:
            raise SpecError(problems)

    def shapes(self, input_shape: Sequence[int], layout: str = "NCHW") -> tuple[tuple[int, ...], ...]:
        """Return the input's shape and the shape after each layer, in ``layout``.

        Raises:
            ShapeError: with the layer that the tensor does not fit.
        """
        shapes = [tuple(input_shape)]
        for i, spec in enumerate(self.specs):
            try:
                shapes.append(spec.output_shape(shapes[-1], layout))
            except ShapeError as error:
                raise ShapeError(f"layer {i} of {len(self.specs)}, {spec!r}: {error}") from None
        return tuple(shapes)

    def output_shape(self, input_shape: Sequence[int], layout: str = "NCHW") -> tuple[int, ...]:
        """Return the shape after the last layer, in ``layout``."""
        return self.shapes(input_shape, layout)[-1]

    def explicit(self, input_shape: Sequence[int], layout: str = "NCHW") -> Chain:
        """Return the same chain for this input with every padding as numbers."""
        shapes = self.shapes(input_shape, layout)
        return Chain(spec.explicit(shape, layout) for spec, shape in zip(self.specs, shapes, strict=False))

    @property
    def num_parameters(self) -> int:
        """Number of learnt parameters of all layers."""
        return sum(spec.num_parameters for spec in self.specs)

    def macs(self, input_shape: Sequence[int], layout: str = "NCHW") -> int:
        """Count the multiply-accumulate operations of all layers for this input."""
        shapes = self.shapes(input_shape, layout)
        return sum(spec.macs(shape, layout) for spec, shape in zip(self.specs, shapes, strict=False))

    def receptive_field(self, input_shape: Sequence[int] | None = None, layout: str = "NCHW") -> ReceptiveField:
        """Return the receptive field of one output of the last layer in the chain's input, per axis."""
        chain = self if input_shape is None else self.explicit(input_shape, layout)
        return receptive_field(chain.specs)

    def flatten(self, input_shape: Sequence[int], layout: str = "NCHW") -> Flattened:
        """Return the flattened output of the last layer, the input of a Linear layer."""
        ndim = self.specs[-1].ndim
        _, channels, *spatial = layouts.canonical_shape(self.output_shape(input_shape, layout), layout, ndim)
        return Flattened(channels, tuple(spatial))

    def __repr__(self) -> str:
        return f"Chain([{', '.join(map(repr, self.specs))}])"
