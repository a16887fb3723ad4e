"""The facts of a network as one JSON-ready document: the table of its layers, totals, and where it does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, Any

from convspec.layers.networks.mends import find_mends
from convspec.layers.networks.rows import NetworkError, Row, total
from convspec.layers.sentences import times
from convspec.spec import ConvSpec, steps
from convspec.spec.steps import equal_times

if TYPE_CHECKING:
    from convspec.layers.networks.network import Network

_BYTES = 4  # of a float32


def summarize(network: Network, *input_shapes: Sequence[int]) -> dict[str, Any]:
    """Return the rows of a network for some inputs, its totals, what was assumed, and the layer that does not fit.

    Without shapes the rows say what the text says. Where a layer does not fit, ``error`` names it, with mends that were
    tried; the rows are those before it.
    """
    result: dict[str, Any] = {
        "framework": network.vocabulary.title, "adapter": network.adapter, "layout": network.layout,
        "inputs": [list(shape) for shape in input_shapes],
    }  # fmt: skip
    try:
        trace = network.trace(*input_shapes)
    except NetworkError as error:
        mends = find_mends(network, error, input_shapes)
        problem = {
            "path": error.path, "line": error.row.line, "text": error.row.text, "message": mends.sentence,
            "mends": [mend.to_dict() for mend in mends.found], "row": _rows([*error.rows, error.row])[-1],
        }  # fmt: skip
        return {**result, "rows": _rows(error.rows), "notes": [], "error": problem}
    rows = _rows(trace.rows)
    known = {number: row.shape for row in trace.rows for number in row.writes[:1]}
    result |= {"outputs": [None if known.get(n) is None else list(known[n] or ()) for n in trace.results]}
    return {**result, "rows": rows, "totals": _totals(trace.rows), "notes": [*trace.notes, *_warnings(trace.rows)]}


def _rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    fields: dict[int, Field] = {}
    return [_row(row, fields) for row in rows]


def _row(row: Row, fields: dict[int, Field]) -> dict[str, Any]:
    field = field_of(row, fields)
    return {
        "path": row.path, "kind": row.kind, "settings": settings(row), "line": row.line,
        "inputs": [None if s is None else list(s) for s in row.inputs],
        "output": None if row.shape is None else list(row.shape), "parameters": row.parameters, "macs": row.macs,
        "receptive field": None if field is None else [axis[0] for axis in field], "problem": row.problem,
        "again": row.again and any(step.num_parameters for step in row.steps),
    }  # fmt: skip


def settings(row: Row) -> str:
    """Return the settings of a row in a few words."""
    if not row.steps:
        return f"unknown: {row.problem}" if row.problem else ""
    return ", then ".join(_conv_words(s) if isinstance(s, ConvSpec) else s.words for s in row.steps)


def _conv_words(spec: ConvSpec) -> str:
    depthwise = spec.groups == spec.in_channels > 1
    pads = spec.padding if isinstance(spec.padding, str) else equal_times(spec.padding)
    plain = spec.padding == ((0, 0),) * spec.ndim
    parts = [
        f"{spec.in_channels} → {spec.out_channels}, {times(spec.kernel_size)}",
        "" if set(spec.stride) == {1} else f"stride {equal_times(spec.stride)}",
        "" if plain else f"padding {pads}",
        "" if set(spec.dilation) == {1} else f"dilation {equal_times(spec.dilation)}",
        "depthwise" if depthwise else "" if spec.groups == 1 else f"{spec.groups} groups",
        "" if set(spec.output_padding) == {0} else f"output padding {equal_times(spec.output_padding)}",
        "" if spec.padding_mode == "zeros" else spec.padding_mode, "" if spec.bias else "no bias",
    ]  # fmt: skip
    return ", ".join(filter(None, parts))


def _totals(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the sums over all rows; None where a row has an unknown number."""
    parameters = [row.parameters for row in rows]
    macs = [row.macs for row in rows]
    sizes = [None if row.shape is None else prod(row.shape) for row in rows]
    activations = total(sizes)
    return {
        "parameters": total(parameters), "macs": total(macs), "activations": activations,
        "activation bytes": None if activations is None else activations * _BYTES,
    }  # fmt: skip


def _warnings(rows: Sequence[Row]) -> list[str]:
    """Return sentences on what runs, but hardly as it was meant: a batch axis that is joined with others."""
    found = []
    for row in rows:
        before = row.inputs[0] if row.inputs else None
        if not before or len(before) < 2 or row.shape is None:
            continue
        for step in row.steps:
            if isinstance(step, steps.Flatten) and step.start in (0, -len(before)):
                sizes = f"{times(before)} becomes {times(row.shape)}"
                found.append(f"{row.path} flattens the batch axis too: {sizes}; begin at axis 1")
            elif isinstance(step, steps.Reshape) and row.shape[:1] != before[:1] and len(before) > 2 >= len(row.shape):
                found.append(f"{row.path} changes the size of the batch axis from {before[0]} to {row.shape[0]}")
    return found


# -- receptive field ---------------------------------------------------------------------------------------------------

Field = tuple[tuple[int, Fraction], ...] | None  # along each spatial axis the size, and the distance of neighbours


def field_of(row: Row, fields: dict[int, Field]) -> Field:
    """Return the receptive field of a row's output in the network's input, and remember it by its tensor.

    It is None where an output reads the whole input or the field is not known. With several inputs it is the largest.
    """
    rank = 0 if not row.inputs or row.inputs[0] is None else len(row.inputs[0]) - 2
    start: Field = ((1, Fraction(1)),) * rank if rank > 0 else None
    before = [fields.get(number, start) for number in row.reads]
    field = None if not before or None in before else max(before, key=lambda f: [axis[0] for axis in f or ()])
    for step in row.steps:
        field = _after(step, field)
    if row.shape is not None and len(row.shape) < 3:
        field = None
    fields.update(dict.fromkeys(row.writes, field))
    return field


def _after(step: ConvSpec | steps.Step, field: Field) -> Field:
    if field is None:
        return None
    if isinstance(step, ConvSpec) and not step.transposed:
        windows = list(zip(step.effective_kernel, step.stride, strict=True))
    elif isinstance(step, steps.WindowPool):
        windows = list(zip(step.spans, step.strides, strict=True))
    elif isinstance(step, _POINTWISE):
        return field
    else:
        return None
    if len(windows) != len(field):
        return None
    return tuple(
        (size + (span - 1) * int(jump), jump * s) for (size, jump), (span, s) in zip(field, windows, strict=True)
    )


_POINTWISE = (
    steps.Activation, steps.BatchNorm, steps.Dropout, steps.Identity, steps.Elementwise, steps.Concat, steps.Softmax,
    steps.Split, steps.Pad, steps.LocalResponseNorm, steps.ChannelShuffle,
)  # fmt: skip
