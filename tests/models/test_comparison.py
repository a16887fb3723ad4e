"""Two models of NumPy, compared layer by layer: what is right agrees, every planted mistake is located."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from importlib.resources import files

import jsonschema
import numpy as np
import pytest

from convspec import ConvParams, ConvSpec, reference
from convspec.contract import ModelModule, ModelTrace, Reading
from convspec.errors import RequestError
from convspec.models.comparison import layer_check, run_both
from convspec.models.comparison.outcomes import judge_results
from convspec.models.comparison.run_both import compare_open
from convspec.models.matching.differences import spec_differences
from convspec.models.run_model import Call, Model, Part, canonical, moved
from convspec.models.text_table import table
from convspec.reference import Spread
from convspec.spec import layouts
from convspec.spec import steps as S
from convspec.spec.dtypes import ComputePrecision
from tests.models import numpy_models

FIRST = ConvSpec(3, 5, (3, 5), stride=2, padding=(1, 2), bias=False)
SECOND = ConvSpec(5, 4, (3, 2), dilation=(1, 2), padding=(1, 0))
SHAPE = (2, 3, 12, 14)


class Adapter:
    """Of models that are functions of their inputs and weights."""

    native_layout = "NCHW"

    def __init__(self, name):
        self.name = name

    def compute_precision(self, *_, **__):
        return ComputePrecision("float32", output_roundings=2)

    def model_module(self):
        return ModelModule(lambda net: net.parts(), lambda net, x: net.trace(x), lambda net, w: net.write(w), None)


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


class Net:
    """conv → norm → relu → conv → flatten → linear, run in ``layout``; ``before`` pads outside of the first conv."""

    def __init__(self, layout, first, second, epsilon, w, before, relu, rows):
        self.layout, self.first, self.second, self.epsilon = layout, first, second, epsilon
        self.w, self.before, self.relu = {name: w[name] for name in w}, before, relu
        if rows is not None:
            self.w["linear"] = self.w["linear"] | {"kernel": self.w["linear"]["kernel"][:, rows]}

    def parts(self):
        w, axis = self.w, 1 if self.layout == "NCHW" else -1
        norm = {"arrays": w["norm"], "epsilon": self.epsilon, "axis": axis, "norm": "batch"}
        return [
            Part("first", "conv", "Conv", Reading(self.first, w["first"], self.layout)),
            Part("norm", "norm", "BatchNorm", **norm),
            Part("second", "conv", "Conv", Reading(self.second, w["second"], self.layout)),
            Part("linear", "linear", "Linear", arrays=w["linear"]),
        ]

    def trace(self, inputs):
        (x,) = inputs
        calls = []

        def native(x):
            return x.transpose(layouts.permutation("NC*", layouts.order(self.layout, 2), 2)).astype(np.float32)

        def call(path, x, y, *, image=True):
            calls.append(Call(path, native(x) if image else x, native(y) if image else y.astype(np.float32)))
            return y.astype(np.float32)

        w = self.w
        x = canonical(x, self.layout)
        x = x if self.before is None else np.pad(x, ((0, 0), (0, 0), *self.before))
        x = call("first", x, reference.conv(self.first, w["first"], x))
        own = {name: array.reshape(-1, 1, 1).astype(np.float64) for name, array in w["norm"].items()}
        y = (x - own["mean"]) * own["gain"] / np.sqrt(own["variance"] + self.epsilon) + own["shift"]
        x = call("norm", x, y)
        x = np.maximum(x, 0) if self.relu else x
        x = call("second", x, reference.conv(self.second, w["second"], x))
        flat = native(x).reshape(len(x), -1)
        y = flat.astype(np.float64) @ w["linear"]["kernel"].T + w["linear"]["bias"]
        y = call("linear", flat, y, image=False)
        return ModelTrace(calls, [y])

    def write(self, arrays):
        for path, own in arrays.items():
            old = self.w[path]
            self.w[path] = ConvParams(own["kernel"], own.get("bias")) if isinstance(old, ConvParams) else old | own
        return self


def model(layout="NCHW", *, first=FIRST, second=SECOND, epsilon=1e-5, w=None, before=None, relu=True, rows=None):
    net = Net(layout, first, second, epsilon, w or weights(), before, relu, rows)
    return opened(net, layout)


def opened(net, layout="NCHW"):
    x = np.random.default_rng(9).standard_normal(SHAPE, np.float32)
    found = Model(net, Adapter(layout), net.parts(), input_layout=layout)
    found.run(moved(x, "NCHW", layout))
    return found


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
    assert found.verdict == "agree"
    assert found.evidence == "equal"
    assert "The models agree" in str(found)


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


def test_two_mistakes_in_one_layer_are_searched_in_the_first_that_diverges():
    w = weights()
    w["first"] = ConvParams(np.ascontiguousarray(w["first"].kernel[:, :, ::-1, ::-1]))
    shifted = replace(FIRST, padding=((0, 2), (2, 2)))
    found = compare_open(model(), model(first=shifted, w=w))
    assert "kernel-flipped+window-shifted" in [finding.id for finding in found.first.diagnosis]
    w["second"] = ConvParams(np.ascontiguousarray(w["second"].kernel[:, :, ::-1, ::-1]), w["second"].bias[::-1])
    found = compare_open(model(), model(first=shifted, w=w))
    assert len(found.first.diagnosis)
    assert not len(found.rows[2].diagnosis)  # later layers are searched for one mistake


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
    b = opened(Folded(replace(FIRST, bias=True), ConvParams(kernel, bias)))
    found = compare_open(model(), b)
    assert found.agrees, str(found)
    assert len(found.rows) == 3
    assert "1 batch norms of model a" in found.notes[0]
    # the same kernel without the norm's factors is no folded one
    found = compare_open(model(), opened(Folded(replace(FIRST, bias=False), weights()["first"])))
    assert found.verdict == "differ"
    assert found.divergence == "norm 0 (norm): model a has a batch norm that model b has not"


class Folded(Net):
    """Without a norm of its own."""

    def __init__(self, first, params):
        neutral = {name: np.full(5, float(name == "gain"), np.float32) for name in ("gain", "shift", "mean")}
        norm = neutral | {"variance": np.ones(5, np.float32)}
        super().__init__("NCHW", first, SECOND, 0.0, weights() | {"first": params, "norm": norm}, None, True, None)

    def parts(self):
        return [part for part in super().parts() if part.path != "norm"]

    def trace(self, inputs):
        calls, outputs, _ = super().trace(inputs)
        return ModelTrace([call for call in calls if call.path != "norm"], outputs)


def test_a_layer_that_one_model_lacks():
    b = opened(Headless("NCHW", FIRST, SECOND, 1e-5, weights(), None, True, None))
    found = compare_open(model(), b)
    assert verdicts(found)[-1] == "missing"
    assert found.verdict == "differ"
    assert "model b has no such linear" in found.divergence


class Headless(Net):
    """Without its linear layer."""

    def parts(self):
        return super().parts()[:-1]

    def trace(self, inputs):
        calls, _, _ = super().trace(inputs)
        return ModelTrace(calls[:-1], [calls[-1].x])


def test_without_a_run_specs_and_weights_are_compare_open():
    a, b = model(), model(first=replace(FIRST, padding=((0, 2), (2, 2))))
    a.calls = b.calls = a.outputs = b.outputs = []
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


def test_what_a_residual_branch_adds_again_explains_the_sum():
    """The sum is of two outputs, although one of them is all that the last layer read."""
    rng = np.random.default_rng(0)
    y, z = (rng.standard_normal((2, 3, 8, 9)) for _ in range(2))
    errors = layer_check.ErrorPropagation()
    errors.add(1e-3, y)
    errors.add(1e-6, z)
    assert errors.explains(1e-3 + 1e-6, y + z)
    assert not errors.explains(1e-2, y + z)


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


def spread(*results):
    return Spread.of([np.asarray(y, np.float32) for y in results])


def test_results_are_compared_in_either_order_of_axes_where_sizes_coincide():
    y = np.random.default_rng(3).standard_normal((2, 4, 4, 4), np.float32)
    for theirs in (y, y.transpose(0, 2, 3, 1)):
        outcome = judge_results("", spread(y), spread(theirs), ("NCHW", "NHWC"))
        assert (outcome.verdict, outcome.difference) == ("agree", 0)
    assert judge_results("", spread(y), spread(y.transpose(0, 1, 3, 2)), ("NCHW", "NHWC")).verdict == "differ"


# -- results decide ----------------------------------------------------------------------------------------------------


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_results_in_another_order_are_told_with_their_places(rng):
    y, z = rng.standard_normal((2, 3, 4, 4)), rng.standard_normal((2, 3, 4, 4))
    outcome = judge_results("", spread(y, z), spread(z, y), ("NCHW", "NCHW"))
    assert outcome.verdict == "differ"
    assert outcome.reason == (
        "the results are in another order: result 0 of a is result 1 of b, result 1 of a is result 0 of b"
    )


def test_a_result_that_is_left_out_is_told(rng):
    y, z = rng.standard_normal((2, 3, 4, 4)), rng.standard_normal((2, 5))
    outcome = judge_results("", spread(y, z), spread(z), ("NCHW", "NCHW"))
    assert outcome.reason == "the models have 2 and 1 results; result 1 of a is result 0 of b"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda y: y.mean((2, 3)), "the results have shapes (1, 6, 10, 8) and (1, 6)"),
        (lambda y: y.reshape(1, -1), "the same numbers in another shape"),
        (lambda y: y.transpose(0, 2, 3, 1), "with the axes of a's result in the order (0, 2, 3, 1)"),
        (lambda y: y.transpose(0, 2, 3, 1).reshape(1, -1), "the same numbers in another order"),
        (lambda y: y[:, ::-1], "the same numbers in another order"),
        (lambda y: y[:, :, :-1], "the results have shapes (1, 6, 10, 8) and (1, 6, 9, 8)"),
        (lambda y: y + 1e-3, "differ by up to 1.0e-03"),
        (lambda y: np.where(y > 2, np.nan, y), "differ by up to inf"),
    ],
)
def test_results_that_differ_are_told_how(rng, change, words):
    y = rng.standard_normal((1, 6, 10, 8)).astype(np.float32)
    outcome = judge_results("", spread(y), spread(change(y)), ("NCHW", "NCHW"))
    assert outcome.verdict == "differ"
    assert words in outcome.reason


def test_two_scores_that_change_places_are_told():
    scores = np.float32([[0.25, 0.75]])
    outcome = judge_results("", spread(scores), spread(scores[:, ::-1]), ("NCHW", "NCHW"))
    assert outcome.reason.endswith(": the same numbers in another order")


def test_a_vacuous_result_agrees_with_nothing():
    nothing = np.full((1, 3), np.nan)
    assert judge_results("", spread(nothing), spread(nothing), ("NCHW", "NCHW")).verdict == "unknown"


def test_results_that_rounding_may_move_by_their_own_size_are_unknown(rng):
    y = rng.standard_normal((2, 50)).astype(np.float32)
    a, b = spread(y), spread(y + np.float32(0.1))
    a.add([y + 1])
    assert judge_results("", a, b, ("NCHW", "NCHW")).verdict == "unknown"


def test_a_channel_that_moves_little_has_a_limit_of_its_own(rng):
    """A detector's pixels and scores in one tensor: what pixels may move by, scores may not."""
    y = np.stack([500 * rng.random((8, 8)), rng.random((8, 8))])[None].astype(np.float32)
    moved = y + np.array([1e-3, 1e-7]).reshape(1, 2, 1, 1)
    a, b, wrong = spread(y), spread(moved), y.copy()
    a.add([moved])
    b.add([moved + np.array([1e-3, 1e-7]).reshape(1, 2, 1, 1)])
    assert judge_results("", a, b, ("NCHW", "NCHW")).verdict == "agree"
    wrong[0, 1] += 1e-3
    c = Spread.of([wrong])
    c.moved = b.moved
    assert judge_results("", a, c, ("NCHW", "NCHW")).verdict == "differ"


def test_without_inputs_nothing_agrees():
    a, b = model(), model()
    a.calls = b.calls = a.outputs = b.outputs = []
    a.inputs = b.inputs = None
    found = compare_open(a, b)
    assert found.verdict == "unknown"
    assert "all weights and settings are equal" in str(found)


def test_a_setting_without_an_effect_is_a_warning():
    spec = ConvSpec(3, 5, (1, 1), bias=False)
    w = weights() | {"first": ConvParams.random(spec, 0)}
    cells = 4 * np.prod(SECOND.output_shape((2, 5, *SHAPE[2:]))[2:])
    w["linear"] = {"kernel": np.random.default_rng(1).normal(size=(7, cells)).astype(np.float32)[:, :cells],
                   "bias": np.ones(7, np.float32)}  # fmt: skip
    w["norm"] = w["norm"] | {"variance": np.full(5, 1e12, np.float32)}
    a, b = (opened(Net("NCHW", spec, SECOND, epsilon, w, None, True, None)) for epsilon in (1e-5, 1e-3))
    found = compare_open(a, b)
    assert found.verdict == "agree"
    assert found.rows[1].spec == ["epsilon 1e-05 against 0.001"]
    assert any("epsilon 1e-05 against 0.001: no effect at these inputs" in warning for warning in found.warnings)


class Clipped(Net):
    """Results of at most ``top``, as after ReLU6."""

    top = 6.0

    def trace(self, inputs):
        calls, (y,), _ = super().trace(inputs)
        return ModelTrace(calls, [np.minimum(y, np.float32(self.top))])


def test_a_saturation_that_the_given_input_does_not_reach_is_found_by_a_scaled_one():
    a = model()
    net = Clipped("NCHW", FIRST, SECOND, 1e-5, weights(), None, True, None)
    net.top = float(np.max(a.outputs[0])) + 1
    assert compare_open(a, opened(net), one_input=True).verdict == "agree"
    found = compare_open(a, opened(net))
    assert found.verdict == "differ"
    assert found.divergence.startswith("on ")
    assert found.outcomes[0].verdict == "agree"


@pytest.mark.parametrize("one", [False, True])
def test_one_input_is_the_only_one_where_no_more_are_wanted(monkeypatch, one):
    monkeypatch.setattr(run_both, "open_model", lambda model, *_, **__: model)
    found = run_both.compare(model(), model(), one_input=one)
    assert [outcome.inputs == "the given inputs" for outcome in found.outcomes] == [True, *[False] * (2 - 2 * one)]


def test_models_with_their_last_bits_apart_agree_by_measure():
    class Rounded(Net):
        def trace(self, inputs):
            calls, (y,), _ = super().trace(inputs)
            return ModelTrace(calls, [np.nextafter(y, np.float32(np.inf))])

    net = Rounded("NCHW", FIRST, SECOND, 1e-5, weights(), None, True, None)
    before = {name: np.array(array) for name, array in net.w["norm"].items()}
    found = compare_open(model(), opened(net))
    assert (found.verdict, found.evidence) == ("agree", "measured")
    assert found.runs >= 1
    assert found.output > 0
    assert any("before second" in step for step in found.unjudged)
    assert all(np.array_equal(net.w["norm"][name], before[name]) for name in before)  # bit for bit
    assert net.w["first"].kernel.tobytes() == weights()["first"].kernel.tobytes()


def test_weights_come_back_where_a_perturbed_run_fails():
    class Failing(Net):
        runs = 0

        def trace(self, inputs):
            self.runs += 1
            if self.runs > 1:
                raise RequestError("no")
            return super().trace(inputs)

    net = Failing("NCHW", FIRST, SECOND, 1e-5, weights(), None, True, None)
    with pytest.raises(RequestError):
        compare_open(model(epsilon=1e-3), opened(net), one_input=True)
    assert net.w["first"].kernel.tobytes() == weights()["first"].kernel.tobytes()


def test_a_layer_that_no_result_depends_on_is_listed():
    class Dead(Net):
        def trace(self, inputs):
            calls, _, _ = super().trace(inputs)
            return ModelTrace(calls, [calls[2].y])  # the linear layer is computed and dropped

    w = weights(seed=0)
    w["linear"] = w["linear"] | {"kernel": w["linear"]["kernel"] + 1}
    a, b = (opened(Dead("NCHW", FIRST, SECOND, 1e-5, one, None, True, None)) for one in (weights(), w))
    found = compare_open(a, b)
    assert found.verdict == "agree"
    assert found.unused == ["model a: linear linear", "model b: linear linear"]
    assert not found.warnings


def followed(run, x, *, step=None, nudge=False):
    y = run("first", FIRST, x)
    y = run("norm", S.BatchNorm(5), y)
    if step is not None:
        y = run("step", step, y)
    z = run("second", SECOND, y)
    if nudge:
        z = run("second", SECOND, y, function=lambda x: np.nextafter(run.tensors[z], np.float32(np.inf)))
    return z


X = np.random.default_rng(9).standard_normal(SHAPE, np.float32)


@pytest.mark.parametrize("step", [None, S.GELU(), S.MaxPool(2), S.LayerNorm((6, 7), (-2, -1))])
def test_steps_that_are_judged_and_the_same_are_a_proof(step):
    a, b = (numpy_models.opened(partial(followed, step=step, nudge=nudge), X) for nudge in (False, True))
    found = compare_open(a, b)
    assert (found.verdict, found.evidence, found.unjudged) == ("agree", "proved", [])
    assert found.output > 0
    b.outputs = [b.calls[0].y]  # the other layer's result, which is judged, too
    assert compare_open(a, b, seconds=0).verdict == "differ"


@pytest.mark.parametrize(("step", "verdict"), [(2e-2, "differ"), (1e-5, "agree")])
def test_a_proof_does_not_stand_against_results_that_differ_by_far_more_than_rounding(monkeypatch, step, verdict):
    """Bounds that are infinitely wide prove anything."""
    monkeypatch.setattr(run_both, "_is_proved", lambda *_: True)

    def scaled(run, x, factor):
        z = followed(run, x)
        return run("scale", S.Other("scale"), z, function=lambda y: y * np.float32(factor))

    a, b = (numpy_models.opened(partial(scaled, factor=factor), X) for factor in (1, 1 + step))
    found = compare_open(a, b, one_input=True)
    assert found.verdict == verdict
    assert ("although every step is within its own bound" in found.divergence) == (verdict == "differ")
    assert (found.runs > 0) == (verdict == "differ")


def test_another_step_or_one_that_is_not_seen_is_no_proof():
    """An activation that has no effect at these inputs: the results agree, but not by proof."""
    a, b = (numpy_models.opened(partial(followed, step=S.Clip(None, top), nudge=top > 98), X) for top in (98, 99))
    found = compare_open(a, b, one_input=True)
    assert (found.verdict, found.evidence, found.unjudged) == ("agree", "measured", [])

    def unseen(run, x):
        return run("other", S.Other("cumsum"), followed(run, x), function=lambda x: np.nextafter(np.cumsum(x, 1), 9))

    def seen(run, x):
        return run("other", S.Other("cumsum"), followed(run, x), function=lambda x: np.cumsum(x, 1))

    found = compare_open(numpy_models.opened(seen, X), numpy_models.opened(unseen, X))
    assert (found.verdict, found.evidence) == ("agree", "measured")
    assert found.unjudged == ["model a: other (cumsum)", "model b: other (cumsum)"]


def test_results_that_are_no_numbers_are_unknown():
    a, b = model(), model()
    a.outputs, b.outputs = [np.array(["cat"])], [np.array(["cat"])]
    found = compare_open(a, b)
    assert found.verdict == "unknown"
    assert "not real numbers" in str(found)


def test_an_input_that_was_asked_for_must_run():
    class Fixed(Net):
        def trace(self, inputs):
            if inputs[0].shape != SHAPE:
                raise RequestError("another size")
            return super().trace(inputs)

    nets = [Fixed("NCHW", FIRST, SECOND, 1e-5, weights(), None, True, None) for _ in range(2)]
    with pytest.raises(RequestError, match="another size"):
        compare_open(*map(opened, nets), further=[np.zeros((2, 3, 8, 8), np.float32)])


def test_a_made_up_input_that_a_model_refuses_is_noted():
    class Small(Net):
        def trace(self, inputs):
            if np.abs(inputs[0]).max() > 20:
                raise RequestError("too large")
            return super().trace(inputs)

    found = compare_open(*(opened(Small("NCHW", FIRST, SECOND, 1e-5, weights(), None, True, None)) for _ in range(2)))
    assert found.verdict == "agree"
    assert "the given inputs times 8: not tried: too large" in found.notes
    assert "large values, where activations saturate" in found.untried
