"""Assertions for other projects' tests; what they raise ends in the diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec import diagnosis, models, reference
from convspec.corpora import test_data
from convspec.errors import RequestError, ShapeError, UnsupportedError
from convspec.models import owner
from convspec.reference import judge, products
from convspec.spec import ComputePrecision, format_of, layouts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from convspec.contract import Adapter, Reading
    from convspec.models import Array, Inputs
    from convspec.spec import ConvParams, ConvSpec

SECONDS = 20.0
_WIDE = {"float16": "float32", "bfloat16": "float32"}  # what half formats are summed in where nothing is declared


def assert_layers_agree(
    expected: Any,
    actual: Any,
    input_shape: Sequence[int] | None = None,
    *,
    seed: int = 0,
    seconds: float = SECONDS,
) -> None:
    """Assert that two layers of any two frameworks compute the same convolution.

    Both are read and both are run on one random input in their own layouts; each output must be, within the bound of
    rounding that is derived for its framework, what ``expected`` is read to mean.

    Args:
        expected: the layer that is right.
        actual: the layer that may be wrong.
        input_shape: of the input, in ``expected``'s layout; needed where a layer is more than a plain convolution.
            None: one that its kernel fits in, with another size along every axis.
        seed: of the input.
        seconds: for the search among pairs of mistakes.

    Raises:
        AssertionError: naming where they differ, and the mistake that gives exactly these numbers.
        UnsupportedError: where a layer cannot be read, saying why.
        RequestError: where a layer is of no framework that an adapter knows.
    """
    first = _Read.of(expected, input_shape)
    shape = _fitting(first.reading.spec) if input_shape is None else first.canonical(input_shape)
    second = _Read.of(actual, None if input_shape is None else shape, canonical=True)
    spec, params, dtype = first.reading.spec, first.reading.params, first.reading.dtype
    if second.reading.spec.ndim != spec.ndim:
        raise AssertionError(f"expected has {spec.ndim} spatial axes, actual {second.reading.spec.ndim}")
    if second.reading.dtype != dtype:
        raise AssertionError(f"the weights of actual are {second.reading.dtype}, those of expected {dtype}")
    x = test_data.forward(spec, shape, "random", dtype, seed)[1]
    own = models.check_layer(spec, params, x, first.run(x), first.adapter, dtype)
    if not own.ok:
        raise AssertionError(f"expected, {first}, does not compute what it says: {own.reason}")
    head = [f"the layers disagree on a random input of shape {shape} (N, C, then spatial), seed {seed}"]
    head += [f"  expected: {first}", f"  actual:   {second}"]
    differences = models.spec_differences(_explicit(spec, shape), _explicit(second.reading.spec, shape))
    head += [f"  settings: {text}" for text in differences]
    if second.reading.spec.in_channels != spec.in_channels:
        raise AssertionError("\n".join(head))
    y = second.run(x)
    found = models.check_layer(spec, params, x, y, second.adapter, dtype)
    if not found.ok:
        head += [f"  weights:  {text}" for text in _weights(params, second.reading.params)]
        why = diagnosis.diagnose(spec, params, x, y, dtype=dtype, seconds=seconds)
        raise AssertionError("\n".join([*head, f"  output:   {found.reason}", "", str(why)]))


def assert_models_agree(
    expected: Any,
    actual: Any,
    inputs: Inputs,
    *,
    layouts: tuple[str | None, str | None] = (None, None),
    seconds: float = SECONDS,
) -> None:
    """Assert that two models of any two frameworks agree, convolution by convolution.

    Arguments are those of :func:`convspec.compare`.

    Raises:
        AssertionError: with the table of all layers, the first that departs and its diagnosis.
        UnsupportedError: where a model cannot be looked into, or has no convolutions.
    """
    found = models.compare(expected, actual, inputs, layouts=layouts, seconds=seconds)
    if not found.agrees:
        raise AssertionError(f"the models disagree: {found.departure}\n\n{found}")


def assert_output(
    spec: ConvSpec,
    params: ConvParams,
    x: ArrayLike,
    actual: ArrayLike,
    *,
    layout: str = "NCHW",
    dtype: str | None = None,
    seconds: float = SECONDS,
) -> None:
    """Assert that ``actual``, computed by whatever means, is this convolution of ``x``, both in ``layout``.

    Sums of half formats are taken to be float32's, with two roundings of the result. ``dtype`` is the format that the
    numbers were computed in; None: that of ``actual``.

    Raises:
        AssertionError: with the worst element and the diagnosis.
        ShapeError, ParamsError: where the right layer itself cannot be computed from ``params`` and ``x``.
    """
    given, numbers = np.asarray(x), np.asarray(actual)
    name = dtype or numbers.dtype.name
    carrier = format_of(name).carrier
    spec.output_shape(given.shape, layout)
    wide, y = layouts.move(given, layout, "NCHW"), numbers.astype(carrier)
    y = layouts.move(y, layout, "NCHW") if y.ndim == given.ndim else y
    found = judge(
        y, reference.conv(spec, params, wide), reference.magnitude(spec, params, wide), dtype=name,
        data="activations", products=products(spec), arithmetic=ComputePrecision(_WIDE.get(name, name), 2),
    )  # fmt: skip
    if found.verdict != "agree":
        why = diagnosis.diagnose(spec, params, given, numbers, layout=layout, dtype=dtype, seconds=seconds)
        raise AssertionError(f"the output is not that of {spec!r}: {found.reason}\n\n{why}")


@dataclass(frozen=True, eq=False, slots=True)
class _Read:
    """A layer with what was read off it."""

    layer: Any
    adapter: Adapter
    reading: Reading

    @classmethod
    def of(cls, layer: Any, shape: Sequence[int] | None, *, canonical: bool = False) -> _Read:
        """Read a layer; a canonical shape is first moved into the layer's own layout."""
        adapter = owner(layer)
        if shape is None or not canonical:
            return cls(layer, adapter, adapter.read(layer, shape))
        problems = []
        for layout in adapter.layouts:
            try:
                reading = adapter.read(layer, layouts.shape_in(tuple(shape), layout, len(shape) - 2))
            except (UnsupportedError, ShapeError) as error:  # an input in the other layout may not even go in
                problems.append(error)
            else:
                if reading.layout == layout:
                    return cls(layer, adapter, reading)
        raise problems[0] if problems else RequestError(f"{type(layer).__name__} takes none of {adapter.layouts}")

    def __str__(self) -> str:
        return f"{self.adapter.name}'s {type(self.layer).__name__}, {self.reading.layout}, {self.reading.spec!r}"

    def canonical(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape, which is in the layer's layout, as ``(N, C, *spatial)``."""
        self.reading.spec.output_shape(shape, self.reading.layout)
        return layouts.canonical_shape(shape, self.reading.layout, self.reading.spec.ndim)

    def run(self, x: Array) -> Array:
        """The layer's output of a canonical ``x``, canonical too."""
        layout = self.reading.layout
        y = self.adapter.apply(self.layer, np.ascontiguousarray(layouts.move(x, "NCHW", layout)), layout)
        return layouts.move(y, layout, "NCHW")


def _fitting(spec: ConvSpec) -> tuple[int, ...]:
    """A batch of two, large enough for kernel and pads, with another size along every axis."""
    pads = [(0, 0)] * spec.ndim if isinstance(spec.padding, str) else spec.padding
    sizes = (
        2 * max(kernel, *pad) + stride + axis
        for axis, (kernel, pad, stride) in enumerate(zip(spec.effective_kernel, pads, spec.stride, strict=True))
    )
    return (2, spec.in_channels, *sizes)


def _explicit(spec: ConvSpec, shape: Sequence[int]) -> ConvSpec:
    return spec.explicit((shape[0], spec.in_channels, *shape[2:])) if spec.ndim == len(shape) - 2 else spec


def _weights(ours: ConvParams, theirs: ConvParams) -> list[str]:
    """In what the weights differ."""
    found = []
    for name in ("kernel", "bias"):
        a, b = getattr(ours, name), getattr(theirs, name)
        if a is None or b is None:
            found += [f"{'expected' if a is None else 'actual'} has no {name}"] * ((a is None) != (b is None))
        elif a.shape != b.shape:
            found.append(f"{name} of shape {a.shape} against {b.shape}")
        elif not np.array_equal(a, b, equal_nan=True):
            same = np.array_equal(np.sort(a, None), np.sort(b, None), equal_nan=True)
            found.append(f"the {name}'s numbers are in another order" if same else f"the {name} differs")
    return found
