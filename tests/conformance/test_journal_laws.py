"""Laws of the request and of its journal, tried without workers: what is written is what is read, in any pieces."""

import contextlib
import dataclasses
import errno
import json
import math
import os
import re

import pytest

import convspec
from convspec import Case, ConvSpec, RequestError
from convspec.conformance import journal, runner
from convspec.conformance.checks.checks import Outcome
from convspec.conformance.journal import Header, Journal, Request
from convspec.conformance.trials.work_plan import Selection
from convspec.errors import JournalError

CASES = tuple(Case(ConvSpec(3, n, (1, 3)), (2, 3, 5, 7), seed=n % 3, name="☃") for n in range(2, 9))
NAMES = ("convspec_fakes:GOOD", "convspec_fakes:GAP_HOLDS")
LEAST = 256 << 20
OTHERS = {
    "memory": LEAST, "shard": (2, 3), "record": 1, "named": False, "timeout": 1e-9, "origin": {"corpus": ["mine"]},
    "selection": Selection(NAMES[:1], ("NHWC",), ("float16", "float64"), ("cuda",), ("strict",), ("probe",), True),
    "cases": CASES[:1],
}  # fmt: skip


def request(**changes):
    fields = {"cases": CASES, "selection": Selection(NAMES), "named": True, "timeout": 30.0, **changes}
    return Request(**fields)


def through_json(value):
    return json.loads(json.dumps(value))


# -- the request -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, *OTHERS])
def test_a_request_is_read_as_it_was_written(name):
    one = request(**({name: OTHERS[name]} if name else {}))
    again = Request.from_dict(through_json(one.to_dict()), through_json(one.cases_to_dicts()))
    assert again == one
    assert ("record" in one.to_dict()) == (name == "record")


@pytest.mark.parametrize(("name", "value", "words"), [
    ("timeout", 0.0, "timeout=0.0 must be more than 0"), ("timeout", -1.0, "must be more"),
    ("timeout", math.nan, "must be more"), ("memory", LEAST - 1, f"memory={LEAST - 1} must be at least {LEAST} bytes"),
    ("memory", 0, "must be at least"), ("record", -1, "record_limit"), ("record", 0, "record_limit=0 must be more"),
    ("shard", (0, 2), "shard=0/2 must be i/n"), ("shard", (3, 2), "shard=3/2"), ("shard", (1, 0), "shard=1/0"),
    ("selection", Selection(()), "no adapter is given"), ("selection", Selection(NAMES, data=()), "no kind of data"),
    ("selection", Selection(NAMES, precisions=()), "no precision is given"),
])  # fmt: skip
def test_a_request_beyond_a_limit_is_refused(name, value, words):
    with pytest.raises(RequestError, match=re.escape(words)):
        request(**{name: value})


@pytest.mark.parametrize("shard", [(1, 1), (2, 2), (1, 7)])
def test_a_request_at_a_limit_is_none_beyond_it(shard):
    assert request(shard=shard, memory=LEAST, record=1, timeout=1e-300).shard == shard


@pytest.mark.parametrize("field", ["layouts", "dtypes", "precisions", "data"])
def test_what_no_release_knows_is_no_request(field):
    data = request().to_dict() | {field: ["NCHWC"]}
    with pytest.raises(RequestError, match="NCHWC"):
        Request.from_dict(through_json(data), request().cases_to_dicts())


def keys(problems):
    return [unit.key(trial) for problem in problems for unit in problem.units for trial in unit.trials]


@pytest.mark.parametrize("parts", [1, 2, 3, 9])
def test_shards_are_the_run_in_parts(parts):
    shards = [keys(request(shard=(part, parts)).problems()) for part in range(1, parts + 1)]
    whole = keys(request().problems())
    assert sorted(key for shard in shards for key in shard) == sorted(whole)
    assert all(shard == [key for key in whole if key in shard] for shard in shards)
    sizes = [len({index for index, *_ in shard}) for shard in shards]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("shard", [None, (2, 3)])
def test_what_is_left_of_a_run_is_what_is_not_done(shard):
    one = request(shard=shard)
    whole = keys(one.problems())
    for done in (set(), set(whole[:5]), set(whole[::2]), set(whole)):
        assert keys(one.problems(done)) == [key for key in whole if key not in done]
    assert list(one.problems(set(whole))) == []
    assert list(one.asked()) == whole
    assert all(one.cases[key[0]].spec == case.spec for key, case in one.asked().items())


def test_the_limits_are_options_of_the_command():
    assert request(timeout=0.5).limits == ["--timeout", "0.5"]
    assert request(timeout=30.0, memory=LEAST).limits == ["--timeout", "30", "--memory", str(LEAST)]


def test_the_summary_says_what_was_asked_and_no_origin_replaces_it():
    origin = {"corpus": ["mine"], "cases": 99, "adapters": [], "seed": 77}
    found = request(origin=origin, shard=(2, 3)).summary()
    assert found == {"corpus": ["mine"], "cases": 7, "adapters": list(NAMES), "seed": [0, 1, 2], "shard": "2/3"}
    assert request(cases=CASES[:1]).summary() == {"adapters": list(NAMES), "cases": 1, "seed": 2}


@pytest.mark.parametrize("values", [CASES[0], "tutorial", 3, [CASES[0], "tutorial"], None])
def test_what_is_no_list_of_cases_is_refused(values):
    assert journal.require_cases(iter(CASES)) == CASES
    with pytest.raises(RequestError, match="cases must be a list of Case"):
        journal.require_cases(values)


# -- the file ----------------------------------------------------------------------------------------------------------


class Agreeing:
    """A scheduler whose workers agree at once, until ``most`` verdicts."""

    most = math.inf

    def __init__(self, report, absent, **_options):
        self.report, self.absent = report, absent

    def run(self, problems):
        number = 0
        for problem in problems():
            for unit in problem.units:
                for trial in unit.trials:
                    if number < self.most:
                        self.report(unit, Outcome(trial, "native", "", "agree", "", None, {}, 0.5))
                    number += 1

    def seconds_left(self):
        return None


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


@pytest.fixture
def check(monkeypatch, path):
    monkeypatch.setattr(runner, "Scheduler", Agreeing)
    return lambda names=NAMES, **more: convspec.check(CASES, names, ["NCHW"], jobs=1, journal=path, **more)


@pytest.fixture
def header(check, path):
    check()
    found = journal.read(path).header
    path.unlink()
    return found


def lines(path):
    content = path.read_bytes()
    assert content.endswith(b"\n")
    return [json.loads(line) for line in content.splitlines()]


def test_a_header_is_read_as_it_was_written(header):
    again = Header.from_dicts(*through_json(list(header.to_dicts())))
    assert list(again.to_dicts()) == list(header.to_dicts())
    assert (again.request, again.environment, again.absent) == (header.request, header.environment, header.absent)
    assert [len(gaps) for gaps in again.declared.values()] == [0, 1]


@pytest.mark.parametrize("pieces", [1, 7, 1 << 20])
def test_what_is_appended_is_in_the_file_however_little_the_system_takes(header, path, monkeypatch, pieces):
    write = os.write
    monkeypatch.setattr(journal.os, "write", lambda descriptor, data: write(descriptor, bytes(data)[:pieces]))
    entries = [{"resumed": {"environment": {"n": n, "text": "é☃"}}} for n in range(3)]
    one = Journal.create(path, header)
    for entry in entries[:2]:
        one.append(entry)
        assert lines(path)[-1] == entry
    one.close()
    one.close()
    path.write_bytes(path.read_bytes() + b'{"half')
    again, content = Journal.reopen(path)
    assert content.size == path.stat().st_size
    again.append(entries[2])
    again.close()
    assert lines(path) == [*through_json(list(header.to_dicts())), *entries]
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    text = path.read_text("utf-8")
    assert "é☃" in text
    assert all(
        line == json.dumps(json.loads(line), ensure_ascii=False, separators=(",", ":")) for line in text.splitlines()
    )


def test_text_that_utf8_lacks_is_written_with_escapes(header, path):
    one = Journal.create(path, header)
    one.append({"text": "a\udcff"})
    one.close()
    assert path.read_bytes().endswith(b'{"text":"a\\udcff"}\n')


def test_a_journal_is_begun_once_and_has_one_writer(header, path):
    one = Journal.create(path, header)
    with pytest.raises(RequestError, match=f"{path} already exists; resume that run with convspec check --resume"):
        Journal.create(path, header)
    with pytest.raises(RequestError, match="is being written by another run"):
        Journal.reopen(path)
    one.close()
    Journal.reopen(path)[0].close()
    link = path.with_name("link")
    link.symlink_to("nowhere")
    with pytest.raises(RequestError, match="already exists"):
        Journal.create(link, header)
    with pytest.raises(RequestError, match=r"cannot resume .*none: No such file"):
        Journal.reopen(path.with_name("none"))


@pytest.mark.parametrize("fails", ["write", "fsync"])
def test_what_cannot_be_begun_leaves_nothing(header, path, monkeypatch, fails):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journal.os, fails, full)
    with pytest.raises(JournalError, match="No space left on device"):
        Journal.create(path, header)
    assert list(path.parent.iterdir()) == []


def test_a_line_without_room_leaves_the_lines_before(header, path, monkeypatch):
    one = Journal.create(path, header)
    one.append({"ended": {"seconds": 1.0}})
    before, write, calls = path.read_bytes(), os.write, []

    def half(descriptor, data):
        if calls:
            raise OSError(errno.ENOSPC, "No space left on device")
        calls.append(descriptor)
        return write(descriptor, bytes(data)[:5])

    monkeypatch.setattr(journal.os, "write", half)
    words = f"cannot write {path}: No space left on device; once there is room: convspec check --resume {path}"
    with pytest.raises(JournalError, match=re.escape(words)):
        one.append({"ended": {"seconds": 2.0}})
    assert path.read_bytes() == before
    monkeypatch.undo()
    one.append({"ended": {"seconds": 3.0}})
    assert path.read_bytes() == before + b'{"ended":{"seconds":3.0}}\n'
    one.close()


def test_a_power_cut_costs_some_seconds_of_verdicts(header, path, monkeypatch):
    now, synced = [1000.0], []
    monkeypatch.setattr(journal.time, "monotonic", lambda: now[0])
    one = Journal.create(path, header)
    monkeypatch.setattr(journal.os, "fsync", lambda descriptor: synced.append(now[0]))
    for step in (0.0, 4.9, 0.2, 1.0, 3.9, 0.2):
        now[0] += step
        one.append({"at": now[0]})
    assert synced == pytest.approx([1005.1, 1010.2])
    one.close()
    assert len(synced) == 3


@pytest.mark.parametrize(("number", "raises"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_file_system_without_synchronisation_is_no_error(header, path, monkeypatch, number, raises):
    def fails(_):
        raise OSError(number, "no")

    one = Journal.create(path, header)
    one._synced -= 60
    monkeypatch.setattr(journal.os, "fsync", fails)
    with pytest.raises(JournalError) if raises else contextlib.nullcontext():
        one.append({})
    one.close()


def test_descriptor_0_is_one_like_others(path, monkeypatch):
    closed = []
    monkeypatch.setattr(journal.os, "fsync", lambda _: None)
    monkeypatch.setattr(journal.os, "close", closed.append)
    one = Journal(path, 0, 0)
    one.close()
    one.close()
    assert closed == [0]


# -- what a file says --------------------------------------------------------------------------------------------------


def test_notes_of_sessions_add_up_and_the_last_session_counts(header, path):
    one = Journal.create(path, header)
    target = [NAMES[0], "cpu"]
    other = {**header.environment, "processor": "another"}
    for entry in ({"absent": "gone", "target": target}, {"ended": {"seconds": 1.25}}):
        one.append(entry)
    assert journal.read(path).absent == {tuple(target): "gone"}
    assert journal.read(path).environment == header.environment
    for entry in ({"resumed": {"environment": other}}, {"ended": {"seconds": 2.0004}}):
        one.append(entry)
    one.close()
    found = journal.read(path)
    assert (found.absent, found.seconds, found.environment) == ({}, 3.2504, other)
    assert (found.report().environment["seconds"], found.report().environment["processor"]) == (3.25, "another")
    assert found.size == path.stat().st_size


@pytest.mark.parametrize(("line", "words"), [
    (b"{]\n", "it must be JSON"), (b"[1]\n", ""), (b"\xff\n", "it must be JSON"),
    (b'{"absent":"x","target":["another","cpu"]}\n', "target must be an adapter and device of the run"),
    (b'{"absent":"x","target":["convspec_fakes:GOOD","cuda"]}\n', "target must be an adapter and device of the run"),
    (b'{"absent":1,"target":["convspec_fakes:GOOD","cpu"]}\n', "absent must be a string"),
    (b'{"ended":{}}\n', "seconds must be given"), (b"[" * 99_999 + b"\n", "it must be JSON"),
])  # fmt: skip
def test_a_line_that_says_nothing_is_left_out_with_its_number(header, path, line, words):
    Journal.create(path, header).close()
    path.write_bytes(path.read_bytes() + b'{"ended":{"seconds":1.0}}\n' + line + b'{"ended":{"seconds":1.0}}\n')
    found = journal.read(path)
    assert list(found.verdicts.left_out) == [4]
    assert words in found.verdicts.left_out[4]
    assert (found.seconds, found.absent) == (2.0, {})


def test_what_is_missing_of_a_run_is_counted_and_the_gaps_of_a_part_are_not_closed(check, path, monkeypatch):
    report = check()
    total = len(report.results)
    assert report.missing == ()
    assert [result.key for result in report.results] == [result.key for result in journal.read(path).report().results]
    order = {name: place for place, name in enumerate(NAMES)}
    places = [(result.index, order[result.request]) for result in report.results]
    assert places == sorted(places)
    assert {tally.whole for tally in report.gaps} == {True}
    path.unlink()
    monkeypatch.setattr(Agreeing, "most", 9)
    part = check()
    assert part.missing == (f"{total - 9} of {total} verdicts were not reached",)
    assert {tally.whole for tally in part.gaps} == {False}
    path.unlink()
    monkeypatch.setattr(Agreeing, "most", math.inf)
    shard = check(shard=(1, 2))
    assert shard.missing == ()
    assert {tally.whole for tally in shard.gaps} == {False}
    assert shard.environment["shard"] == "1/2"


@pytest.mark.parametrize(("device", "name"), [("cpu", NAMES[0]), ("cuda", f"{NAMES[0]} on cuda")])
def test_verdicts_of_an_absent_target_are_not_missing(check, header, path, device, name):
    cases = tuple(case.varied(device=device) for case in CASES)
    one = Journal.create(
        path, dataclasses.replace(header, request=request(cases=cases, selection=Selection(NAMES, ("NCHW",))))
    )
    one.append({"absent": "none here", "target": [NAMES[0], device]})
    one.close()
    report = journal.read(path).report()
    assert report.absent == {name: "none here"}
    assert report.missing == (f"{2 * len(CASES)} of {2 * len(CASES)} verdicts were not reached",)


def test_what_is_no_header_is_refused(header, path):
    head, second = header.to_dicts()
    for changes in ({"schema": "convspec.run/0"}, {"request": None}, {"environment": []}, {"gaps": {"a": [{}]}}):
        path.write_text(json.dumps({**head, **changes}) + "\n" + json.dumps(second) + "\n")
        with pytest.raises(RequestError, match=f"{path} is not a convspec journal"):
            journal.read(path)
    path.write_text(
        json.dumps({**head, "environment": {**head["environment"], "versions": 3}}) + "\n" + json.dumps(second) + "\n"
    )
    with pytest.raises(RequestError, match="versions must be an object"):
        journal.read(path)
