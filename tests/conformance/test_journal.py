"""The journal: what is reached is kept, and a run that was cut short goes on without losing or repeating anything."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

import convspec
from convspec import Case, ConvSpec, JournalError, RequestError
from convspec.conformance import environment, journal
from convspec.conformance.results import Report
from convspec.contract import registry

CASES = [Case(ConvSpec(3, n, (1, 3), stride=(2, 1)), (2, 3, 5, 7), seed=n, name=f"case {n}") for n in range(2, 12)]
NAMES = ["convspec_fakes:GOOD", "convspec_fakes:GAP_HOLDS"]


def plain(report: Report):
    """The report without what differs from run to run."""
    found = report.to_dict()
    for key in ("seconds", "jobs"):
        found["environment"].pop(key)
    for result in found["results"]:
        result.pop("seconds")
    return found


def lines(path: Path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def keys(path: Path):
    return [
        (e["case"], e["request"], e["layout"], e["data"], e["direction"], e["dtype"])
        for e in lines(path)
        if "verdict" in e
    ]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "run.jsonl"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A journal of a finished run, and its report."""
    path = tmp_path_factory.mktemp("whole") / "run.jsonl"
    return path, convspec.check(CASES, NAMES, journal=path, origin={"corpus": ["mine"]})


def cut(whole, file, size):
    """A copy of the journal that ends after so many bytes."""
    shutil.copy(whole[0], file)
    if size is not None:
        os.truncate(file, size)
    return file


def test_every_verdict_is_a_line_as_it_is_reached(file):
    seen = []

    def look(progress):
        seen.append((progress.done, len(keys(file))))

    convspec.check(CASES[:3], NAMES[:1], journal=file, progress=look)
    assert seen == [(n, n) for n in range(1, 13)]


def test_the_lines_fit_the_schema(whole):
    validator = jsonschema.Draft202012Validator(journal.json_schema())
    found = lines(whole[0])
    for line in found:
        validator.validate(line)
    assert [next(iter(line)) for line in (found[0], found[1], found[-1])] == ["schema", "cases", "ended"]
    assert not validator.is_valid({**found[2], "verdict": "maybe"})
    assert not validator.is_valid({key: found[2][key] for key in found[2] if key != "evidence"})


def test_the_journal_gives_the_report_that_the_run_gave(whole):
    path, report = whole
    assert journal.read(path).report().to_dict() == report.to_dict()
    assert report.environment["corpus"] == ["mine"]
    assert [tally.status for tally in report.gaps] == ["holds"]


def test_a_file_that_is_there_is_not_written_over(whole):
    before = whole[0].read_bytes()
    with pytest.raises(
        RequestError, match=r"already exists; resume that run with convspec check --resume .*run\.jsonl"
    ):
        convspec.check(CASES, NAMES, journal=whole[0])
    assert whole[0].read_bytes() == before


def test_a_journal_that_cannot_be_begun_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(JournalError, match=r"cannot write .*No such file"):
        convspec.check(CASES, NAMES, journal=tmp_path / "none" / "run.jsonl")
    with pytest.raises(RequestError, match="not installed"):
        convspec.check(CASES, ["convspec_fakes:ABSENT"], journal=tmp_path / "run.jsonl")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", [0, 1, 7, -1])
def test_a_run_goes_on_after_any_byte(whole, file, where):
    """Cut off at the end of the opening, within a line, and after lines: nothing is lost, nothing is repeated."""
    text = whole[0].read_bytes()
    opening = text.index(b"\n", text.index(b"\n") + 1) + 1
    size = {0: opening, 1: opening + 40, 7: len(text) // 2, -1: len(text) - 1}[where]
    cut(whole, file, size)
    known = keys_of_bytes(text[:size])
    report = convspec.resume(file)
    assert plain(report) == plain(whole[1])
    found = keys(file)
    assert len(found) == len(set(found)) == 80
    assert found[: len(known)] == known
    assert plain(journal.read(file).report()) == plain(report)


def keys_of_bytes(text):
    whole_lines = text[: text.rindex(b"\n") + 1].splitlines()
    entries = [json.loads(line) for line in whole_lines]
    names = ("case", "request", "layout", "data", "direction", "dtype")
    return [tuple(e[name] for name in names) for e in entries if "verdict" in e]


def test_what_a_power_cut_spoilt_is_checked_again(whole, file):
    text = whole[0].read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*text[:20], b"\0" * 300 + text[20][300:], *text[21:40]]))
    note = "left out: line 21: it must be JSON: a power cut or an edit has damaged it"
    assert journal.read(file).report().notes == (note,)
    assert plain(convspec.resume(file)) == {**plain(whole[1]), "notes": [note]}


def test_a_finished_run_has_nothing_to_go_on_with(whole, file):
    cut(whole, file, None)
    assert plain(convspec.resume(file)) == plain(whole[1])
    assert len(keys(file)) == 80


def test_a_report_of_an_unfinished_run_says_so(whole, file):
    text = whole[0].read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(text[:32]))
    report = journal.read(file).report()
    assert report.missing == ("50 of 80 verdicts were not reached",)
    assert report.to_dict()["missing"] == list(report.missing)


def test_other_versions_are_refused(whole, file, monkeypatch):
    cut(whole, file, whole[0].stat().st_size // 2)
    before = file.read_bytes()
    real = environment.environment
    monkeypatch.setattr(environment, "environment", lambda: {**real(), "versions": {"numpy": "1.0"}})
    with pytest.raises(RequestError, match=r"started with numpy .*, now 1\.0\. .*convspec report diff OLD NEW"):
        convspec.resume(file)
    assert file.read_bytes() == before[: before.rindex(b"\n") + 1]


def test_two_runs_cannot_write_one_journal(whole, file):
    cut(whole, file, None)
    with file.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RequestError, match="is being written by another run"):
            convspec.resume(file)
    with pytest.raises(RequestError, match="No such file"):
        convspec.resume(file.with_name("other.jsonl"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is not a convspec journal"),
        (b"{}\n{}\n", "it has schema 'None'"),
        (b'{"schema": "convspec.run/2"}\n{}\n', "it has schema 'convspec.run/2', expected 'convspec.run/1'"),
        (b'{"schema": "convspec.run/1"}\n{"cases": []}\n', "is not a convspec journal"),
        (b"[" * 100_000 + b"\n\n", "is not a convspec journal"),
        (b"\xff\xfe\n\n", "is not a convspec journal"),
    ],
)
def test_what_is_no_journal_is_refused(file, text, words):
    file.write_bytes(text)
    with pytest.raises(RequestError, match=words):
        convspec.resume(file)
    assert file.read_bytes() == text


def test_an_absent_device_is_kept_in_the_journal(file, monkeypatch):
    monkeypatch.setattr(registry, "adapters", lambda: ("convspec_fakes:GOOD", "convspec_fakes:ABSENT"))
    report = convspec.check(CASES[:2], journal=file)
    assert set(report.absent) == {"convspec_fakes:ABSENT"}
    assert journal.read(file).report().to_dict() == report.to_dict()
    assert convspec.resume(file).absent == report.absent


# -- shards ----------------------------------------------------------------------------------------------------------


def test_shards_have_every_case_once():
    reports = [convspec.check(CASES, NAMES[:1], shard=(i, 3), layouts=["NCHW"], data=["exact"]) for i in (1, 2, 3)]
    assert [[r.index for r in report.results] for report in reports] == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]
    assert {report.environment["shard"] for report in reports} == {"1/3", "2/3", "3/3"}
    assert convspec.check(CASES[:1], NAMES[:1], shard=(2, 2)).results == ()


@pytest.mark.parametrize("shard", [(0, 2), (3, 2), (1, 0)])
def test_impossible_shards_are_refused(shard):
    with pytest.raises(RequestError, match="must be i/n"):
        convspec.check(CASES, NAMES, shard=shard)


# -- a full disk -----------------------------------------------------------------------------------------------------

SCRIPT = """
import sys
import convspec
from convspec import Case, ConvSpec, JournalError
cases = [Case(ConvSpec(3, n, (1, 3), stride=(2, 1)), (2, 3, 5, 7), seed=n, name=f"case {n}") for n in range(2, 12)]
try:
    convspec.check(cases, ["convspec_fakes:GOOD", "convspec_fakes:GAP_HOLDS"], journal=sys.argv[1],
                   origin={"corpus": ["mine"]})
except JournalError as error:
    print(error)
"""


def test_a_file_that_may_not_grow_ends_the_run_and_loses_nothing(whole, file):
    limit = whole[0].stat().st_size * 2 // 3
    small = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
    done = subprocess.run(
        [sys.executable, "-c", small + SCRIPT, str(file)], capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert "File too large; once there is room: convspec check --resume" in done.stdout
    assert file.read_bytes().endswith(b"}\n")
    assert 0 < len(keys(file)) < 80
    assert plain(convspec.resume(file)) == plain(whole[1])
    assert len(set(keys(file))) == len(keys(file)) == 80


def test_a_full_disk_ends_the_run_and_loses_nothing(whole, tmp_path):
    """A real file system of 40 KiB, in a mount namespace of its own; what is in it is copied out at the end."""
    place, kept = tmp_path / "small", tmp_path / "kept.jsonl"
    place.mkdir()
    program = (
        f"mount -t tmpfs -o size=40k none {place} || exit 77\n"
        f'{sys.executable} -c "$SCRIPT" {place}/run.jsonl; cp {place}/run.jsonl {kept}'
    )
    try:
        done = subprocess.run(
            ["unshare", "-Urm", "sh", "-c", program], capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "SCRIPT": SCRIPT, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if not kept.exists():
        pytest.skip(f"no file system may be mounted here: {done.stderr}")
    assert "No space left on device; once there is room: convspec check --resume" in done.stdout
    assert 0 < len(keys(kept)) < 80
    assert plain(convspec.resume(kept)) == plain(whole[1])
    assert len(set(keys(kept))) == len(keys(kept)) == 80
