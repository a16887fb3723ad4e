"""The pads before the convolutions of LiteRT models, as a run shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convspec.contract.tracing import Pad, pads_met
from convspec_litert.flatbuffer import Graph
from convspec_litert.model import trace_steps


def before(model: Any, input_shape: Sequence[int] | None) -> dict[str, list[Pad | str]]:
    """Return the pads before each convolution by its path, the nearest first."""
    graph = Graph(model)
    shapes = graph.shapes() if input_shape is None else [tuple(input_shape)]
    zeros = [np.zeros(shape, graph.dtype(number)) for shape, number in zip(shapes, graph.inputs, strict=True)]
    return pads_met(trace_steps(model, zeros))
