"""What the tests of traced steps share: the laws of the data flow, and the replay of every step by the reference."""

from __future__ import annotations

from collections import Counter

import numpy as np

from convspec import ConvSpec
from convspec.contract import ComputePrecision, ConvParams
from convspec.reference import conv, judge, magnitude, products
from convspec.spec import layouts
from convspec.spec.steps import Other
from tests.adapters.steps import assert_step


def assert_data_flow(trace):
    """Assert that every tensor has one origin before it is read, and that all are listed."""
    known = list(trace.inputs)
    for step in trace.steps:
        assert set(step.reads) <= set(known), f"{step.path} reads a tensor that nothing wrote before"
        known += step.writes
    assert set(trace.outputs) <= set(known)
    assert Counter(known) == Counter(range(len(trace.tensors)))


def assert_replays(trace, others=()):
    """Assert that the reference gives what each step wrote; ``others`` are all operations without a reference.

    As the outputs of each step are the inputs of the next, all steps together give the model's results.
    """
    assert_data_flow(trace)
    found = [step.step.name for step in trace.steps if isinstance(step.step, Other)]
    assert found == list(others)
    for step in trace.steps:
        inputs = [canonical(trace.tensors[i], step.layout) for i in step.reads]
        outputs = [canonical(trace.tensors[i], step.layout) for i in step.writes]
        if isinstance(step.step, ConvSpec):
            assert_convolution(step, inputs[0], *outputs)
        elif not isinstance(step.step, Other):
            assert_step(step.step, inputs, outputs[:1] if "positions" in step.note else outputs, step.arrays)


def canonical(tensor, layout):
    """Return a tensor of a step that knows where channels are in the canonical order."""
    return layouts.move_axes(tensor, layout, "NCHW") if layout and tensor.ndim > 2 else tensor


def assert_convolution(step, x, y):
    params = ConvParams(step.arrays["kernel"], step.arrays.get("bias"))
    expected, scale = (function(step.step, params, x) for function in (conv, magnitude))
    verdict = judge(y, expected, scale, dtype="float32", data="normal", products=products(step.step),
                    arithmetic=ComputePrecision("float32"))  # fmt: skip
    assert verdict.verdict == "agree", (step.path, verdict)


def flow(trace):
    """Return each step with its path and the paths of the steps that wrote what it reads; inputs are ``input0``."""
    origin = {number: f"input{i}" for i, number in enumerate(trace.inputs)}
    lines = []
    for step in trace.steps:
        lines.append((step.path, type(step.step).__name__, [origin[i] for i in step.reads]))
        origin |= dict.fromkeys(step.writes, step.path)
    return lines


def same(array, other):
    """Return whether two arrays have the same shape and elements."""
    return np.array_equal(np.asarray(array), np.asarray(other), equal_nan=True)
