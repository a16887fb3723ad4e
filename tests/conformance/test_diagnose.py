"""The evidence of a wrong output says where the error lives and which known mistake it is."""

import dataclasses

import numpy as np
import pytest

import convspec
from convspec import Case, ConvSpec, reference
from convspec.conformance.checks import checks
from convspec.conformance.checks.checks import Attempt, explain
from convspec.conformance.execution.shared_arrays import Data
from convspec.conformance.trials.work_plan import Target, Trial, Unit
from convspec.corpora.cases import arrays

CASE = Case(ConvSpec(3, 4, (3, 5), stride=2, padding="same"), (1, 3, 9, 12), seed=3)
TRIAL = Trial("NCHW", "exact")


def made(case=CASE):
    params, x = arrays(case)
    return Unit(0, case, Target("x"), (TRIAL,)), Data(params, x)


def other(case, data):
    """What an adapter gives that puts the odd pad first."""
    spec = dataclasses.replace(case.spec, padding="same_lower")
    return reference.conv(spec, data.params, data.x).astype(np.float32)


def test_a_known_mistake_is_named_and_located():
    unit, data = made()
    found = explain(unit, TRIAL, data, other(CASE, data))
    assert "odd-cell-on-the-wrong-side" in [one["id"] for one in found["findings"]]
    assert len(found["location"]["picture"]) == 5
    assert found["location"]["wrong"] > 0


def test_a_mistake_that_nobody_knows_is_located():
    unit, data = made()
    y = reference.conv(CASE.spec, data.params, data.x).astype(np.float32)
    y[0, 2, 1, 3] += 7
    found = explain(unit, TRIAL, data, y)
    assert set(found) == {"location"}
    assert "output channel 2 only" in found["location"]["where"]


@pytest.mark.parametrize(
    "trial", [Trial("NCHW", "random"), Trial("NCHW", "exact", "kernel")], ids=["random", "gradient"]
)
def test_only_exact_outputs_are_explained(trial):
    unit, data = made()
    assert explain(unit, trial, data, other(CASE, data)) == {}


def test_large_layers_are_not():
    large = Case(ConvSpec(3, 64, 3, stride=2, padding="same"), (1, 3, 64, 64))
    unit, data = made(large)
    assert explain(unit, TRIAL, data, other(large, data)) == {}


def test_a_fault_of_the_diagnosis_is_shown_and_changes_no_verdict(monkeypatch):
    def faulty(*_):
        raise ValueError("no idea")

    monkeypatch.setattr(checks, "explain", faulty)
    unit, data = made()
    right = reference.conv(CASE.spec, data.params, data.x).astype(np.float32)
    found = checks._explain(unit, TRIAL, data, Attempt(results={"forward": right}))
    assert found == {"undiagnosed": "ValueError: no idea"}


def test_a_run_has_it_in_its_evidence():
    report = convspec.check([Case(ConvSpec(3, 5, (3, 5)), (2, 3, 9, 11), seed=7)], ["convspec_fakes:WRONG_NUMBERS"])
    exact, random = (r for r in report.results if r.case.layout == "NCHW")
    assert exact.evidence["location"]["total"] == exact.evidence["total"]
    assert "location" not in random.evidence
