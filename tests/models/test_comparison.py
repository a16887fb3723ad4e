"""Two models of NumPy, compared layer by layer: what is right agrees, every planted mistake is located."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files

import jsonschema
import numpy as np
import pytest

from convspec import ConvParams, ConvSpec, reference
from convspec.contract import Reading
from convspec.models.comparison import layer_check
from convspec.models.comparison.results import compare_open
from convspec.models.matching.differences import spec_differences
from convspec.models.run_model import Call, Model, Part, moved
from convspec.models.text_table import table
from convspec.spec import layouts
from convspec.spec.dtypes import ComputePrecision

FIRST = ConvSpec(3, 5, (3, 5), stride=2, padding=(1, 2), bias=False)
SECOND = ConvSpec(5, 4, (3, 2), dilation=(1, 2), padding=(1, 0))
SHAPE = (2, 3, 12, 14)


class Adapter:
    def __init__(self, name):
        self.name = name

    def compute_precision(self, *_, **__):
        return ComputePrecision("float32", output_roundings=2)


def weights(seed=0):
    rng = np.random.default_rng(seed)
    norm = {"gain": rng.normal(size=5), "shift": rng.normal(size=5), "mean": rng.normal(size=5),
            "variance": rng.uniform(0.5, 2, 5)}  # fmt: skip
    cells = np.prod(SECOND.output_shape((2, 5, *FIRST.output_shape(SHAPE)[2:]))[1:])
    return {
        "first": ConvParams.random(FIRST, seed),
        "norm": {name: array.astype(np.float32) for name, array in norm.items()},
        "second": ConvParams.random(SECOND, seed + 1),
        "linear": {"kernel": rng.normal(size=(7, cells)).astype(np.float32), "bias": np.ones(7, np.float32)},
    }


def model(layout="NCHW", *, first=FIRST, second=SECOND, epsilon=1e-5, w=None, before=None, relu=True, rows=None):
    """conv → norm → relu → conv → flatten → linear, run in ``layout``; ``before`` pads outside of the first conv."""
    w = w or weights()
    axis = 1 if layout == "NCHW" else -1
    calls = []

    def native(x):
        return x.transpose(layouts.permutation("NC*", layouts.order(layout, 2), 2)).astype(np.float32)

    def call(path, x, y, *, image=True):
        calls.append(Call(path, native(x) if image else x, native(y) if image else y.astype(np.float32)))
        return y.astype(np.float32)

    x = np.random.default_rng(9).standard_normal(SHAPE, np.float32)
    x = x if before is None else np.pad(x, ((0, 0), (0, 0), *before))
    x = call("first", x, reference.conv(first, w["first"], x))
    own = {name: array.reshape(-1, 1, 1).astype(np.float64) for name, array in w["norm"].items()}
    y = (x - own["mean"]) * own["gain"] / np.sqrt(own["variance"] + epsilon) + own["shift"]
    x = call("norm", x, y)
    x = np.maximum(x, 0) if relu else x
    x = call("second", x, reference.conv(second, w["second"], x))
    flat = native(x).reshape(len(x), -1)
    kernel = w["linear"]["kernel"]
    if rows is not None:
        kernel = kernel[:, rows]
    y = call("linear", flat, flat.astype(np.float64) @ kernel.T + w["linear"]["bias"], image=False)
    parts = [
        Part("first", "conv", "Conv", Reading(first, w["first"], layout)),
        Part("norm", "norm", "BatchNorm", arrays=w["norm"], epsilon=epsilon, axis=axis),
        Part("second", "conv", "Conv", Reading(second, w["second"], layout)),
        Part("linear", "linear", "Linear", arrays={"kernel": kernel, "bias": w["linear"]["bias"]}),
    ]
    return Model(None, Adapter(layout), parts, calls, [y])


def order():
    spatial = SECOND.output_shape((2, 5, *FIRST.output_shape(SHAPE)[2:]))[2:]
    from convspec.spec.chains import Flattened

    return list(Flattened(4, spatial).order("NHWC"))


def verdicts(found):
    return [row.verdict for row in found.rows]


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_what_is_the_same_agrees(layout):
    found = compare_open(model(), model(layout, rows=order() if layout == "NHWC" else None))
    assert found.agrees, str(found)
    assert verdicts(found) == ["agree"] * 4
    assert found.first is None
    assert "Every layer agrees" in str(found)


def test_the_first_diverging_convolution_is_named_and_the_layers_after_it_are_not_blamed():
    wrong = replace(FIRST, padding=((0, 2), (2, 2)))  # one cell less before, one more behind
    found = compare_open(model(), model(first=wrong), seconds=1)
    assert not found.agrees
    assert verdicts(found) == ["diverges", "downstream", "downstream", "downstream"]
    assert found.first.label == "conv 0"
    assert found.first.spec == ["stride (2, 2): pads ((1, 1), (2, 2)) against ((0, 2), (2, 2))"]
    assert "window-shifted" in [finding.id for finding in found.diagnosis]


def test_two_mistakes_are_both_located():
    found = compare_open(model(), model(first=replace(FIRST, padding=((0, 2), (2, 2))), epsilon=1e-2), seconds=0)
    assert verdicts(found) == ["diverges", "diverges", "downstream", "downstream"]
    assert found.rows[1].reason == "epsilon 1e-05 against 0.01"


def test_epsilon_of_a_norm():
    found = compare_open(model(), model(epsilon=1e-3))
    assert verdicts(found) == ["agree", "diverges", "downstream", "downstream"]
    assert "epsilon 1e-05 against 0.001" in found.divergence


def test_rows_of_a_linear_layer_that_were_not_permuted():
    found = compare_open(model(), model("NHWC"))
    assert verdicts(found) == ["agree", "agree", "agree", "diverges"]
    assert "flatten-order" in found.divergence


def test_something_between_two_layers():
    found = compare_open(model(), model(relu=False))
    assert verdicts(found) == ["agree", "agree", "input_differs", "downstream"]
    assert found.divergence.startswith("before conv 1 (second)")


def test_a_kernel_with_its_axes_swapped_is_diagnosed():
    w = weights()
    right = w["second"].kernel
    w["second"] = ConvParams(np.ascontiguousarray(right[:, :, ::-1, ::-1]), w["second"].bias)
    found = compare_open(model(), model(w=w), seconds=0)
    assert found.first.label == "conv 1"
    assert found.first.weights == ["the kernel is that of the source with its spatial axes reversed"]
    assert "flip" in found.first.reason


def test_a_pad_of_its_own_belongs_to_the_convolution():
    inside = replace(FIRST, padding=0)
    found = compare_open(model(), model(first=inside, before=((1, 1), (2, 2))))
    assert found.agrees, str(found)
    assert found.rows[0].spec == []
    found = compare_open(model(), model(first=inside, before=((0, 2), (2, 2))), seconds=0)
    assert found.rows[0].spec == ["stride (2, 2): pads ((1, 1), (2, 2)) against ((0, 2), (2, 2))"]
    assert found.rows[0].verdict == "diverges"


def test_a_norm_that_is_within_the_other_models_kernel():
    w, norm = weights(), weights()["norm"]
    scale = norm["gain"].astype(np.float64) / np.sqrt(norm["variance"].astype(np.float64) + 1e-5)
    kernel = (w["first"].kernel * scale.reshape(-1, 1, 1, 1)).astype(np.float32)
    bias = (norm["shift"] - norm["mean"] * scale).astype(np.float32)
    b = model()
    spec, params = replace(FIRST, bias=True), ConvParams(kernel, bias)
    b.parts = [Part("first", "conv", "Conv", Reading(spec, params, "NCHW")), *b.parts[2:]]
    x = b.calls[0].x
    b.calls = [Call("first", x, reference.conv(spec, params, x).astype(np.float32)), *b.calls[2:]]
    found = compare_open(model(), b)
    assert found.agrees, str(found)
    assert len(found.rows) == 3
    assert "1 batch norms of model a" in found.notes[0]


def test_a_layer_that_one_model_lacks():
    b = model()
    b.parts, b.calls = b.parts[:-1], b.calls[:-1]
    found = compare_open(model(), b)
    assert verdicts(found)[-1] == "missing"
    assert not found.agrees


def test_without_a_run_specs_and_weights_are_compare_open():
    a, b = model(), model(first=replace(FIRST, padding=((0, 2), (2, 2))))
    a.calls = b.calls = []
    found = compare_open(a, b)
    assert set(verdicts(found)) == {"not run"}
    assert found.rows[0].spec == ["stride (2, 2): pads ((1, 1), (2, 2)) against ((0, 2), (2, 2))"]
    assert not found.agrees


def test_the_result_is_json():
    schema = json.loads(files("convspec.models.comparison").joinpath("comparison.schema.json").read_text("utf-8"))
    wrong = replace(FIRST, padding=((0, 2), (2, 2)))
    for other in (model(), model(epsilon=1e-3), model(first=wrong)):
        document = json.loads(json.dumps(compare_open(model(), other, seconds=0).to_dict(), allow_nan=False))
        jsonschema.validate(document, schema)
        assert document["schema"] == "convspec.comparison/1"


def test_differences_of_specs_in_words():
    assert spec_differences(FIRST, replace(FIRST, groups=1, stride=1)) == ["stride (2, 2) against (1, 1)"]


def test_margins():
    x = np.arange(1, 25, dtype=np.float32).reshape(1, 2, 3, 4)
    assert layer_check.zero_margins(np.pad(x, ((0, 0), (0, 0), (0, 1), (2, 0))), x) == ((0, 1), (2, 0))
    assert layer_check.zero_margins(np.pad(x, ((0, 0), (0, 0), (0, 1), (2, 0)), constant_values=1), x) is None
    assert layer_check.zero_margins(x, np.pad(x, ((0, 0), (0, 0), (0, 1), (2, 0)))) is None


def test_inputs_are_moved_between_layouts():
    x = np.zeros((2, 3, 4, 5), np.float32)
    assert moved(x, "NCHW", "NHWC")[0].shape == (2, 4, 5, 3)
    assert moved([x, np.zeros((2, 7))], "NCHW", "NHWC")[1].shape == (2, 7)


def test_names_of_layers_reach_no_terminal_as_commands():
    assert "\x1b" not in "".join(table([["a\x1b[31m", "b"]]))
    a = model()
    a.parts[0] = replace(a.parts[0], path="first\x1b[2J")
    assert "\x1b" not in str(compare_open(a, model()))


def test_results_are_held_together_in_either_order_of_axes_where_sizes_coincide():
    a, b = model("NCHW"), model("NHWC")
    y = np.random.default_rng(3).standard_normal((2, 4, 4, 4), np.float32)
    for theirs in (y, y.transpose(0, 2, 3, 1)):
        a.outputs, b.outputs = [y], [theirs]
        assert compare_open(a, b).output == 0
    b.outputs = [y.transpose(0, 1, 3, 2)]
    assert compare_open(a, b).output > 0
