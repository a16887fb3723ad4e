"""Networks as ONNX graphs: every step against the reference, and random networks with their weights."""

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

import onnx
from convspec_onnx.network_code import TARGET
from onnx import numpy_helper
from onnxruntime import InferenceSession

from convspec.contract.network_code import Line, Program, Reads
from convspec.contract.network_words import NotKnown
from tests.adapters.steps import assert_step
from tests.step_examples import EXAMPLES, draw

pytestmark = pytest.mark.onnx


def program_of(step, shapes):
    names = tuple(f"x{i}" for i in range(len(shapes)))
    code = TARGET.write(step, Reads(tuple(shapes), True, True))
    made = step.output_shapes(*shapes)
    outs = tuple(f"y{i}" for i in range(len(made)))
    line = Line(code, "step" if code.layer else "", names, outs)
    given = tuple(zip(names, shapes, strict=True)) or (("x", (2, 3)),)
    return Program("Net", given, (line,), outs, tuple(made), False)


def run(text, inputs, arrays=None):
    scope = {}
    exec(text, scope)
    model = scope["model"]
    for tensor in model.graph.initializer:
        name = tensor.name.partition(".")[2] or "value"
        if name in (arrays or {}):
            old, new = numpy_helper.to_array(tensor), arrays[name]
            new = new.T if new.ndim == 2 and old.shape != new.shape else new
            tensor.CopyFrom(numpy_helper.from_array(new.reshape(old.shape).astype("float32"), tensor.name))
    onnx.checker.check_model(model, full_check=True)
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = inputs or [np.zeros((2, 3), np.float32)]
    return session.run(None, {entry.name: x for entry, x in zip(session.get_inputs(), inputs, strict=True)})


def written_or_reason(step, shapes):
    try:
        return program_of(step, shapes)
    except NotKnown as error:
        return str(error)


MADE = [(step, shapes, written_or_reason(step, shapes)) for step, shapes in EXAMPLES]


@pytest.mark.parametrize(
    ("step", "shapes", "program"), [one for one in MADE if not isinstance(one[2], str)], ids=lambda one: repr(one)[:60]
)
def test_a_step_computes_what_it_says(step, shapes, program):
    inputs, arrays = draw(step, shapes)
    inputs = [x.astype("float32") for x in inputs]
    assert_step(step, inputs, run(TARGET.assemble(program), inputs, arrays), arrays)


def test_what_is_missing():
    assert [str(step) for step, _, reason in MADE if isinstance(reason, str)] == [
        "Lp pool 3×2, p 2, stride 3×2, sizes rounded up, scaled to full windows",
        "adaptive average pool to 3×·",
        "adaptive max pool to 7×3",
        "adaptive average pool to 2×3, disjoint bins",
        "cubic resize, by 1.7×0.6, scale recomputed",
        "cubic resize, to 7×3, coefficient -0.5, weights outside dropped, weights in 1024 steps",
        "lanczos3 resize, to 11, weights outside dropped",
        "lanczos5 resize, to 7×3, pytorch half pixel, antialiased",
        "symmetric pad (2, 1)×(0, 3)",
        "pixel shuffle, factor 2, order DCR",
        "pixel unshuffle, factor 2, order DCR",
        "batch norm, epsilon 1e-05, no scale, fast variance, channel axis 2, statistics of the batch",
        "group norm, 2 groups, epsilon 1e-05, no bias, channel axis -1",
        "layer norm over axes 3, 1, epsilon 1e-05, fast variance",
        "layer norm over axes 1, 2, 3, epsilon 1e-05, scale and bias on axis 1",
        "local response norm, size 4, alpha 0.5, beta 0.6, k 2",
        "thresholded ReLU, threshold 0.5, slope 0.1, maximum 1.5",
        "softplus, beta 2, threshold 3",
        "squareplus, b 3",
    ]
