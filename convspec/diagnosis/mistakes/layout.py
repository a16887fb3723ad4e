"""Mistakes in the order of the axes of input and output."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from convspec.diagnosis.faulty_layer import Layer, Variants
from convspec.diagnosis.mistakes.catalogue import described


def _last_as_first(a: Any) -> Any:
    """Move ``(N, C, *)`` to N, *, C and reshape back: channels-last memory as a reader of N, C, * sees it."""
    return np.moveaxis(a, 1, -1).reshape(a.shape)


def _first_as_last(a: Any) -> Any:
    """Reshape ``(N, C, *)`` to N, *, C and move back: channels-first memory as a reader of N, *, C sees it."""
    return np.moveaxis(a.reshape(a.shape[0], *a.shape[2:], a.shape[1]), -1, 1)


_READINGS = (("channels-last memory read as channels-first", _last_as_first),
             ("channels-first memory read as channels-last", _first_as_last))  # fmt: skip


def _turns(a: Any) -> tuple[tuple[str, Any], ...]:
    """Return both permutations between the layouts."""
    first, last = np.moveaxis(a, -1, 1), np.moveaxis(a, 1, -1)
    return (("the last axis moved to the channels' position", first), ("the channels moved to the end", last))


@described()
def input_reshaped(layer: Layer) -> Variants:
    for what, read in _READINGS:
        yield f"the input's {what}", replace(layer, x=read(layer.x))


@described()
def output_reshaped(layer: Layer) -> Variants:
    if not layer.flat:
        for what, read in _READINGS:
            yield f"the output's {what}", layer.then(read)


@described()
def flatten_order(layer: Layer) -> Variants:
    if layer.flat:
        yield "flattened with the channels last", layer.then(_last_as_first)
        yield "flattened with the channels first", layer.then(_first_as_last)


@described()
def input_and_output_reshaped(layer: Layer) -> Variants:
    (other, to), (own, back) = _READINGS
    yield f"{other}, and the output the other way", replace(layer, x=to(layer.x)).then(back)
    yield f"{own}, and the output the other way", replace(layer, x=back(layer.x)).then(to)


@described()
def input_permuted_the_wrong_way(layer: Layer) -> Variants:
    for what, x in _turns(layer.x):
        if x.shape[1] == layer.spec.in_channels:
            # the padding stays that of the right input
            yield f"the input with {what}", replace(layer.explicit() if x.shape != layer.x.shape else layer, x=x)


@described()
def output_in_the_other_layout(layer: Layer) -> Variants:
    yield "the output's channels at the end", layer.then(lambda y: np.moveaxis(y, 1, -1))
    yield "the output's last axis at the channels' position", layer.then(lambda y: np.moveaxis(y, -1, 1))


@described()
def batch_and_channels_exchanged(layer: Layer) -> Variants:
    swapped = layer.x.swapaxes(0, 1)
    if layer.x.shape[0] == layer.spec.in_channels:
        yield "the input's batch and channels exchanged", replace(layer, x=swapped)
        yield "the input's and the output's exchanged", replace(layer, x=swapped).then(lambda y: y.swapaxes(0, 1))


@described()
def first_sample_for_all(layer: Layer) -> Variants:
    if len(layer.x) > 1:
        yield "sample 0 in place of all", replace(layer, x=np.broadcast_to(layer.x[:1], layer.x.shape))


@described()
def input_channels_reversed(layer: Layer) -> Variants:
    if layer.spec.in_channels > 1:
        yield "the input's channels from last to first", replace(layer, x=layer.x[:, ::-1])
