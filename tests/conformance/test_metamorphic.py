"""Metamorphic relations: the oracle fulfils each, and each has a fault that it alone was made for and catches."""

import convspec_fakes
import numpy as np
import pytest

import convspec
from convspec import Case, ConvSpec, corpora, reference
from convspec.conformance.checks.checks import outcomes
from convspec.conformance.checks.expected import Given
from convspec.conformance.trials.metamorphic import METAMORPHIC, RELATIONS
from convspec.conformance.trials.work_plan import Selection, expand_relations
from convspec.corpora.cases import arrays
from convspec.errors import ShapeError, UnknownName
from convspec.reference import error_bounds
from convspec.spec.dtypes import rounded
from convspec.spec.parameters import ConvParams, exact_limit


def runnable():
    for case in [*corpora.load("features")[::7], *corpora.load("pairwise")]:
        try:
            if 0 not in case.spec.output_shape(case.input_shape):
                yield case
        except ShapeError:
            continue


CASES = list(runnable())
FEWEST = {"dilation": 10, "adjoint": 25, "groups": 25}  # not every layer has groups


def right(spec, params, x, layout=None):
    """The oracle, which must never be asked for more than exact data allow."""
    params.check(spec)
    return reference.conv(spec, params, x)


def holds(relation, case, run):
    actual, expected = relation.sides(case, "NCHW", run)
    assert actual.shape == expected.shape
    assert actual.size
    return np.array_equal(actual, expected)


@pytest.mark.parametrize("relation", RELATIONS.values(), ids=RELATIONS)
def test_the_oracle_fulfils_every_relation(relation):
    cases = [case for case in CASES if relation.applies(case)]
    assert len(cases) >= FEWEST.get(relation.id, 35)
    for case in cases:
        assert holds(relation, case, right), case.name


@pytest.mark.parametrize("name", RELATIONS)
def test_no_sum_of_a_relation_exceeds_what_is_exact(name):
    """The proof that a correct backend fulfils it to the last bit: Σ|x||w| + |b| ≤ 2ᵖ in every run."""
    if name == "repeatability":
        return
    for case in (c.varied(dtype=dtype) for c in CASES[::3] for dtype in ("float32", "float16", "bfloat16")):
        limit = exact_limit(case.dtype)

        def run(spec, params, x, layout=None, limit=limit):
            assert reference.magnitude(spec, params, x).max(initial=0.0) <= limit
            for array in (params.kernel, x):
                assert np.array_equal(array, np.rint(array))
            return reference.conv(spec, params, x)

        if RELATIONS[name].applies(case):
            assert holds(RELATIONS[name], case, run)


def test_a_wide_layer_in_a_narrow_format_is_exact_too():
    """K is beyond what bfloat16 can sum, so that the kernels are thinned out."""
    for transposed in (False, True):
        case = Case(ConvSpec(96, 64, 5, stride=2, padding=2, transposed=transposed), (1, 96, 9, 8), dtype="bfloat16")
        assert error_bounds.products(case.spec) > exact_limit("bfloat16")

        def run(spec, params, x, layout=None):
            assert params.kernel.any()
            assert reference.magnitude(spec, params, x).max() <= exact_limit("bfloat16")
            return reference.conv(spec, params, x)

        for relation in RELATIONS.values():
            if relation.applies(case) and relation.id != "repeatability":
                assert holds(relation, case, run), relation.id


def _activated(spec, params, x, layout=None):
    return np.maximum(right(spec, params, x), 0)


def _tilted(spec, params, x, layout=None):
    y = right(spec, params, x)
    return y + sum(np.arange(n).reshape(-1, *(1,) * i) for i, n in enumerate(reversed(y.shape[2:])))


def _crop_of_the_transposed_moved(spec, params, x, layout=None):
    y = right(spec, params, x)
    return np.roll(y, 1, -1) if spec.transposed else y


def _first_group_for_all(spec, params, x, layout=None):
    per = spec.in_channels // spec.groups
    return right(spec, params, np.tile(x[:, :per], (1, spec.groups, *(1,) * spec.ndim)))


def _last_filter_lost(spec, params, x, layout=None):
    y = right(spec, params, x)
    y[:, -1] = 0
    return y


def _dilation_moves_the_output(spec, params, x, layout=None):
    y = right(spec, params, x)
    return y + 1 if max(spec.dilation) > 1 else y


def _first_sample_for_all(spec, params, x, layout=None):
    return np.repeat(right(spec, params, x)[:1], len(x), axis=0)


def _channels_last_without_bias(spec, params, x, layout=None):
    y = right(spec, params, x)
    return -y if layout == "NHWC" else y


class _Noise:
    calls = 0

    def __call__(self, spec, params, x, layout=None):
        self.calls += 1
        y = right(spec, params, x)
        y.flat[-1] = np.nextafter(y.flat[-1], np.inf) if self.calls % 2 else y.flat[-1]
        return y


TWINS = {
    "linearity": _activated,
    "shift": _tilted,
    "adjoint": _crop_of_the_transposed_moved,
    "groups": _first_group_for_all,
    "outputs": _last_filter_lost,
    "dilation": _dilation_moves_the_output,
    "batch": _first_sample_for_all,
    "layouts": _channels_last_without_bias,
    "repeatability": _Noise(),
}


@pytest.mark.parametrize("name", RELATIONS)
def test_each_relation_has_a_fault_that_it_catches(name):
    cases = [case for case in CASES if RELATIONS[name].applies(case)]
    caught = sum(not holds(RELATIONS[name], case, TWINS[name]) for case in cases)
    assert caught >= 0.8 * len(cases), f"{caught} of {len(cases)}"


def test_the_shift_that_is_compared_is_as_long_as_it_can_be():
    spec = ConvSpec(2, 3, (3, 5), stride=(2, 1), padding=(1, 2))
    y, z = RELATIONS["shift"].sides(Case(spec, (1, 2, 11, 12)), "NCHW", right)
    assert y.shape == z.shape == (1, 3, 3, 7)  # of 6 x 12: without the edges, and what was shifted out


def test_relations_are_trials_where_they_apply():
    (problem,) = Selection(("a",), data=expand_relations([METAMORPHIC])).problems(
        [Case(ConvSpec(3, 4, 3), (2, 3, 8, 9))]
    )
    names = [trial.data for trial in problem.units[0].trials if trial.layout == "NCHW"]
    assert names == ["linearity", "shift", "adjoint", "outputs", "batch", "layouts", "repeatability"]
    assert problem.recipes == ()  # no oracle
    refused = Case(ConvSpec(3, 4, 5), (1, 3, 2, 2))
    assert not list(Selection(("a",), data=expand_relations([METAMORPHIC])).problems([refused]))
    assert expand_relations(["exact", "shift", "metamorphic"])[:3] == ("exact", "shift", "linearity")


def outcome(adapter, case, name):
    (problem,) = Selection(("a",), layouts=("NCHW",), data=(name,)).problems([case])
    (found,) = outcomes(adapter, problem.units[0], Given({}))
    return found


CASE = Case(ConvSpec(4, 5, (3, 2), dilation=(1, 2)), (2, 4, 9, 8))


@pytest.mark.parametrize(
    ("adapter", "name", "verdict", "words"),
    [
        (convspec_fakes.GOOD, "linearity", "agree", ""),
        (
            convspec_fakes.COARSE,
            "linearity",
            "disagree",
            "not true: the output of a sum is the sum of the outputs; value: ",
        ),
        (convspec_fakes.WRONG_NUMBERS, "batch", "disagree", "not true: samples are independent; value: 1 of"),
        (convspec_fakes.WRONG_SHAPE, "shift", "disagree", "shift: shape (2, 5, 7, 5) where (2, 5, 7, 6) is right"),
        (convspec_fakes.WRONG_DTYPE, "batch", "disagree", "dtype float16 where float32 was asked for"),
        (convspec_fakes.RAISES, "dilation", "error", "dilation: ConvSpec(4, 5, kernel_size=(3, 2)"),
    ],
)
def test_what_goes_wrong_in_a_run_is_the_verdict(adapter, name, verdict, words):
    found = outcome(adapter, CASE.varied(seed=1), name)
    assert found.verdict == verdict
    assert words in found.reason


def test_a_run_that_the_framework_does_not_have_leaves_the_relation_open():
    class Half(convspec_fakes.Fake):
        def support(self, spec, *rest):
            return (
                convspec.contract.plan.Support("unsupported", "none transposed")
                if spec.transposed
                else super().support(spec)
            )

    found = outcome(Half("half"), CASE, "adjoint")
    assert (found.verdict, found.support, found.reason) == ("unsupported", "unsupported", "adjoint: none transposed")


def test_check_runs_them_in_workers_and_their_agreement_closes_no_gap():
    report = convspec.check([CASE], ["convspec_fakes:GAP_CLOSED"], data=["metamorphic"], timeout=30).expect()
    assert {r.case.data for r in report.results} == set(RELATIONS) - {"groups"}
    assert {r.verdict for r in report.results} == {"agree"}
    with pytest.raises(UnknownName, match="'metamorphosis'; did you mean 'metamorphic'"):
        convspec.check([CASE], ["convspec_fakes:GOOD"], data=["metamorphosis"])


def test_exact_parameters_of_a_relation_come_from_the_seed():
    sides = [RELATIONS["adjoint"].sides(CASE.varied(seed=s), "NCHW", right)[0] for s in (1, 1, 2)]
    assert np.array_equal(sides[0], sides[1])
    assert not np.array_equal(sides[0], sides[2])
    assert isinstance(arrays(CASE)[0], ConvParams)
    assert rounded(sides[0], "float32").dtype == np.float32


def test_a_gap_of_a_layer_that_a_relation_ran_declares_its_failure():
    """The whole has six filters and is right; its halves have three, and numbers that a gap declares to be wrong."""
    case = Case(ConvSpec(3, 6, (2, 3)), (1, 3, 6, 7))
    report = convspec.check([case], ["convspec_fakes:GAP_OF_HALVES"], data=["outputs", "linearity"]).expect()
    assert {(r.case.data, r.verdict, r.gap) for r in report.results} == {
        ("outputs", "disagree", "g"), ("linearity", "agree", None),
    }  # fmt: skip
    (tally,) = report.gaps
    assert (tally.failed, tally.passed) == (2, 0)
