"""Assertions for other projects' tests; their errors end in the diagnosis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from convspec import diagnosis, models, reference
from convspec.contract import Adapter, Reading
from convspec.corpora import test_data
from convspec.errors import RequestError, ShapeError, UnsupportedError
from convspec.models import Array, Inputs, adapter_for
from convspec.reference import judge, products
from convspec.spec import ComputePrecision, ConvParams, ConvSpec, format_of, layouts

SECONDS = 20.0
_WIDE = {"float16": "float32", "bfloat16": "float32"}  # accumulators of half formats


def assert_layers_agree(
    expected: Any, actual: Any, input_shape: Sequence[int] | None = None, *, seed: int = 0, seconds: float = SECONDS
) -> None:
    """Assert that two layers of any two frameworks compute the same convolution.

    Both are read and run on one random input in their own layouts; each output must be, within the rounding bound of
    its framework, that of the spec and weights read from ``expected``.

    Args:
        expected: the layer that is right.
        actual: the layer that may be wrong.
        input_shape: of the input, in ``expected``'s layout; needed where a layer is more than a plain convolution.
            None: one that the kernel fits in, with another size along every axis.
        seed: of the input.
        seconds: time limit for the search among pairs of mistakes.

    Raises:
        AssertionError: naming the differences, and the mistake that gives exactly these numbers.
        UnsupportedError: if a layer cannot be read; says why.
        RequestError: if no adapter knows a layer's framework.
    """
    first = _ReadLayer.of(expected, input_shape)
    shape = _fitting(first.reading.spec) if input_shape is None else first.canonical(input_shape)
    second = _ReadLayer.of(actual, None if input_shape is None else shape, canonical=True)
    spec, params, dtype = first.reading.spec, first.reading.params, first.reading.dtype
    if second.reading.spec.ndim != spec.ndim:
        raise AssertionError(f"expected has {spec.ndim} spatial axes, actual {second.reading.spec.ndim}")
    if second.reading.dtype != dtype:
        raise AssertionError(f"the weights of actual are {second.reading.dtype}, those of expected {dtype}")
    x = test_data.forward(spec, shape, "random", dtype, seed)[1]
    own = models.check_layer(spec, params, x, first.run(x), first.adapter, dtype)
    if not own.ok:
        raise AssertionError(f"expected, {first}, does not compute its own spec: {own.reason}")
    head = [f"the layers disagree on a random input of shape {shape} (N, C, then spatial), seed {seed}"]
    head += [f"  expected: {first}", f"  actual:   {second}"]
    differences = models.spec_differences(_explicit(spec, shape), _explicit(second.reading.spec, shape))
    head += [f"  settings: {text}" for text in differences]
    if second.reading.spec.in_channels != spec.in_channels:
        raise AssertionError("\n".join(head))
    y = second.run(x)
    check = models.check_layer(spec, params, x, y, second.adapter, dtype)
    if not check.ok:
        ours, theirs = ({"kernel": p.kernel, "bias": p.bias} for p in (params, second.reading.params))
        differences = models.array_differences(ours, theirs, ("expected", "actual"))
        head += [f"  weights:  {text}" for text in differences]
        why = diagnosis.diagnose(spec, params, x, y, dtype=dtype, seconds=seconds)
        raise AssertionError("\n".join([*head, f"  output:   {check.reason}", "", str(why)]))


def assert_models_agree(
    expected: Any, actual: Any, inputs: Inputs, *, layouts: tuple[str | None, str | None] = (None, None),
    seconds: float = SECONDS,
) -> None:  # fmt: skip
    """Assert that the results of two models of any two frameworks agree within what rounding explains.

    Arguments are those of :func:`convspec.compare`.

    Raises:
        AssertionError: with the table of all layers, the first that diverges and its diagnosis.
        UnsupportedError: if a model cannot be read.
    """
    result = models.compare(expected, actual, inputs, layouts=layouts, seconds=seconds)
    if not result.agrees:
        found = f"the models disagree: {result.divergence}" if result.divergence else f"unknown: {result.unknown}"
        raise AssertionError(f"{found}\n\n{result}")


def assert_output(
    spec: ConvSpec, params: ConvParams, x: ArrayLike, actual: ArrayLike, *, layout: str = "NCHW",
    dtype: str | None = None, seconds: float = SECONDS,
) -> None:  # fmt: skip
    """Assert that ``actual``, however it was computed, is this convolution of ``x``, both in ``layout``.

    Half formats are assumed to accumulate in float32 and to round the result twice. ``dtype`` is the format of the
    computation; None: that of ``actual``.

    Raises:
        AssertionError: with the worst element and the diagnosis.
        ShapeError, ParamsError: if ``params`` or ``x`` does not fit the spec.
    """
    given, numbers = np.asarray(x), np.asarray(actual)
    name = dtype or numbers.dtype.name
    carrier = format_of(name).carrier
    spec.output_shape(given.shape, layout)
    wide, y = layouts.move_axes(given, layout, "NCHW"), numbers.astype(carrier)
    y = layouts.move_axes(y, layout, "NCHW") if y.ndim == given.ndim else y
    verdict = judge(
        y, reference.conv(spec, params, wide), reference.magnitude(spec, params, wide), dtype=name,
        data="activations", products=products(spec), arithmetic=ComputePrecision(_WIDE.get(name, name), 2),
    )  # fmt: skip
    if verdict.verdict != "agree":
        why = diagnosis.diagnose(spec, params, given, numbers, layout=layout, dtype=dtype, seconds=seconds)
        raise AssertionError(f"the output is not that of {spec!r}: {verdict.reason}\n\n{why}")


@dataclass(frozen=True, eq=False, slots=True)
class _ReadLayer:
    """A layer and its reading."""

    layer: Any
    adapter: Adapter
    reading: Reading

    @classmethod
    def of(cls, layer: Any, shape: Sequence[int] | None, *, canonical: bool = False) -> _ReadLayer:
        """Read a layer; a canonical shape is first brought to the layer's own layout."""
        adapter = adapter_for(layer)
        if shape is None or not canonical:
            return cls(layer, adapter, adapter.read(layer, shape))
        problems = []
        for layout in adapter.layouts:
            try:
                reading = adapter.read(layer, layouts.shape_in(tuple(shape), layout, len(shape) - 2))
            except (UnsupportedError, ShapeError) as error:  # the layer may refuse an input in the other layout
                problems.append(error)
            else:
                if reading.layout == layout:
                    return cls(layer, adapter, reading)
        raise problems[0] if problems else RequestError(f"{type(layer).__name__} takes none of {adapter.layouts}")

    def __str__(self) -> str:
        return f"{self.adapter.name}'s {type(self.layer).__name__}, {self.reading.layout}, {self.reading.spec!r}"

    def canonical(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return a shape in the layer's layout as ``(N, C, *spatial)``."""
        self.reading.spec.output_shape(shape, self.reading.layout)
        return layouts.canonical_shape(shape, self.reading.layout, self.reading.spec.ndim)

    def run(self, x: Array) -> Array:
        """Return the layer's output for ``x``, both canonical."""
        layout = self.reading.layout
        y = self.adapter.apply(self.layer, np.ascontiguousarray(layouts.move_axes(x, "NCHW", layout)), layout)
        return layouts.move_axes(y, layout, "NCHW")


def _fitting(spec: ConvSpec) -> tuple[int, ...]:
    """Return the shape of a batch of two that kernel and pads fit in, with another size along every axis."""
    pads = [(0, 0)] * spec.ndim if isinstance(spec.padding, str) else spec.padding
    sizes = (
        2 * max(kernel, *pad) + stride + axis
        for axis, (kernel, pad, stride) in enumerate(zip(spec.effective_kernel, pads, spec.stride, strict=True))
    )
    return (2, spec.in_channels, *sizes)


def _explicit(spec: ConvSpec, shape: Sequence[int]) -> ConvSpec:
    return spec.explicit((shape[0], spec.in_channels, *shape[2:])) if spec.ndim == len(shape) - 2 else spec
