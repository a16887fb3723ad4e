"""The promises of an adapter that are checked by building and running layers, one function each."""

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
    """A layer that the adapter supports, and its spec, weights, layout and dtype."""

    spec: ConvSpec
    params: ConvParams
    layout: str
    dtype: str
    layer: Any

    @classmethod
    def by(cls, adapter: Any, *, native: bool = False, dtype: str | None = None) -> _Built:
        """Build the first layer of ``SPECS`` that is supported; with ``native``, natively."""
        for spec, layout, kind in supported(adapter):
            if (native and adapter.support(spec, layout, kind) != "native") or (dtype or kind) != kind:
                continue
            params = ConvParams.random(spec, seed=3, dtype=kind)
            return cls(spec, params, layout, kind, adapter.build(spec, params, layout, kind))
        raise Broken(f"none of {len(SPECS)} ordinary layers is supported{' natively' * native}")

    def input(self) -> Array:
        """Return random input in the layer's layout, representable in its dtype."""
        shape = (2, self.spec.in_channels, *(7 + 4 * axis for axis in range(self.spec.ndim)))
        x = np.random.default_rng(5).standard_normal(shape)
        native = layouts.move_axes(rounded(x, self.dtype), "NCHW", self.layout)
        return np.ascontiguousarray(native).astype(format_of(self.dtype).carrier)


def _check_present(adapter: Any) -> None:
    demand("cpu" in adapter.devices() or adapter.devices(), "devices() is empty")
    demand(adapter.versions(), "versions() is empty: a report could not name the tested versions")


def _check_apply(adapter: Any) -> None:
    for dtype in adapter.dtypes:
        if not any(kind == dtype for _, _, kind in supported(adapter)):
            continue
        adapter.configure(dtype=dtype, threads=1)
        built = _Built.by(adapter, dtype=dtype)
        x = built.input()
        original = x.copy()
        y = adapter.apply(built.layer, x, built.layout)
        y64 = reference.conv(built.spec, built.params, layouts.move_axes(x, built.layout, "NC*"))
        expected = layouts.move_axes(y64, "NC*", built.layout)
        demand(isinstance(y, np.ndarray), f"apply gives {type(y).__name__}, not a NumPy array")
        demand(np.array_equal(x, original), "apply changes its input")
        demand(y.shape == expected.shape, f"the output has shape {y.shape}, expected {expected.shape} ({built.layout})")
        carrier = format_of(dtype).carrier
        demand(y.dtype == carrier, f"the output of a {dtype} layer is an array of {y.dtype}, expected {carrier}")


def _check_refuse(adapter: Any) -> None:
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


def _check_gradients(adapter: Any) -> None:
    built = _Built.by(adapter)
    x = built.input()
    try:
        y = adapter.apply(built.layer, x, built.layout)
        gradients = adapter.gradients(built.layer, x, np.ones_like(y), built.layout)
    except UnsupportedError as error:
        demand(str(error), "gradients are unsupported without a reason")
        return
    demand(isinstance(gradients, Gradients), f"gradients gives {type(gradients).__name__}, not Gradients")
    shape, canonical = gradients.input.shape, built.spec.kernel_shape
    demand(shape == x.shape, f"the gradient of the input has shape {shape}, expected {x.shape}")
    shape = gradients.kernel.shape
    demand(shape == canonical, f"the gradient of the kernel has shape {shape}, expected the canonical {canonical}")


def _check_owns(adapter: Any) -> None:
    built = _Built.by(adapter, native=True)
    demand(any(adapter.owns(base) for base in type(built.layer).__mro__), "owns() denies a layer that build made")
    demand(not adapter.owns(int), "owns() claims int")


def _check_read(adapter: Any) -> None:
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
    Promise("present", "the framework is installed, with devices and versions", _check_present),
    Promise("apply", "a layer's output has the right shape and dtype, and its input is not changed", _check_apply),
    Promise("refuse", "an input that does not fit raises ShapeError", _check_refuse),
    Promise("gradients", "gradients are in canonical order, or unsupported with a reason", _check_gradients),
    Promise("owns", "the framework's layers are recognised, other objects are not", _check_owns),
    Promise("read", "a built layer is read back: spec, layout, weights bit for bit", _check_read),
)
