"""Convolutions of one pixel as the linear layers that they are, where the other model has these instead."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from convspec.contract import Call, Part, TracedStep
from convspec.models.run_model import Model, canonical
from convspec.spec import ConvSpec, steps
from convspec.spec.layouts import CHANNELS_LAST

Shape: TypeAlias = tuple[int, ...]


def in_common_kinds(a: Model, b: Model) -> tuple[Model, Model]:
    """Return both models, convolutions of one as linear layers where only the other has linear layers of a shape."""
    if not a.followed or not b.followed:
        return a, b
    convs, linears = ([{_shape(part) for part in model.parts if kind(part)} for model in (a, b)]
                      for kind in (_is_pointwise, lambda part: part.kind == "linear"))  # fmt: skip
    shapes = [(convs[i] & linears[1 - i]) - convs[1 - i] - linears[i] for i in (0, 1)]
    return _with_linears(a, shapes[0]), _with_linears(b, shapes[1])


def _shape(part: Part) -> Shape:
    return part.weights["kernel"].shape[:2]


def _is_pointwise(part: Part) -> bool:
    if part.reading is None or part.function or part.pads:
        return False
    spec = part.reading.spec
    plain = {*spec.kernel_size, *spec.stride, spec.groups} == {1} and not spec.transposed
    return plain and (isinstance(spec.padding, str) or not any(map(any, spec.padding)))


def _with_linears(model: Model, shapes: Iterable[Shape]) -> Model:
    layouts = {part.path: part.reading.layout for part in model.parts
               if _is_pointwise(part) and _shape(part) in shapes and part.reading}  # fmt: skip
    if not layouts or model.graph is None:
        return model
    parts = [_linear(part) if part.path in layouts else part for part in model.parts]
    calls = [_call(call, layouts[call.path]) if call.path in layouts else call for call in model.calls]
    trace = model.graph.trace
    found = [_step(step) if step.path in layouts and isinstance(step.step, ConvSpec) else step for step in trace.steps]
    return model.seen_as(parts, calls, replace(trace, steps=found))


def _linear(part: Part) -> Part:
    kernel = part.weights["kernel"]
    return replace(
        part, kind="linear", reading=None, arrays=part.weights | {"kernel": kernel.reshape(kernel.shape[:2])}
    )


def _call(call: Call, layout: str) -> Call:
    return replace(
        call, x=np.moveaxis(canonical(call.x, layout), 1, -1), y=np.moveaxis(canonical(call.y, layout), 1, -1)
    )


def _step(traced: TracedStep) -> TracedStep:
    kernel, spec = traced.arrays["kernel"], traced.step
    assert isinstance(spec, ConvSpec)
    linear = steps.Linear(spec.in_channels, spec.out_channels, spec.bias, -1 if traced.layout == CHANNELS_LAST else 1)
    names = {"kernel": "weight"}
    arrays = {names.get(name, name): array for name, array in traced.arrays.items()}
    sources = {names.get(name, name): paths for name, paths in traced.sources.items()}
    arrays["weight"] = kernel.reshape(kernel.shape[:2])
    return replace(traced, step=linear, arrays=arrays, sources=sources, layout="")
