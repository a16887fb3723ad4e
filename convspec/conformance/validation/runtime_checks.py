"""What an adapter promises of its layers, which are built and run to check it; one small function each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec import reference
from convspec.conformance.validation.static_checks import SPECS, Broken, Promise, demand, supported
from convspec.contract import Reading
from convspec.errors import ShapeError, UnsupportedError
from convspec.spec import ConvParams, Gradients, format_of, layouts, rounded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec.spec import ConvSpec

    Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False, slots=True)
class _Built:
    """A layer that the adapter supports, with what it was built from."""

    spec: ConvSpec
    params: ConvParams
    layout: str
    dtype: str
    layer: Any

    @classmethod
    def by(cls, adapter: Any, *, native: bool = False, dtype: str | None = None) -> _Built:
        """The first layer of ``SPECS`` that is supported, natively where it is so asked."""
        for spec, layout, kind in supported(adapter):
            if (native and adapter.support(spec, layout, kind) != "native") or (dtype or kind) != kind:
                continue
            params = ConvParams.random(spec, seed=3, dtype=kind)
            return cls(spec, params, layout, kind, adapter.build(spec, params, layout, kind))
        raise Broken(f"no {'native ' * native}layer of {len(SPECS)} plain ones is supported")

    def input(self) -> Array:
        """``(N, C, *spatial)`` moved into the layer's layout, representable in its dtype."""
        shape = (2, self.spec.in_channels, *(7 + 4 * axis for axis in range(self.spec.ndim)))
        x = np.random.default_rng(5).standard_normal(shape)
        moved = layouts.move_axes(rounded(x, self.dtype), "NC*", self.layout)
        return np.ascontiguousarray(moved).astype(format_of(self.dtype).carrier)


def _there(adapter: Any) -> None:
    demand("cpu" in adapter.devices() or adapter.devices(), "devices() names no device")
    demand(adapter.versions(), "versions() names no distribution: a report could not say what was tested")


def _applied(adapter: Any) -> None:
    for dtype in adapter.dtypes:
        if not any(kind == dtype for _, _, kind in supported(adapter)):
            continue
        adapter.configure(dtype=dtype, threads=1)
        built = _Built.by(adapter, dtype=dtype)
        x = built.input()
        kept = x.copy()
        y = adapter.apply(built.layer, x, built.layout)
        y64 = reference.conv(built.spec, built.params, layouts.move_axes(x, built.layout, "NC*"))
        right = layouts.move_axes(y64, "NC*", built.layout)
        demand(isinstance(y, np.ndarray), f"apply gives {type(y).__name__}, not a NumPy array")
        demand(np.array_equal(x, kept), "apply changes its input")
        demand(y.shape == right.shape, f"the output has shape {y.shape} where {right.shape} is right ({built.layout})")
        carrier = format_of(dtype).carrier
        demand(y.dtype == carrier, f"the output of a {dtype} layer is {y.dtype}; it must travel as {carrier}")


def _refused(adapter: Any) -> None:
    built = _Built.by(adapter)
    x = built.input()
    for wrong, what in ((x[0], "one axis too few"), (np.concatenate([x, x], _channels(built)), "twice the channels")):
        try:
            adapter.apply(built.layer, wrong, built.layout)
        except ShapeError:
            continue
        raise Broken(f"an input with {what} is accepted; ShapeError must be raised")


def _channels(built: _Built) -> int:
    return 1 if built.layout == "NCHW" else -1


def _gradients(adapter: Any) -> None:
    built = _Built.by(adapter)
    x = built.input()
    try:
        y = adapter.apply(built.layer, x, built.layout)
        found = adapter.gradients(built.layer, x, np.ones_like(y), built.layout)
    except UnsupportedError as error:
        demand(str(error), "gradients are unsupported without a reason")
        return
    demand(isinstance(found, Gradients), f"gradients gives {type(found).__name__}, not Gradients")
    demand(found.input.shape == x.shape, f"that of the input has shape {found.input.shape}, the input {x.shape}")
    shapes = found.kernel.shape, built.spec.kernel_shape
    demand(shapes[0] == shapes[1], f"that of the kernel has shape {shapes[0]} where {shapes[1]} is canonical")


def _owned(adapter: Any) -> None:
    built = _Built.by(adapter, native=True)
    demand(any(adapter.owns(base) for base in type(built.layer).__mro__), "owns() denies a layer that build made")
    demand(not adapter.owns(int), "owns() claims int")


def _read(adapter: Any) -> None:
    built = _Built.by(adapter, native=True)
    reading = adapter.read(built.layer)
    demand(isinstance(reading, Reading), f"read gives {type(reading).__name__}, not Reading")
    demand(reading.spec == built.spec, f"built from {built.spec!r}, read as {reading.spec!r}")
    demand(reading.layout == built.layout, f"built in {built.layout}, read as {reading.layout}")
    demand(np.array_equal(reading.params.kernel, built.params.kernel), "the kernel is not read back bit for bit")
    same = np.array_equal(_bias(reading.params), _bias(built.params))
    demand(same, "the bias is not read back bit for bit")


def _bias(params: ConvParams) -> Array:
    return np.zeros(0) if params.bias is None else params.bias


RUNNING = (
    Promise("present", "the framework is there, with devices and versions", _there),
    Promise("apply", "a layer's output has the right shape and dtype, and its input is left alone", _applied),
    Promise("refuse", "an input that does not fit is a ShapeError", _refused),
    Promise("gradients", "gradients come in canonical order, or are unsupported with the reason", _gradients),
    Promise("owns", "the framework's layers are known as such, other objects are not", _owned),
    Promise("read", "what was built is read back: spec, layout, weights bit for bit", _read),
)
