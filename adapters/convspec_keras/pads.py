"""Pads right before the convolutions of Keras models: ``ZeroPadding`` layers and ``ops.pad``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from convspec.contract import refuse_shape
from convspec.contract.tracing import VARIES, Pad, described, pads_met
from convspec_keras import read
from convspec_keras.graph import SavedModel
from convspec_keras.steps import trace_steps

_ZERO = (keras.layers.ZeroPadding1D, keras.layers.ZeroPadding2D, keras.layers.ZeroPadding3D)


def before(model: Any, input_shape: Sequence[int] | None) -> dict[str, list[Pad | str]]:
    """By the path of each convolution, the pads before it, the nearest first.

    They are read off the graph of a functional or sequential model. What is within a layer or a model that is a
    subclass has none: there it is the pads that a run on an input of that shape meets.
    """
    if isinstance(model, SavedModel):
        from convspec_keras import sites

        return sites.pads(model)
    kinds = (*read._CONVOLUTIONS, *read._SEPARABLE)
    convs = {path: layer for path, layer in read._walk(model) if isinstance(layer, kinds)}
    found = {path: _in_graph(layer) for path, layer in convs.items() if layer._inbound_nodes}
    found |= {f"{path}/depthwise": pads for path, pads in found.items()}
    if input_shape is None or all(layer._inbound_nodes for layer in convs.values()):
        return found
    with refuse_shape(input_shape):
        return pads_met(trace_steps(model, [np.zeros(tuple(input_shape), np.float32)])) | found


# -- functional and sequential models ----------------------------------------------------------------------------------


def _in_graph(conv: Any) -> list[Pad | str]:
    """The pads before a layer's place in a graph; a shared layer's only where they are the same everywhere."""
    all_of_them = [list(_chain(node, conv.data_format)) for node in conv._inbound_nodes]
    if any(pads != all_of_them[0] for pads in all_of_them):
        return [VARIES]
    return all_of_them[0] if all_of_them else []


def _chain(node: Any, data_format: str) -> Iterator[Pad | str]:
    while len(node.parent_nodes) == 1:
        node = node.parent_nodes[0]
        operation = node.operation
        if isinstance(operation, _ZERO):
            yield _of_layer(operation, data_format)
        elif type(operation).__name__ == "Pad" and hasattr(operation, "pad_width"):
            value, layout = node.arguments.kwargs.get("constant_values"), read._LAYOUTS[data_format]
            if all(isinstance(n, int) for pair in operation.pad_width for n in pair):
                yield described(operation.mode, operation.pad_width, 0 if value is None else value, layout)
            else:
                yield "it depends on the input's size"
        else:
            return


def _of_layer(layer: Any, data_format: str) -> Pad | str:
    pairs = layer.padding if isinstance(layer.padding[0], list | tuple) else (layer.padding,)
    if layer.data_format != data_format:
        return f"its data_format={layer.data_format!r} is not the convolution's"
    return described("zeros", pairs, layout="")
