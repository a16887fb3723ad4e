"""The plan of work: every case on every target, in an order that keeps few processes alive."""

from convspec import Case, ConvSpec
from convspec.conformance.trials.work_plan import Selection, Target, Trial

CASES = [
    Case(ConvSpec(1, 2, 3), (1, 1, 4, 5), dtype="float32"),
    Case(ConvSpec(1, 3, 3), (1, 1, 4, 5), dtype="float64", device="cuda"),
    Case(ConvSpec(1, 4, 3), (1, 1, 4, 5), dtype="float32"),
]


def units(selection):
    return [unit for problem in selection.problems(CASES) for unit in problem.units]


def test_a_case_keeps_its_dtype_and_device_where_none_is_asked_for():
    found = units(Selection(("a", "b")))
    assert [(u.index, u.target) for u in found] == [
        (0, Target("a")), (0, Target("b")), (2, Target("a")), (2, Target("b")),
        (1, Target("a", "float64", "cuda")), (1, Target("b", "float64", "cuda")),
    ]  # fmt: skip


def test_every_case_is_run_in_every_dtype_that_is_asked_for_dtype_by_dtype():
    found = units(Selection(("a",), dtypes=("float16", "float32"), devices=("cpu", "cuda")))
    assert [(u.target.dtype, u.index, u.target.device) for u in found] == [
        (dtype, index, device) for dtype in ("float16", "float32") for index in range(3) for device in ("cpu", "cuda")
    ]
    assert all(u.case.dtype == u.target.dtype for u in found)


def test_the_trials_come_layout_by_layout():
    (first, *_) = units(Selection(("a",)))
    assert [(t.layout, t.data) for t in first.trials] == [
        ("NCHW", "exact"), ("NCHW", "random"), ("NHWC", "exact"), ("NHWC", "random"),
    ]  # fmt: skip
    assert first.after(3).trials == first.trials[3:]
    case = first.case_of(first.trials[3])
    assert (case.layout, case.data, case.id) == ("NHWC", "random", CASES[0].id)
    assert units(Selection(("a",), layouts=("NHWC",), data=("exact",)))[0].trials == (Trial("NHWC", "exact"),)


def test_every_case_is_run_on_every_device_in_every_precision_that_is_asked_for():
    found = units(Selection(("a",), devices=("cpu", "cuda"), precisions=("shipped", "strict")))
    assert [u.target for u in found if u.index == 0] == [
        Target("a", device=device, precision=precision)
        for device in ("cpu", "cuda") for precision in ("shipped", "strict")
    ]  # fmt: skip
