"""convspec fuzz on adapters with planted faults: found, reduced to a small layer, one finding each, with a script."""

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from convspec import Case, ConvSpec, RequestError
from convspec.conformance.fuzzing import scripts
from convspec.conformance.fuzzing.failures import FailureFile, Limits
from convspec.conformance.fuzzing.session import fuzz, stream
from convspec.conformance.fuzzing.shrink import shrink, weight
from convspec.conformance.results import Result
from tests import prepared

UNIT = Path(__file__).parent
PAGE = (UNIT.parents[1] / "docs" / "how-to" / "fuzz.md").read_text("utf-8")
LARGE = Case(ConvSpec(4, 6, (3, 4), (2, 3), ((1, 2), (0, 1)), 2, 2, padding_mode="reflect"), (3, 4, 9, 11), seed=7)


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    folder = str(UNIT.parent / "fakes")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([folder, *sys.path]))


def failure(case=LARGE, request="convspec_fakes:SCRIPTED", verdict="disagree", reason="value: wrong", gap=None):
    rest = {"precision": "shipped", "support": "native", "support_reason": "", "accuracy_class": None, "evidence": {}}
    return Result(case, request, request, "default", verdict=verdict, reason=reason, gap=gap, seconds=0.0, **rest)


def test_the_same_seed_draws_the_same_cases():
    first, same, other = (list(itertools.islice(stream(seed), count)) for seed, count in ((3, 40), (3, 40), (4, 20)))
    assert first == same
    assert first[:20] != other
    assert len(set(first)) == 40


def test_a_planted_fault_is_found_reduced_and_written_once(tmp_path):
    options = {"cases": 6, "layouts": ["NHWC"], "limits": Limits(timeout=20)}
    found = fuzz(tmp_path, ["convspec_fakes:SCRIPTED"], **options)
    (finding,) = found.findings
    assert found.verdicts["disagree"] == finding.count > 2
    assert finding.smallest
    assert finding.failure.case.spec == ConvSpec(1, 1, 1, bias=False, ndim=1)
    assert finding.failure.case.input_shape == (1, 1, 1)
    assert finding.confirmed, finding.problem
    folder = tmp_path / finding.name
    assert json.loads((folder / "case.json").read_text())["failure"] == finding.failure.to_dict()
    script = (folder / "reproducer.py").read_text()
    assert "import convspec" not in script
    assert "fakeframe 2.5.0" in script
    done = subprocess.run([sys.executable, "-I", folder / "reproducer.py"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "DISAGREES: 1 of 1 elements are wrong\n")

    mended = FailureFile(tmp_path / "failures.jsonl").results
    assert finding.failure.case in [one.case for one in mended]
    again = fuzz(tmp_path, ["convspec_fakes:SCRIPTED"], **options | {"cases": 1})
    assert again.kept == again.still == len(mended) >= 2
    assert [one.name for one in again.findings] == [finding.name]


def test_crashes_are_reduced_too_and_told_from_wrong_numbers(tmp_path):
    found = fuzz(
        tmp_path, ["convspec_fakes:SEGFAULTS", "convspec_fakes:GOOD"], cases=6, layouts=["NCHW"], data=["exact"],
        limits=Limits(timeout=20),
    )  # fmt: skip
    (finding,) = found.findings
    assert (finding.failure.verdict, finding.failure.request) == ("crash", "convspec_fakes:SEGFAULTS")
    assert finding.failure.case.spec.out_channels == 1
    assert weight(finding.failure.case) <= 8
    assert finding.confirmed is None
    assert "writes no scripts" in finding.problem


def test_gaps_declare_failures_and_too_wide_ones_are_told_but_fail_no_run(tmp_path):
    found = fuzz(
        tmp_path, ["convspec_fakes:GAP_HOLDS", "convspec_fakes:GAP_TOO_WIDE", "convspec_fakes:GAP_CLOSED"], cases=8,
        layouts=["NCHW"], data=["exact"], limits=Limits(timeout=20),
    )  # fmt: skip
    assert not found.findings
    assert found.declared["gap-holds: g"] > 0
    assert [tally.adapter for tally in found.too_wide] == ["gap-too-wide"]


def test_reduction_keeps_what_the_failure_needs():
    """The fault: a reflecting pad with a stride. Verdicts come from a function here, no adapter is run."""

    def run(changed):
        return [
            one if one.case.spec.padding_mode == "reflect" and max(one.case.spec.stride) > 1
            else failure(one.case, verdict="agree", reason="") for one in changed
        ]  # fmt: skip

    ((small, smallest),) = shrink([failure()], run)
    assert smallest
    assert small.case.spec == ConvSpec(1, 1, (1,), 2, ((0, 1),), padding_mode="reflect", bias=False)
    assert small.case.input_shape == (1, 1, 2)
    ((same, smallest),) = shrink([failure()], run, until=0.0)
    assert (same, smallest) == (failure(), False)


def test_reduction_never_turns_into_another_failure():
    def run(changed):
        return [
            failure(one.case) if one.case.spec.groups == 2 else failure(one.case, "error", "ValueError: no")
            for one in changed
        ]  # fmt: skip

    ((small, _),) = shrink([failure()], run)
    assert small.case.spec == ConvSpec(2, 2, (1,), groups=2, bias=False)


@pytest.mark.parametrize("data", ["exact", "random"])
def test_a_script_of_a_right_layer_says_that_it_agrees(tmp_path, data):
    right = failure(LARGE.varied(data=data, layout="NHWC"), request="convspec_fakes:SCRIPTED_RIGHT")
    path = tmp_path / "reproducer.py"
    path.write_text(scripts.script(right))
    assert not scripts.confirm(path, right, 60)
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "agrees"), done.stderr


def test_what_is_no_kept_failure_is_refused_by_its_line(tmp_path):
    (tmp_path / "failures.jsonl").write_text(json.dumps(failure().to_dict()) + '\n{"case": 1}\n')
    with pytest.raises(RequestError, match="line 2 is not a failure"):
        fuzz(tmp_path, ["convspec_fakes:GOOD"], cases=1)
    with pytest.raises(RequestError, match="must be given"):
        fuzz(tmp_path)


def test_the_commands_of_the_page_run(tmp_path):
    commands = re.findall(r"^\$ convspec (.+)$", PAGE, re.M)
    assert len(commands) == 2
    for command in commands:
        line = command.replace("--minutes 30", "--cases 4").replace("--cases 500", "--cases 2")
        line = re.sub(r"--adapters \S+|--gradients", "", line) + " --adapters convspec_fakes:GOOD"
        done = prepared.run("-m", "convspec", *line.split(), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "0 unexpected" in done.stdout
    done = prepared.run("-m", "convspec", "fuzz", "--data", "metamorphic", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--data 'metamorphic' must be one of" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"convspec-fuzz", "fuzz"}
    assert not [*tmp_path.rglob("*hypothesis*")]
