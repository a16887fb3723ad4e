"""convspec.check on adapters that go wrong in every way: each costs its own cases and no other."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import convspec
from convspec import Case, ConvSpec, RequestError
from convspec.conformance.execution.worker_pool import WorkerPool
from convspec.conformance.fuzzing.failures import Limits, rerun
from convspec.conformance.remote.executor import IDLE_WORKERS
from convspec.conformance.results import UnexpectedResults
from convspec.contract import registry
from convspec.errors import GapError, UnknownName

FAKES = Path(__file__).parents[1] / "fakes"
EVEN = [Case(ConvSpec(3, 2 * n, (3, 5), stride=(2, 1), padding=(1, 2)), (2, 3, 9, 11), seed=n) for n in (1, 2)]
ODD = [Case(ConvSpec(3, 5, (3, 5), stride=(2, 1), padding=(1, 2)), (2, 3, 9, 11), seed=7)]
CASES = [EVEN[0], ODD[0], EVEN[1]]


def check(name, cases=CASES, **options):
    return convspec.check(cases, [f"convspec_fakes:{n}" for n in name.split(",")], **{"timeout": 20, **options})


def verdicts(report, case=None, adapter=None):
    found = [r for r in report.results if case in (None, r.case.varied(layout="NCHW", data="exact"))]
    return {r.verdict for r in found if adapter in (None, r.adapter)}


def test_a_good_adapter_agrees_everywhere():
    report = check("GOOD").expect()
    assert report.summary == {
        "agree": 12, "disagree": 0, "unsupported": 0, "error": 0, "crash": 0, "timeout": 0, "unexpected": 0,
    }  # fmt: skip
    assert [r.case.id for r in report.results] == [c.id for c in CASES for _ in range(4)]
    trials = [(r.case.layout, r.case.data) for r in report.results[:4]]
    assert trials == [("NCHW", "exact"), ("NCHW", "random"), ("NHWC", "exact"), ("NHWC", "random")]


@pytest.mark.parametrize(
    ("name", "verdict", "words"),
    [
        ("WRONG_SHAPE", "disagree", "shape"),
        ("WRONG_RANK", "disagree", "shape"),
        ("WRONG_NUMBERS", "disagree", "value"),
        ("WRONG_DTYPE", "disagree", "dtype float16"),
        ("NO_ARRAY", "error", "list"),
        ("RAISES", "error", "RuntimeError: the kernel is sad"),
        ("SEGFAULTS", "crash", "SIGSEGV: about to touch address zero"),
        ("EXITS", "crash", "exit status 3"),
        ("FORKS", "crash", "exit status 5"),
    ],
)
def test_a_fault_costs_its_own_case_and_its_neighbours_keep_their_verdicts(name, verdict, words):
    report = check(f"GOOD,{name}", layouts=["NCHW"], jobs=2)
    bad = [r for r in report.results if r.case.spec.out_channels == 5 and r.adapter != "good"]
    assert [r.verdict for r in bad] == [verdict, verdict]
    assert all(words in r.reason for r in bad), bad[0].reason
    assert report.summary["agree"] == 10
    assert report.summary["unexpected"] == 2
    assert list(report.unexpected) == bad


def test_a_hang_is_a_timeout_and_costs_its_own_trial():
    report = check("HANGS", layouts=["NCHW"], data=["exact"], timeout=1.0)
    assert [r.verdict for r in report.results] == ["agree", "timeout", "agree"]
    assert report.results[1].reason == "no answer within 1 s"
    assert 1.0 <= report.results[1].seconds < 10


def test_what_is_printed_disturbs_nothing():
    assert verdicts(check("CHATTERS")) == {"agree"}


def test_a_layer_without_output_must_be_refused():
    too_large = [Case(ConvSpec(3, 4, (3, 9)), (1, 3, 5, 7), seed=1)]
    good = check("GOOD", too_large)
    assert verdicts(good) == {"agree"}
    assert "refused, as expected" in good.results[0].reason
    never = check("NEVER_REFUSES", too_large)
    assert verdicts(never) == {"disagree"}
    assert "returned a result, expected an error" in never.results[0].reason
    assert never.summary["unexpected"] == 4


def test_unsupported_is_declared_before_anything_runs_and_is_not_unexpected():
    report = check("GOOD", [Case(ConvSpec(2, 3, (1, 2, 3)), (1, 2, 3, 4, 5))])
    assert verdicts(report) == {"unsupported"}
    assert report.results[0].reason == "no 3-D here"
    assert report.summary["unexpected"] == 0


def test_a_dtype_that_an_adapter_lacks_is_unsupported_and_others_run_in_theirs():
    report = check("GOOD", EVEN, dtypes=["float32", "float64", "float16"])
    by_dtype = {r.case.dtype: r.verdict for r in report.results}
    assert by_dtype == {"float32": "agree", "float64": "agree", "float16": "unsupported"}


def test_an_adapter_whose_support_raises_costs_its_own_results():
    report = check("SUPPORT_RAISES")
    assert verdicts(report) == {"error"}
    assert "support: RuntimeError: no idea" in report.results[0].reason


@pytest.mark.parametrize(
    ("name", "words"),
    [("DOES_NOT_START", "exit status 7; last words: the library is broken"), ("START_RAISES", "OSError: libfake.so")],
)
def test_a_worker_that_does_not_start_is_an_error_for_every_case(name, words):
    report = check(f"{name},GOOD")
    assert verdicts(report, adapter="good") == {"agree"}
    bad = [r for r in report.results if r.adapter != "good"]
    assert len(bad) == 12
    assert all(r.verdict == "error" and words in r.reason for r in bad), bad[0].reason


@pytest.mark.parametrize("name", ["ABSENT", "ABSENT_MODULE"])
def test_an_absent_framework_that_was_asked_for_is_an_error(name):
    with pytest.raises(RequestError, match="not installed"):
        check(name)


@pytest.mark.parametrize(
    ("cases", "options", "words"),
    [
        ("tutorial", {}, r"cases must be a list of Case, e\.g\. corpora.load\('tutorial'\), got tutorial"),
        (CASES[0], {}, "cases must be a list of Case"),
        ([CASES[0].spec], {}, "cases must be a list of Case"),
        (CASES, {"adapters": "torch"}, r"adapter names must be a list, e\.g\. \['torch'\]"),
        (CASES, {"layouts": "NHWC"}, r"layout names must be a list, e\.g\. \['NHWC'\]"),
        (CASES, {"devices": "cpu"}, r"devices must be a list, e\.g\. \['cpu'\]"),
        (CASES, {"layouts": ["channels_last"]}, "did you mean 'NHWC'"),
    ],
)
def test_one_where_several_are_wanted_is_told(cases, options, words):
    with pytest.raises(RequestError, match=words):
        convspec.check(cases, **{"adapters": ["convspec_fakes:GOOD"], **options})


def test_without_names_absent_adapters_are_listed(monkeypatch):
    names = tuple(f"convspec_fakes:{name}" for name in ("ABSENT", "GOOD", "ABSENT_MODULE"))
    monkeypatch.setattr(registry, "adapters", lambda: names)
    report = convspec.check(CASES)
    assert report.summary["agree"] == 12
    assert set(report.absent) == {names[0], names[2]}
    assert "no_such_framework_at_all" in report.to_dict()["environment"]["absent"][names[2]]


def test_without_names_and_with_nothing_there_the_request_is_wrong(monkeypatch):
    monkeypatch.setattr(registry, "adapters", lambda: ("convspec_fakes:ABSENT",))
    with pytest.raises(RequestError, match=r"nothing could be checked: .*not installed"):
        convspec.check(CASES)


def test_a_device_that_is_not_there_is_an_error():
    with pytest.raises(RequestError, match="no device 'cuda' here, only cpu"):
        check("GOOD", devices=["cuda"])


@pytest.mark.parametrize(
    "options",
    [{"layouts": ["HWCN"]}, {"dtypes": ["float31"]}, {"data": ["randon"]}, {"precisions": ["sloppy"]}],
)
def test_unknown_words_are_refused_with_the_known_ones(options):
    with pytest.raises(UnknownName, match="Known: "):
        check("GOOD", **options)


@pytest.mark.parametrize("options", [{"jobs": 0}, {"timeout": 0}])
def test_impossible_numbers_are_refused(options):
    with pytest.raises(RequestError):
        check("GOOD", **options)


def test_one_job_or_many_give_the_same_results():
    def plain(report):
        return [(r.case.id, r.adapter, r.case.layout, r.case.data, r.verdict, r.reason) for r in report.results]

    cases = [Case(ConvSpec(2, n, (1, 3)), (1, 2, 4, 6), seed=n) for n in range(1, 30)]
    one = check("GOOD,WRONG_NUMBERS,RAISES", cases, jobs=1)
    assert plain(one) == plain(check("GOOD,WRONG_NUMBERS,RAISES", cases, jobs=4))
    assert len(one.results) == 29 * 3 * 4


def test_more_cases_than_may_be_in_memory_at_once(monkeypatch):
    from convspec.conformance.execution import shared_arrays

    monkeypatch.setattr(shared_arrays, "_MOST", 2)
    cases = [Case(ConvSpec(2, 2, (1, 3)), (1, 2, 4, 6), seed=n) for n in range(12)]
    assert check("GOOD,GOOD2", cases).summary["agree"] == 12 * 2 * 4


def test_a_worker_that_grows_is_replaced_and_nothing_is_lost(monkeypatch):
    from convspec.conformance.execution import scheduler

    monkeypatch.setattr(scheduler, "MEMORY", 1)
    assert check("GOOD").summary["agree"] == 12


@pytest.mark.parametrize("adapters", ["GOOD", "GOOD,GOOD2"], ids=["in the worker", "beside the workers"])
def test_a_layer_that_is_too_large_costs_its_own_case_and_its_size_is_said(adapters):
    vast = Case(ConvSpec(1, 1, 1), (1, 1, 1 << 22, 1 << 22))
    report = check(adapters, [ODD[0], vast, EVEN[0]])
    assert verdicts(report, vast) == {"error"}
    assert report.summary["agree"] == 2 * 4 * len(adapters.split(","))
    for result in report.results:
        assert result.verdict == "agree" or re.fullmatch(
            r"the layer is too large for the memory: its arrays need about \d+TiB, and this machine has [\d.]+[GT]iB",
            result.reason,
        )


def test_no_gap_covers_a_failure_of_the_oracle():
    vast = Case(ConvSpec(1, 1, 1), (1, 1, 1 << 22, 1 << 22))
    report = check("GAP_CLOSED", [vast], layouts=["NCHW"], data=["exact"])
    (result,) = report.results
    assert (result.verdict, result.gap, result.unexpected) == ("error", None, True)
    again = type(result).from_dict(result.to_dict())
    assert again.evidence["unreached"]


@pytest.mark.parametrize("adapters", ["GOOD", "GOOD,GOOD2"])
def test_whoever_makes_the_arrays_the_verdicts_are_the_same(adapters):
    """A worker that alone needs them makes them itself, unless its memory has a limit."""
    free, limited = (check(adapters, memory=memory, gradients=True) for memory in (None, 4 << 30))

    def told(report):
        return sorted(json.dumps({**r.to_dict(), "seconds": 0}, sort_keys=True) for r in report.results)

    assert told(free) == told(limited)
    assert any(json.loads(line)["evidence"].get("worst_q") for line in told(free))


def test_progress_counts_up_to_the_end():
    seen = []
    check("GOOD", progress=seen.append)
    assert [p.done for p in seen] == list(range(1, 13))
    assert {p.total for p in seen} == {12}
    assert seen[-1].left is not None
    assert seen[-1].left < 1


# -- gradients and probes ---------------------------------------------------------------------------------------------


def by_direction(report):
    return {d: {r.verdict for r in report.results if r.direction == d} for d in ("forward", "input", "kernel", "bias")}


def test_gradients_are_checked_where_they_are_asked_for():
    report = check("GOOD", gradients=True).expect()
    assert report.summary["agree"] == 3 * 2 * (2 + 2 * 3)
    directions = [(r.case.data, r.direction) for r in report.results[:8]]
    assert directions[2:5] == [("exact", "input"), ("exact", "kernel"), ("exact", "bias")]
    assert report.results[3].to_dict()["direction"] == "kernel"


def test_a_layer_without_bias_has_two_gradients_and_one_without_output_none():
    cases = [Case(ConvSpec(2, 4, 3, bias=False), (1, 2, 5, 6)), Case(ConvSpec(2, 4, 9), (1, 2, 5, 6))]
    report = check("GOOD", cases, gradients=True, layouts=["NCHW"], data=["exact"])
    assert [r.direction for r in report.results] == ["forward", "input", "kernel", "forward"]
    assert verdicts(report) == {"agree"}


def test_a_wrong_gradient_costs_its_own_verdict():
    report = check("WRONG_GRADIENTS", gradients=True)
    found = by_direction(report)
    assert found.pop("kernel") == {"disagree"}
    assert set(map(frozenset, found.values())) == {frozenset({"agree"})}
    with pytest.raises(UnexpectedResults, match="exact gradient of kernel: disagree"):
        report.expect()


def test_an_adapter_without_gradients_says_so_and_that_is_expected():
    report = check("NO_GRADIENTS", gradients=True).expect()
    assert by_direction(report)["kernel"] == {"unsupported"}
    assert next(r for r in report.results if r.direction == "bias").reason == "this framework runs forward only"


def test_a_gap_may_name_a_direction():
    assert [t.status for t in check("GAP_OF_GRADIENT", gradients=True).expect().gaps] == ["holds"]


def test_probes_measure_the_accuracy_class():
    (good,) = check("GOOD", EVEN[:1], layouts=["NHWC"], data=["probe"]).expect().results
    assert good.accuracy_class == "float32"
    (coarse,) = check("COARSE", EVEN[:1], layouts=["NHWC"], data=["probe"]).results
    assert (coarse.verdict, coarse.accuracy_class) == ("disagree", "bfloat16")
    assert coarse.reason.startswith("precision: measured inputs bfloat16, declared float32")


def test_all_takes_every_variant_and_forgives_what_is_absent(monkeypatch):
    names = tuple(f"convspec_fakes:{name}" for name in ("GOOD", "ABSENT_MODULE"))
    monkeypatch.setattr(registry, "adapters", lambda: names)
    report = convspec.check(EVEN[:1], ["all"])
    assert {(r.request, r.variant) for r in report.results} == {(names[0], "default"), (f"{names[0]}:other", "other")}
    assert set(report.absent) == {names[1], f"{names[1]}:other"}


# -- gaps ------------------------------------------------------------------------------------------------------------


def test_a_declared_gap_covers_its_failures():
    report = check("GAP_HOLDS").expect()
    assert {r.gap for r in report.results if r.verdict == "error"} == {"g"}
    assert {r.gap for r in report.results if r.verdict == "agree"} == {None}
    assert [t.status for t in report.gaps] == ["holds"]
    assert report.summary["error"] == 4


def test_a_gap_whose_reason_is_another_covers_nothing():
    report = check("GAP_OTHER_REASON")
    assert {r.gap for r in report.results} == {None}
    assert report.summary["unexpected"] == 4


@pytest.mark.parametrize(("name", "status"), [("GAP_TOO_WIDE", "too wide"), ("GAP_CLOSED", "closed")])
def test_a_gap_that_passes_somewhere_is_unexpected(name, status):
    report = check(name)
    assert [t.status for t in report.gaps] == [status]
    assert report.summary["unexpected"] == 1
    with pytest.raises(UnexpectedResults, match=status):
        report.expect()


def test_a_gap_of_another_version_does_not_apply():
    report = check("GAP_OLD").expect()
    assert report.gaps == ()


def test_a_malformed_gap_is_found_before_anything_runs():
    with pytest.raises(GapError, match=r"gap 'g': .*'out_chanels'.* did you mean 'out_channels'"):
        check("GAP_BROKEN")


# -- the report ------------------------------------------------------------------------------------------------------


def test_the_report_has_every_field_and_is_json():
    document = json.loads(json.dumps(check("WRONG_NUMBERS").to_dict(), allow_nan=False))
    assert document["schema"] == "convspec.report/1"
    assert document["summary"]["disagree"] == 4
    assert document["environment"]["versions"]["fakeframe"] == "2.5.0"
    assert {"python", "cpu", "cores", "convspec", "seed", "adapters", "absent"} <= set(document["environment"])
    result = next(r for r in document["results"] if r["verdict"] == "disagree")
    assert set(result) >= {
        "case", "spec", "input_shape", "adapter", "layout", "dtype", "device", "direction", "variant", "precision",
        "data", "support", "verdict", "reason", "class", "evidence", "gap", "seconds",
    }  # fmt: skip
    assert result["case"] == ODD[0].id
    assert ConvSpec.from_dict(result["spec"]) == ODD[0].spec
    assert (result["direction"], result["precision"], result["variant"]) == ("forward", "shipped", "default")
    assert result["evidence"]["wrong"] == 1


def test_expect_lists_what_is_unexpected():
    with pytest.raises(UnexpectedResults, match=r"2 unexpected among 6 results\n.*disagree.*seed 7"):
        check("WRONG_NUMBERS", layouts=["NHWC"]).expect()


# -- processes -------------------------------------------------------------------------------------------------------


def test_works_from_an_unguarded_script(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        sys.path.append({str(FAKES)!r})
        import convspec
        cases = [convspec.Case(convspec.ConvSpec(1, 2, 3), (1, 1, 4, 5))]
        print(convspec.check(cases, ["convspec_fakes:GOOD"]).summary["agree"])
        """)
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "4\n"


def test_a_module_in_the_current_folder_does_not_replace_one_of_the_worker(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('this is not the json you want')")
    monkeypatch.chdir(tmp_path)
    assert check("GOOD").summary["agree"] == 12


def test_no_worker_and_no_file_survives_the_main_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        sys.path.append({str(FAKES)!r})
        import convspec
        cases = [convspec.Case(convspec.ConvSpec(1, 3, 3), (1, 1, 4, 5))]
        convspec.check(cases, ["convspec_fakes:HANGS"])
        """)
    )
    main = subprocess.Popen([sys.executable, str(script)])
    try:
        workers = _until(lambda: _children(main.pid))
    finally:
        main.send_signal(signal.SIGKILL)
        main.wait()
    _until(lambda: not any(_alive(pid) for pid in workers))
    folders = [p for p in (Path("/dev/shm"), tmp_path) for p in p.glob(f"convspec-run-{main.pid}-*")]
    check("GOOD", EVEN)  # the next run clears up after the killed one
    assert not any(folder.exists() for folder in folders)


def _until(condition, patience=20.0):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def _children(pid):
    """The workers of a run, their reapers, and the process that forks them; empty until there is a worker."""
    try:
        found = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:  # a process that tried an import, and has ended
        return []
    further = [one for p in found for one in _children(p)]
    return [*found, *further] if further or name == "worker" else []


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_a_run_leaves_no_files_behind():
    before = set(Path("/dev/shm").glob(f"convspec-run-{os.getpid()}-*"))
    check("GOOD,SEGFAULTS")
    assert set(Path("/dev/shm").glob(f"convspec-run-{os.getpid()}-*")) == before


def test_the_start_timeout_reaches_the_workers_of_every_kind_of_run(monkeypatch, tmp_path):
    seen, start = [], WorkerPool.start
    monkeypatch.setattr(
        WorkerPool, "start", lambda pool, lane: (seen.append(pool.patience(lane.target.request)), start(pool, lane))[1]
    )
    journal = tmp_path / "run.jsonl"
    few = {"layouts": ["NCHW"], "data": ["exact"], "jobs": 1}
    report = check("GOOD", ODD, **few, journal=journal, start_timeout=71)
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:2]))
    convspec.resume(journal, jobs=1, start_timeout=72)
    check("GOOD", ODD, **few, record=tmp_path / "record", start_timeout=73)
    convspec.replay(tmp_path / "record", jobs=1, start_timeout=74)
    rerun(report.results, Limits(jobs=1, start_timeout=75))
    with ThreadPoolExecutor(1) as pool:
        check("GOOD", ODD, **few, executor=pool, start_timeout=76)
    IDLE_WORKERS.clear()
    check("GOOD", ODD, **few)
    assert seen == [71, 72, 73, 74, 75, 76, 60]


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_a_start_timeout_is_more_than_0_seconds(seconds, tmp_path):
    for run in (
        lambda **options: check("GOOD", ODD, **options),
        lambda **options: convspec.resume(tmp_path, **options),
    ):
        with pytest.raises(RequestError, match=f"start_timeout={seconds} must be more than 0 seconds"):
            run(start_timeout=seconds)
