"""Building and running layers of myframe."""

from __future__ import annotations

from typing import Any

import myframe  # noqa: F401

from convspec.contract import Gradients
from convspec.errors import UnsupportedError
from convspec.parameters import ConvParams
from convspec.plan import Plan


def build(plan: Plan, params: ConvParams, device: str) -> Any:
    """The layer that the plan's text defines, with these weights, on the device."""
    layer = plan.execute()
    raise NotImplementedError(f"give {layer} the weights of {params}, with the order that weights.py knows")


def apply(layer: Any, x: Any, layout: str, device: str) -> Any:
    """The layer's output of the NumPy array ``x``, as a NumPy array of the same layout.

    Raise convspec.errors.ShapeError for an input that does not fit (``convspec.contract.check_layout`` does), and
    convspec.errors.PlacementError where the work was done on another device or in another dtype.
    """
    raise NotImplementedError("call the layer")


def gradients(layer: Any, x: Any, dy: Any, layout: str, device: str) -> Gradients:
    """Gradients of ⟨layer(x), dy⟩, those of kernel and bias in canonical order."""
    raise UnsupportedError("not written yet: gradients")


def devices() -> tuple[str, ...]:
    """The devices that myframe has here: ask it."""
    return ("cpu",)


def configure(*, dtype: str, device: str, precision: str, threads: int | None) -> None:
    """Set switches that hold for the whole process; called by workers only, before any layer is built."""
