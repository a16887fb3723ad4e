"""Read a network from a live model: one run of it, as its adapter traces it."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from convspec.contract import StepTrace, registry
from convspec.errors import RequestError, ShapeError
from convspec.layers.networks.rows import Row, Trace
from convspec.spec import ConvSpec
from convspec.spec.steps import Other, Step


def trace_live(model: Any, input_shapes: Sequence[Sequence[int]]) -> tuple[str, Trace]:
    """Run a model once on numbers of these shapes; return the name of its adapter, and its steps as rows.

    Raises:
        RequestError: where no adapter knows the model, or its adapter traces no steps.
        ShapeError: where the model refuses the input; the message is the framework's.
    """
    import numpy as np

    kind = type(model[0]) if isinstance(model, tuple) and model else type(model)  # a module with its variables or state
    adapter = registry.owner(kind)
    if adapter is None:
        raise RequestError(f"no adapter knows a {kind.__module__}.{kind.__name__}")
    trace_steps = adapter.model_module().trace_steps
    if trace_steps is None:
        raise RequestError(f"adapter {adapter.name!r} traces no steps of a model")
    draw = np.random.default_rng(0)
    inputs = [draw.standard_normal(tuple(shape)).astype(np.float32) for shape in input_shapes]
    try:
        trace = trace_steps(model, inputs)
    except Exception as error:
        raise ShapeError(f"the model does not run on {[tuple(s) for s in input_shapes]}: {error}") from error
    words = adapter.vocabulary()
    return adapter.name, rows_of(trace, counts_statistics=words is not None and words.counts_statistics)


def rows_of(trace: StepTrace, *, counts_statistics: bool) -> Trace:
    """Return the steps of a run as rows; running means and variances may count as parameters."""
    uncounted = () if counts_statistics else ("mean", "variance")
    seen: set[str] = set()
    rows = []
    shapes = [tuple(int(n) for n in tensor.shape) for tensor in trace.tensors]
    for step in trace.steps:
        known: tuple[ConvSpec | Step, ...] = () if isinstance(step.step, Other) else (step.step,)
        again = step.path in seen
        seen.add(step.path)
        counted = [array.shape for name, array in step.arrays.items() if name not in uncounted]
        count = 0 if again else sum(map(prod, counted))
        inputs = tuple(shapes[n] for n in step.reads)
        macs = sum(_macs(spec, inputs, step.layout) for spec in known) if known else step.macs
        rows.append(Row(
            step.path, step.name or type(step.step).__name__, shapes[step.writes[0]] if step.writes else None, count,
            macs, steps=known, layouts=(step.layout,) * len(known), inputs=inputs, reads=tuple(step.reads),
            writes=tuple(step.writes), problem="" if known and not step.note else step.note or str(step.step),
            is_layer=bool(step.arrays), again=again,
        ))  # fmt: skip
    return Trace(tuple(rows), tuple(trace.inputs), tuple(trace.outputs), ())


def _macs(spec: ConvSpec | Step, inputs: Sequence[tuple[int, ...]], layout: str) -> int:
    try:
        if isinstance(spec, ConvSpec):
            return spec.macs(inputs[0], layout or "NCHW")
        return spec.macs(*inputs[: spec.num_inputs], layout=layout or "NCHW")
    except ShapeError:
        return 0
