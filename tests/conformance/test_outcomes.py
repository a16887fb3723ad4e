"""The outcome of every trial of a case, adapter by adapter, in this process: verdict, reason and evidence."""

from __future__ import annotations

from dataclasses import dataclass

import convspec_fakes as fakes
import numpy as np
import pytest

from convspec import Case, ConvSpec
from convspec.conformance.checks.checks import explain, first_line, outcomes, unreached
from convspec.conformance.checks.expected import Given, given
from convspec.conformance.trials.metamorphic import RELATIONS
from convspec.conformance.trials.work_plan import Selection, Trial
from convspec.contract import ComputePrecision
from convspec.errors import PlacementError, UnsupportedError

ODD = Case(ConvSpec(2, 3, (2, 3), padding=(1, 0)), (2, 2, 5, 6))  # an odd number of filters: the fakes go wrong
EVEN = Case(ConvSpec(2, 4, (2, 3), padding=(1, 0)), (2, 2, 5, 6))
NO_OUTPUT = Case(ConvSpec(2, 3, (9, 3)), (2, 2, 5, 6))


def run(adapter, case=ODD, **selection):
    """The outcomes of a case on an adapter, one list."""
    found = []
    for problem in Selection(("fake",), **selection).problems((case,)):
        arrays = given(problem.case, problem.recipes)
        found += [outcome for unit in problem.units for outcome in outcomes(adapter, unit, arrays)]
    return found


def by_trial(found):
    return {(o.trial.layout, o.trial.data, o.trial.direction): o for o in found}


def test_a_right_adapter_agrees_on_every_trial_without_a_word():
    found = run(fakes.GOOD, gradients=True, data=("exact", "random", "probe"))
    assert len(by_trial(found)) == len(found) >= 2 * (2 * 4 + 1)
    for outcome in found:
        assert (outcome.verdict, outcome.reason) == ("agree", ""), outcome
        assert (outcome.support, outcome.support_reason) == ("native", "")
        assert outcome.seconds >= 0
    classes = {o.trial.data: o.accuracy_class for o in found}
    assert classes == {"exact": None, "random": None, "probe": "float32"}
    timed = [o for o in found if o.trial.direction in ("input", "kernel", "bias")]
    assert sum(o.seconds > 0 for o in timed) == len(timed) / 3  # one run for three gradients, counted once


@pytest.mark.parametrize(("adapter", "verdict", "reason"), [
    (fakes.WRONG_NUMBERS, "disagree", "value: 1 of "), (fakes.WRONG_SHAPE, "disagree", "shape (2, 3, 6, 3) where"),
    (fakes.WRONG_RANK, "disagree", "shape (3, 6, 4) where"), (fakes.WRONG_DTYPE, "disagree", "dtype float16 where"),
    (fakes.NO_ARRAY, "error", "TypeError: the adapter returned list, expected a NumPy array"),
    (fakes.RAISES, "error", "RuntimeError: the kernel is sad"),
    (fakes.SUPPORT_RAISES, "error", "support: RuntimeError: no idea"),
])  # fmt: skip
def test_a_fault_is_the_verdict_on_its_own_case(adapter, verdict, reason):
    (outcome,) = run(adapter, data=("exact",), layouts=("NCHW",))
    assert outcome.verdict == verdict
    assert outcome.reason.startswith(reason)
    if adapter is not fakes.SUPPORT_RAISES:
        assert run(adapter, EVEN, data=("exact",), layouts=("NCHW",))[0].verdict == "agree"


def test_the_whole_message_of_an_exception_is_evidence():
    (outcome,) = run(fakes.RAISES, data=("exact",), layouts=("NCHW",))
    assert outcome.evidence == {"message": "the kernel is sad\nand here is why"}
    assert first_line(ValueError("  \n\n second \n third")) == "ValueError: second"
    assert first_line(ValueError()) == "ValueError"
    assert first_line(ValueError("x" * 900)) == "ValueError: " + "x" * 500


def test_a_wrong_output_on_exact_data_is_diagnosed():
    (outcome,) = run(
        fakes.SAME_LOWER, Case(ConvSpec(2, 3, (4, 4), 2, "same"), (1, 2, 7, 7)), data=("exact",), layouts=("NCHW",)
    )
    assert "odd-cell-on-the-wrong-side" in [finding["id"] for finding in outcome.evidence["findings"]]
    assert outcome.evidence["location"]["wrong"] == outcome.evidence["wrong"]
    assert len(outcome.evidence["findings"]) <= 3
    (random,) = run(fakes.WRONG_NUMBERS, data=("random",), layouts=("NCHW",))
    assert not {"findings", "location", "undiagnosed"} & set(random.evidence)


def test_large_outputs_and_other_directions_are_not_diagnosed():
    (problem,) = Selection(("fake",), data=("exact",), layouts=("NCHW",)).problems((ODD,))
    unit, arrays = problem.units[0], given(problem.case, problem.recipes)
    (trial,) = unit.trials
    data = next(iter(arrays.data.values()))
    wrong = data.expected["forward"] + 1
    assert explain(unit, trial, data, wrong)
    assert explain(unit, trial, data, wrong[0]) == {}
    assert explain(unit, Trial("NCHW", "exact", "kernel"), data, wrong) == {}
    assert explain(unit, Trial("NCHW", "random", "forward"), data, wrong) == {}
    assert explain(unit, trial, data, np.zeros((1, 1, 150, 150))) == {}


def test_a_refused_layer_agrees_and_a_result_of_it_does_not():
    for outcome in run(fakes.GOOD, NO_OUTPUT, data=("exact",)):
        assert outcome.verdict == "agree"
        assert outcome.reason.startswith("refused, as expected: spatial axis 0")
        assert outcome.evidence["refusal"].startswith("ShapeError: ")
    for outcome in run(fakes.NEVER_REFUSES, NO_OUTPUT, data=("exact",)):
        assert outcome.verdict == "disagree"
        assert outcome.reason.startswith("returned a result, expected an error: spatial axis 0")
        assert outcome.evidence == {"shape": [1, 1, 1, 1]}


def test_what_an_adapter_does_not_support_is_said_for_each_trial():
    for outcome in run(fakes.GOOD, Case(ConvSpec(2, 3, (2, 2, 2)), (1, 2, 4, 4, 4)), data=("exact", "probe")):
        assert (outcome.verdict, outcome.reason) == ("unsupported", "no 3-D here")
        assert (outcome.support, outcome.support_reason) == ("unsupported", "no 3-D here")
        assert (outcome.evidence, outcome.seconds) == ({}, 0.0)
    found = by_trial(run(fakes.NO_GRADIENTS, gradients=True, data=("exact",), layouts=("NCHW",)))
    assert {key[2]: o.verdict for key, o in found.items()} == {
        "forward": "agree", "input": "unsupported", "kernel": "unsupported", "bias": "unsupported",
    }  # fmt: skip
    assert found["NCHW", "exact", "kernel"].reason == "this framework runs forward only"


def test_a_wrong_gradient_is_wrong_alone():
    found = by_trial(run(fakes.WRONG_GRADIENTS, gradients=True, data=("exact", "random"), layouts=("NHWC",)))
    assert {key[2] for key, o in found.items() if o.verdict != "agree"} == {"kernel"}


@dataclass(frozen=True)
class Odd(fakes.Fake):
    """Fails in ways that the fakes do not."""

    layouts: tuple[str, ...] = ("NCHW",)

    def apply(self, layer, x, layout=None, device="cpu"):
        if self.fault == "elsewhere":
            raise PlacementError("it ran on the CPU")
        if self.fault == "not here":
            raise UnsupportedError("not for this input")
        if self.fault == "tired" and layer[1].kernel.size and np.abs(layer[1].kernel).max() > 100:
            raise RuntimeError("too large")
        return super().apply(layer, x, layout, device)


def test_a_result_from_another_device_is_an_error_even_where_a_refusal_is_right():
    for case in (ODD, NO_OUTPUT):
        (outcome,) = run(Odd(fault="elsewhere"), case, data=("exact",), layouts=("NCHW",))
        assert (outcome.verdict, outcome.reason) == ("error", "PlacementError: it ran on the CPU")


def test_a_layout_that_the_adapter_does_not_have_is_unsupported():
    found = by_trial(run(Odd(), data=("exact",)))
    assert found["NCHW", "exact", "forward"].verdict == "agree"
    other = found["NHWC", "exact", "forward"]
    assert (other.verdict, other.reason) == ("unsupported", "good has no layout NHWC; it has NCHW")


@pytest.mark.parametrize(("fault", "verdict", "reason"), [
    ("not here", "unsupported", "not for this input"), ("raises", "error", "RuntimeError: the kernel is sad"),
    ("wrong shape", "disagree", "shape: expected (2, 3, 6, 4), got (2, 3, 6, 3)"),
])  # fmt: skip
def test_probes_and_relations_fail_as_plain_runs_do(fault, verdict, reason):
    found = run(Odd(fault=fault), data=("probe", "linearity", "repeatability"), layouts=("NCHW",))
    assert {o.trial.data for o in found} >= {"probe"}
    for outcome in found:
        assert outcome.verdict == verdict
        if outcome.trial.data == "probe":
            assert outcome.reason == reason
        else:
            assert outcome.reason.startswith(f"{outcome.trial.data}: ")
            if verdict != "unsupported":
                assert outcome.evidence["runs"][0]["layout"] == "NCHW"


def test_a_relation_that_holds_has_no_reason_and_one_that_does_not_names_its_runs():
    right = run(fakes.GOOD, data=tuple(RELATIONS), layouts=("NCHW",))
    assert len(right) >= 5
    assert all((o.verdict, o.reason) == ("agree", "") and "runs" not in o.evidence for o in right)
    wrong = [o for o in run(fakes.WRONG_NUMBERS, data=tuple(RELATIONS), layouts=("NCHW",)) if o.verdict == "disagree"]
    assert wrong
    for outcome in wrong:
        assert outcome.reason.startswith("not true: ")
        assert len(outcome.evidence["runs"]) >= 2


def test_a_coarser_class_than_the_declared_one_disagrees():
    (outcome,) = run(fakes.COARSE, data=("probe",), layouts=("NCHW",))
    assert outcome.verdict == "disagree"
    assert outcome.reason.startswith("precision: measured inputs bfloat16")
    assert outcome.accuracy_class == "bfloat16"


def test_a_failure_of_our_own_is_the_adapters_for_no_trial():
    (problem,) = Selection(("fake",), data=("exact", "random")).problems((ODD,))
    unit = problem.units[0]
    found = list(outcomes(fakes.GOOD, unit, Given({}, failure="the oracle failed")))
    assert [o.trial for o in found] == list(unit.trials)
    for outcome in found:
        assert outcome == unreached(outcome.trial, "the oracle failed")
        assert (outcome.verdict, outcome.evidence, outcome.support) == ("error", {"unreached": True}, "unknown")


def test_the_bound_is_that_of_the_declared_arithmetic():
    @dataclass(frozen=True)
    class Declared(fakes.Fake):
        inputs: str | None = None

        def compute_precision(self, spec, request=fakes.DEFAULT):
            assert request.direction in ("forward", "input", "kernel", "bias")
            return ComputePrecision("float32", inputs=self.inputs)

    big = Case(ConvSpec(2, 3, (2, 3), padding=(1, 0)), (2, 2, 30, 30))
    coarse = {"fault": "coarse", "always": True}
    strict = run(Declared(**coarse), big, data=("random",), layouts=("NCHW",))
    wide = run(Declared(**coarse, inputs="bfloat16"), big, data=("random",), layouts=("NCHW",))
    assert [o.verdict for o in (*strict, *wide)] == ["disagree", "agree"]


def test_a_layer_is_built_and_run_where_its_target_is():
    places = []

    class Placed:
        native_layout = "NCHW"

        def __getattr__(self, name):
            return getattr(fakes.GOOD, name)

        def build(self, spec, params, layout, dtype="float32", device="cpu"):
            places.append(device)
            return fakes.GOOD.build(spec, params, layout, dtype)

        def apply(self, layer, x, layout, device="cpu"):
            places.append(device)
            return fakes.GOOD.apply(layer, x, layout)

    run(Placed(), data=("exact",), layouts=("NCHW",), devices=("cuda:1",))
    assert places == ["cuda:1", "cuda:1"]
