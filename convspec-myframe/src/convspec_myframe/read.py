"""From layers of myframe, by whomever they were made, to specs and weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convspec.contract import Found, Reading


def read(layer: Any, input_shape: Sequence[int] | None = None) -> Reading:
    """The spec and the weights of a layer, by its attributes.

    Raise convspec.errors.UnsupportedError saying what cannot be read, and why.
    """
    raise NotImplementedError("read the layer's attributes")


def convs(model: Any, input_shape: Sequence[int] | None = None) -> list[Found]:
    """Every convolution of a model, each by itself, with its path."""
    raise NotImplementedError("walk over the model's layers and read each convolution")
