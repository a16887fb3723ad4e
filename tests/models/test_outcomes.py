"""What the comparison of two models says of their results, and of models that were not run."""

from __future__ import annotations

import json

import numpy as np
import pytest

from convspec.models.comparison import run_both
from convspec.models.comparison.outcomes import Outcome, judge_results
from convspec.models.comparison.results import Comparison, Row
from convspec.models.run_model import Model
from convspec.reference import Spread, spread_limits
from tests.models.numpy_models import Adapter


def judged(a, b, moved=0.0):
    spreads = [Spread.of([np.asarray(y, np.float32)]) for y in (a, b)]
    for spread in spreads:
        spread.add([spread.results[0] + np.float32(moved)])
    return judge_results("", *spreads, ("NCHW", "NCHW"))


def test_results_that_rounding_may_move_by_their_size_are_unknown_with_their_difference():
    found = judged([[1.0, 2.0]], [[1.0, 2.5]], moved=1.0)
    assert (found.verdict, found.difference) == ("unknown", 0.5)
    assert "a mistake could not be told from it" in found.reason


@pytest.mark.parametrize(("size", "shown"), [(None, None), (np.inf, None), (np.nan, None), (0.5, 0.5)])
def test_a_size_that_is_no_number_is_null(size, shown):
    document = Outcome("x", "differ", difference=size, limit=size).to_dict()
    assert (document["difference"], document["limit"]) == (shown, shown)
    json.dumps(document, allow_nan=False)


@pytest.mark.parametrize(("b", "reason"), [
    ([[1.0]], "the results have shapes (1, 2) and (1, 1)"), ([[[2.0], [1.0]]], "the same numbers in another order"),
    ([[1.0], [2.0]], "the same numbers in another shape"),
])  # fmt: skip
def test_a_reason_ends_with_what_is_known(b, reason):
    assert judged([[1.0, 2.0]], b).reason.endswith(reason)


def test_the_largest_of_no_results_is_nothing():
    assert run_both._largest([]) == 0.0
    assert run_both._largest([np.array([-3.0, np.inf]), np.array([np.nan]), np.array([])]) == 3.0


@pytest.mark.parametrize(("problems", "words"), [
    (("why", ""), "model a was not run: why"), (("", "why"), "model b was not run: why"),
    (("this", "that"), "model a was not run: this"),
    (("", ""), "not run: give inputs; all weights and settings are equal"),
])  # fmt: skip
def test_a_model_that_was_not_run_is_named_with_the_reason(problems, words):
    a, b = (Model(None, Adapter("NCHW"), [], problem=problem) for problem in problems)
    assert run_both._unrun_words(a, b, Comparison(("a", "b"))) == words


def test_settings_that_differ_are_told_where_another_layer_reads_other_inputs():
    rows = [Row("norm 0", "bn", "bn", ["epsilon 1e-05 against 0.001"], verdict="agree"),
            Row("conv 1", "c", "c", verdict="input_differs", reason="it reads other inputs")]  # fmt: skip
    found = Comparison(("a", "b"), rows, "differ", [Outcome("the given inputs", "differ", 1.0, 1e-6, "why")])
    hint = "; settings differ in norm 0 (bn): epsilon 1e-05 against 0.001"
    assert found.divergence == f"before conv 1 (c): it reads other inputs{hint}"
    rows[0].spec.clear()
    assert found.divergence == "before conv 1 (c): it reads other inputs"


def test_a_result_where_rounding_explains_nothing_differs_without_a_warning():
    found = judged([[0.0, 0.0]], [[1.0, 0.0]])
    assert (found.verdict, found.difference, found.limit, found.ratio) == ("differ", 1.0, 0.0, np.inf)


@pytest.mark.parametrize(("dtype", "unit"), [(np.float16, 2.0**-11), (np.float32, 2.0**-24), (np.float64, 2.0**-53)])
def test_results_may_differ_by_two_roundings_of_the_coarser_format(dtype, unit):
    y, still = np.array([[4.0, -8.0]]), np.zeros((1, 2))
    expected = 2 * unit / (1 - 2 * unit) * 8
    for one, other in ((y.astype(dtype), y), (y, y.astype(dtype))):
        assert spread_limits(still, still, one, other) == pytest.approx(expected, rel=1e-12)
