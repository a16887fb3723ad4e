"""The layers of a trace, and a trace of the layers alone, of a run whose other steps the adapter does not see.

A layer reads another's output where its input has exactly those numbers; where it has others, an operation that is not
seen stands before it, which reads the output before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from convspec.contract import Call, ModelTrace, Part, StepTrace, TracedStep
from convspec.spec import Array, steps

UNSEEN = "not seen"
_NAMES = {"gain": "scale", "shift": "bias", "mean": "mean", "variance": "variance"}


def step_of_norm(norm: Part, x: tuple[int, ...], *, fast_variance: bool) -> tuple[steps.Norm, dict[str, Array]]:
    """Return a norm on an input of this shape as a step with its arrays."""
    rank = len(x)
    arrays = {_NAMES[name]: array for name, array in norm.arrays.items()}
    words: dict[str, Any] = {"epsilon": norm.epsilon, "scale": "scale" in arrays, "bias": "bias" in arrays}
    if norm.norm in ("layer", "rms") and not norm.batch_norm:
        axes = tuple(sorted({axis % rank for axis in norm.axes}))
        sizes = tuple(x[axis] for axis in axes)
        kind = steps.RMSNorm if norm.norm == "rms" else steps.LayerNorm
        whole = {
            n: a.reshape(sizes) if a.size == math.prod(sizes) else np.broadcast_to(a, sizes) for n, a in arrays.items()
        }
        return kind(shape=sizes, axes=axes, fast_variance=fast_variance, **words), whole
    axis = norm.axis % rank
    arrays = {name: np.reshape(array, -1) for name, array in arrays.items()}
    words |= {"channels": x[axis], "axis": axis}
    if norm.norm == "batch" or norm.batch_norm:
        batch = not norm.batch_norm
        return steps.BatchNorm(batch_statistics=batch, fast_variance=fast_variance, **words), arrays
    for name, array in arrays.items():
        if array.size == norm.groups != x[axis]:  # of ONNX, before opset 21
            arrays[name] = np.repeat(array, x[axis] // norm.groups)
    return steps.GroupNorm(groups=norm.groups, fast_variance=fast_variance, **words), arrays


def layers_of(trace: StepTrace, parts: Sequence[Part]) -> ModelTrace:
    """Return the calls of layers in a trace; of one that is several steps, what the first reads and the last writes."""
    own = {step.path for step in trace.steps}
    inner = [part.path for part in parts if part.path not in own]
    whole = {part.path for part in (*parts, *trace.parts)}
    calls: list[Call] = []
    open_ = ""
    for step in trace.steps:
        if not step.reads or not step.writes:
            continue
        x, y = trace.tensors[step.reads[0]], trace.tensors[step.writes[0]]
        within = next((path for path in inner if step.path.startswith((f"{path}.", f"{path}/"))), "")
        if within and within == open_:
            calls[-1] = Call(within, calls[-1].x, y)
        elif within or step.path in whole:
            calls.append(Call(within or step.path, x, y))
        open_ = within
    return ModelTrace(calls, [trace.tensors[i] for i in trace.outputs], trace.parts)


def trace_of_calls(parts: Iterable[Part], calls: Sequence[Call], inputs: Any, outputs: Sequence[Array]) -> StepTrace:
    """Return the trace of a run of which only the calls of its layers are known."""
    given = list(inputs.values() if isinstance(inputs, Mapping) else inputs)
    run = _Run(given)
    by_path = {part.path: part for part in parts}
    for call in calls:
        x = run.find(call.x, f"the operations before {call.path or 'the layer'}")
        run.add(_layer(by_path.get(call.path), call, x, len(run.tensors)), call.y)
    found = tuple(run.find(y, f"the operations before result {i}") for i, y in enumerate(outputs))
    return StepTrace(run.steps, run.tensors, tuple(range(len(given))), found)


class _Run:
    """The tensors that are known so far, by their numbers."""

    def __init__(self, inputs: Sequence[Array]) -> None:
        self.steps: list[TracedStep] = []
        self.tensors: list[Array] = []
        self._known: dict[Any, int] = {}
        for x in inputs:
            self._keep(x)

    def _keep(self, x: Array) -> None:
        self._known.setdefault(_fingerprint(x), len(self.tensors))
        self.tensors.append(x)

    def add(self, step: TracedStep, y: Array) -> None:
        self.steps.append(step)
        self._keep(y)

    def find(self, x: Array, path: str) -> int:
        """Return the tensor with these numbers, if need be of an operation that is not seen."""
        if (known := self._known.get(_fingerprint(x))) is None:
            known = len(self.tensors)
            reads = (known - 1,) if known else ()
            self.add(TracedStep(path, steps.Other(UNSEEN), reads, (known,), note=UNSEEN), x)
        return known


def _fingerprint(x: Array) -> tuple[tuple[int, ...], int]:
    return x.shape, hash(np.ascontiguousarray(x).tobytes())


def _layer(part: Part | None, call: Call, x: int, y: int) -> TracedStep:
    """Return a call as a step; one that the part does not tell has the name of its class."""
    if part is not None and part.reading is not None and not part.pads:
        return TracedStep(part.path, part.reading.spec, (x,), (y,), part.weights, layout=part.reading.layout)
    if part is not None and part.kind == "linear":
        arrays = {"weight": part.arrays["kernel"], **{n: a for n, a in part.arrays.items() if n == "bias"}}
        outputs, inputs = arrays["weight"].shape
        step = steps.Linear(inputs, outputs, "bias" in arrays)
        return TracedStep(part.path, step, (x,), (y,), arrays)
    if part is not None and part.kind == "norm" and (part.norm or part.batch_norm):
        own, arrays = step_of_norm(part, call.x.shape, fast_variance=part.fast_variance)
        return TracedStep(part.path, own, (x,), (y,), arrays)
    return TracedStep(call.path, steps.Other(UNSEEN), (x,), (y,), {} if part is None else part.weights, note=UNSEEN)
