"""Printed models: layers that are applied one after another, as far as a print says how."""

from __future__ import annotations

import ast
from typing import Any

from convspec.contract.network_words import Placed, Printed, PrintedLayer, Tensor, Word
from convspec.errors import CallError, printable
from convspec.layers.networks.reading import LayerError, Reading
from convspec.layers.networks.values import Layer, Node
from convspec.spec import steps


def apply_printed(reading: Reading, printed: Printed) -> Tensor:
    """Apply the layers of a printed model one after another, and return the result."""
    value: Any = reading.next_input()
    if not printed.ordered and len(printed.layers) > 1:
        reading.notes.append("a print does not say how the layers are connected: they are taken in its order")
    for one in printed.layers:
        call = ast.parse(one.call, mode="eval").body
        try:
            member = reading.evaluate(call, {})
        except CallError:
            member = None
        if not isinstance(member, Layer):
            value = _of_print(reading, one, value)
            continue
        member.name = one.path
        try:
            before = len(reading.nodes)
            fitting = value if printed.ordered else reading.flat_for(member, value)
            value = reading.call(member, [fitting], {}, call)
        except LayerError as error:
            if printed.ordered:
                raise
            del reading.nodes[before:]
            value = reading.call(member, [reading.tensor(None)], {}, call)
            reading.nodes[-1].problem = f"the print does not say what it reads ({error})"
            reading.notes.append(f"what {one.path} reads is not known, for the tensor before it does not fit: {error}")
    return value  # type: ignore[no-any-return]


def _of_print(reading: Reading, one: PrintedLayer, value: Tensor) -> Tensor:
    """Take down a layer of which a print says no settings that can be read."""
    kind = one.call.partition("(")[0]
    layer = Layer(kind, Word("", steps.Other(kind)), {}, one.call, (0, 0))
    made = Node(one.path, kind, one.call, (0, 0), [value], layer=layer)
    if one.shape is None and one.parameters is None:
        return reading.without_shape(made, f"the print does not say the settings of {printable(kind, 60)}")
    batch = value.shape[0] if value.shape else 1
    shape = None if one.shape is None else tuple(batch if n is None else n for n in one.shape)
    made.steps = [Placed(steps.Other(kind), parameters=one.parameters, shapes=[shape])]
    return reading.results(made)  # type: ignore[no-any-return]
