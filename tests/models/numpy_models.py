"""Models of NumPy that compute in either layout: programs of canonical steps, run by the reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from convspec import ConvParams, ConvSpec, reference
from convspec.contract import Call, ModelModule, ModelTrace, Part, Reading, StepTrace, TracedStep
from convspec.models.run_model import Model, moved
from convspec.reference.steps import evaluate
from convspec.spec import dtypes
from convspec.spec import steps as S

CHANNELS = (S.BatchNorm, S.GroupNorm, S.InstanceNorm)
IN_LAYOUT = (S.Pool, S.Resize, S.PixelShuffle, S.PixelUnshuffle, S.ChannelShuffle, S.PReLU, *CHANNELS)


def last(rank: int) -> tuple[int, ...]:
    """Return the axes that bring a canonical tensor to channels last."""
    return (0, *range(2, rank), 1)


class Run:
    """One run of a program: ``run(path, step, *tensors)`` computes a step and returns the number of its result.

    Steps are canonical; those that count axes do so in the framework's order, for which ``axis`` is.
    """

    def __init__(self, layout: str, weights: dict[str, dict[str, Any]], inputs: list[Any]) -> None:
        self.layout, self.weights = layout, weights
        self.tensors = [np.asarray(x, np.float32) for x in inputs]
        self.inputs = tuple(range(len(inputs)))
        self.steps: list[TracedStep] = []

    def axis(self, canonical: int, rank: int = 4) -> int:
        return canonical if self.layout == "NCHW" else last(rank).index(canonical)

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Return the canonical shape of a tensor of three axes or more."""
        x = self.tensors[tensor]
        return tuple(x.shape) if self.layout == "NCHW" or x.ndim < 3 else tuple(np.moveaxis(x, -1, 1).shape)

    def __call__(self, path: str, step: Any, *reads: int, note: str = "", function: Callable[..., Any] | None = None,
                 **more: Any) -> Any:  # fmt: skip
        own = isinstance(step, (ConvSpec, *IN_LAYOUT))
        xs = [self.tensors[i] for i in reads]
        moves = own and self.layout == "NHWC"
        given = [np.moveaxis(x, -1, 1) if moves and x.ndim > 2 else x for x in xs]
        arrays = self._arrays(path, step)
        if function is not None:
            ys = [function(*given)]
        elif isinstance(step, ConvSpec):
            ys = [reference.conv(step, ConvParams(arrays["kernel"], arrays.get("bias")), given[0])]
        else:
            ys = list(evaluate(step, given, arrays))
        ys = [np.moveaxis(y, 1, -1) if moves and y.ndim > 2 else y for y in ys]
        writes = tuple(range(len(self.tensors), len(self.tensors) + len(ys)))
        self.tensors += [np.ascontiguousarray(y, np.float32) for y in ys]
        if own and isinstance(step, CHANNELS) and moves and given[0].ndim > 2:
            step = replace(step, axis=-1)
        sources = {name: (f"{path}.{name}",) for name in arrays}
        layout = self.layout if own else ""
        self.steps.append(TracedStep(path, step, reads, writes, arrays, sources, type(step).__name__, layout, note))
        return writes[0] if len(writes) == 1 else writes

    def _arrays(self, path: str, step: Any) -> dict[str, Any]:
        if isinstance(step, ConvSpec):
            shapes = {"kernel": step.kernel_shape} | ({"bias": (step.out_channels,)} if step.bias else {})
        else:
            shapes = step.arrays
        if path not in self.weights and shapes:
            rng = np.random.default_rng(sum(map(ord, path)))
            self.weights[path] = {n: (rng.uniform(0.5, 1.5, s) if n == "variance" else rng.normal(size=s)).astype("f4")
                                  for n, s in shapes.items()}  # fmt: skip
        return dict(self.weights.get(path, {})) if shapes else {}


class Program:
    """A function of a run and its inputs that returns the results, with weights of its own."""

    def __init__(self, function: Callable[..., Any], layout: str, weights: dict[str, dict[str, Any]]) -> None:
        self.function, self.layout, self.weights = function, layout, weights

    def run(self, inputs: Any) -> tuple[Run, tuple[int, ...]]:
        run = Run(self.layout, self.weights, list(inputs))
        results = self.function(run, *run.inputs)
        return run, results if isinstance(results, tuple) else (results,)

    def trace_steps(self, inputs: Any) -> StepTrace:
        run, results = self.run(inputs)
        parameters = {f"{path}.{n}": a.shape for path, own in self.weights.items() for n, a in own.items()}
        return StepTrace(run.steps, run.tensors, run.inputs, results, parameters)

    def trace(self, inputs: Any) -> ModelTrace:
        run, results = self.run(inputs)
        parts = {step.path: part for step in run.steps if (part := _part(step)) is not None}
        calls = [Call(step.path, run.tensors[step.reads[0]], run.tensors[step.writes[0]]) for step in run.steps
                 if step.path in parts]  # fmt: skip
        return ModelTrace(calls, [run.tensors[i] for i in results], list(parts.values()))

    def write(self, arrays: Any) -> Program:
        names = {"gain": "scale", "shift": "bias"}
        for path, own in arrays.items():
            linear = "weight" in self.weights[path]
            for name, array in own.items():
                key = "weight" if linear and name == "kernel" else name
                key = names.get(key, key) if "scale" in self.weights[path] or "mean" in self.weights[path] else key
                self.weights[path][key] = np.asarray(array)
        return self


def _part(traced: TracedStep) -> Part | None:
    step, arrays = traced.step, dict(traced.arrays)
    if isinstance(step, ConvSpec):
        params = ConvParams(arrays["kernel"], arrays.get("bias"))
        return Part(traced.path, "conv", "Conv", Reading(step, params, traced.layout))
    if isinstance(step, S.Linear):
        return Part(traced.path, "linear", "Linear", arrays={"kernel": arrays.pop("weight"), **arrays})
    named = {{"scale": "gain", "bias": "shift"}.get(n, n): a for n, a in arrays.items()}
    if isinstance(step, S.LayerNorm):
        return Part(traced.path, "norm", "LayerNorm", arrays=named, epsilon=step.epsilon, norm="layer", axes=step.axes)
    if isinstance(step, CHANNELS):
        form = "batch" if isinstance(step, S.BatchNorm) else "group"
        groups = getattr(step, "groups", step.channels)
        return Part(traced.path, "norm", type(step).__name__, arrays=named, epsilon=step.epsilon, axis=step.axis,
                    norm=form, groups=groups)  # fmt: skip
    return None


class Adapter:
    """Of programs."""

    def __init__(self, name: str) -> None:
        self.name = self.native_layout = name

    def compute_precision(self, *_: Any, **__: Any) -> Any:
        return dtypes.ComputePrecision("float32", output_roundings=2)

    def model_module(self) -> ModelModule:
        return ModelModule(
            lambda net: [], lambda net, x: net.trace(x), lambda net, w: net.write(w), None,
            trace_steps=lambda net, x: net.trace_steps(x),
        )  # fmt: skip


def opened(function: Callable[..., Any], *inputs: Any, layout: str = "NCHW", weights: Any = None) -> Model:
    """Return a program that was run on canonical inputs."""
    model = Model(Program(function, layout, {} if weights is None else weights), Adapter(layout), [],
                  input_layout=layout)  # fmt: skip
    model.run(moved(list(inputs), "NCHW", layout))
    return model


def reopened(model: Model) -> Model:
    """Return the program of a model, run again on its inputs."""
    again = Model(model.native, model.adapter, [], input_layout=model.input_layout)
    again.run(model.inputs)
    return again
