"""ncnn nets and .param files → ConvSpec and ConvParams."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from convspec.contract import FoundConv, Reading, no_convolutions, refuse_shape
from convspec.contract.tracing import Answer, Array, Run, layer_inference
from convspec.errors import RequestError, UnsupportedError
from convspec_ncnn import param_file
from convspec_ncnn.layer import files
from convspec_ncnn.layer import run as extract


def read(layer: Any, input_shape: Sequence[int] | None = None) -> Reading:
    """Return the one convolution that a net is or contains.

    Raises:
        UnsupportedError: where the net is more than that.
    """
    nodes, found = _found(layer)
    if len(found) != 1:
        raise UnsupportedError(f"the net has {len(found)} convolutions, but must have one")
    if len(nodes) == 2:
        return param_file.reading(*found[0])
    return layer_inference.read(_runner(layer, found[0]), input_shape)


def convs(model: Any, input_shape: Sequence[int] | None = None) -> list[FoundConv]:  # noqa: ARG001 – the contract's
    """Every convolution of a net or a .param file, each by itself; paths are the layers' names.

    Raises:
        UnsupportedError: where there is none, listing the net's layers.
    """
    nodes, found = _found(model)
    if not found:
        raise no_convolutions("the net", (node.kind for node in nodes))
    return [FoundConv.of(one[0].name, partial(param_file.reading, *one)) for one in found]


def _found(model: Any) -> tuple[list[param_file.Node], list[Any]]:
    """Return all layers, and the convolutions with their weights; those of a path are in the .bin beside it."""
    if isinstance(model, str | os.PathLike):
        path = Path(model)
        weights = path.with_suffix(".bin")
        if not weights.is_file():
            raise RequestError(f"the weights of {path.name} must be beside it, in {weights.name}")
        text, data = path.read_text("utf-8", "replace"), weights.read_bytes()
    else:
        text, data = files(model)
    nodes = param_file.nodes(text)
    return nodes, list(param_file.weighted(nodes, data))


def _runner(net: Any, found: Any) -> Run:
    """Return a function that runs the net's parts before and after the convolution, with ``answer`` in its place."""
    reading, node = param_file.reading(*found), found[0]

    def run(x: Array, answer: Answer) -> Array:
        with refuse_shape(x.shape):
            before = np.stack([extract(net, sample, wanted=node.reads[0]) for sample in x])
            between = answer(reading, before)
            return np.stack([extract(net, sample, node.writes[0]) for sample in between])

    return run
