"""Saved runs that were damaged, repeated or edited: each line is a verdict that was asked, once, or it is left out."""

import dataclasses
import io
import json
import math
from collections import Counter
from typing import ClassVar

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

import convspec
from convspec import Case, ConvSpec, RequestError
from convspec.cli.console import dumps
from convspec.cli.reports import run_files, run_terminal
from convspec.cli.reports.diff import Difference
from convspec.cli.reports.load import from_dict, load, merge
from convspec.conformance import journal, runner
from convspec.conformance.checks.checks import Outcome
from convspec.conformance.fuzzing.failures import FailureFile
from convspec.conformance.json_rules import JsonRules
from convspec.conformance.results import report_rules

CASES = [
    Case(ConvSpec(3, 5, (1, 3), stride=(2, 1)), (2, 3, 5, 7), seed=2, name="odd"),
    Case(ConvSpec(2, 4, (3, 2), stride=2, padding="same", bias=False), (1, 2, 4, 6), seed=3),
]
NAMES = ["convspec_fakes:SAME_LOWER", "convspec_fakes:GAP_OF_HALVES"]
IDENTITY = ("index", "request", "dtype", "device", "precision", "layout", "data", "direction")


class Whole(tuple):
    """Lines and report of a run, without the long text that Hypothesis would print."""

    __slots__ = ()

    def __repr__(self):
        return "whole"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The lines of a finished run with every kind of verdict line, and its report."""
    path = tmp_path_factory.mktemp("whole") / "run.jsonl"
    options = {"layouts": ["NCHW"], "data": ["exact", "random", "probe", "adjoint"], "gradients": True, "jobs": 1}
    report = convspec.check(CASES, NAMES, journal=path, **options)
    assert {key for r in report.results for key in r.evidence} >= {"index", "location", "findings", "runs"}
    return Whole((path.read_bytes().splitlines(keepends=True), report))


@pytest.fixture
def file(tmp_path):
    return tmp_path / "run.jsonl"


def write(file, lines):
    file.write_bytes(b"".join(line if isinstance(line, bytes) else encode(line) for line in lines))
    return file


def encode(entry):
    """One line of JSON; 1e400, which Python cannot write, is a number in the file."""
    return json.dumps(entry).replace('"1e400"', "1e400").encode() + b"\n"


def edited(line, **changes):
    """A verdict line with other values, and the case's id that belongs to them unless it is among them."""
    entry = {**json.loads(line), **changes}
    if {"spec", "input_shape", "seed"} & changes.keys() and "case" not in changes:
        spec = ConvSpec.from_dict(entry["spec"])
        entry["case"] = Case(spec, tuple(entry["input_shape"]), seed=entry["seed"]).id
    return entry


class Idle:
    """A scheduler that judges nothing: a resumed run then shows what it would have run."""

    asked: ClassVar = []

    def __init__(self, *_args, **_options):
        self.asked.clear()

    def run(self, problems):
        self.asked += [
            (u.index, u.target.request, t.layout, t.data) for p in problems() for u in p.units for t in u.trials
        ]

    def seconds_left(self):
        return None


class Agreeing(Idle):
    """A scheduler whose workers agree at once."""

    def __init__(self, report, absent, **_options):
        self.report = report

    def run(self, problems):
        for unit in (unit for problem in problems() for unit in problem.units):
            for trial in unit.trials:
                self.report(unit, Outcome(trial, "native", "", "agree", "", None, {}, 0.5))


# -- one line that breaks a rule ---------------------------------------------------------------------------------------

BROKEN = {
    "Infinity": ({"index": math.inf}, "index must be a whole number, but is Infinity"),
    "NaN": ({"seed": math.nan}, "seed must be a whole number, but is NaN"),
    "beyond float64": ({"seed": "1e400"}, "seed must be a whole number, but is Infinity"),
    "a whole number beyond": ({"seed": 10**400}, "seed must be a finite number, but is 1000000"),
    "a fraction": ({"index": 1.0}, "index must be a whole number, but is 1.0"),
    "a truth value": ({"index": True}, "index must be a whole number, but is true"),
    "negative": ({"index": -1}, "index must be at least 0, but is -1"),
    "a case too many": ({"index": 2}, "the run did not ask for case 2 by 'convspec_fakes:SAME_LOWER'"),
    "text for a shape": ({"input_shape": "zz", "case": "0" * 12}, 'input_shape must be a list, but is "zz"'),
    "a size": ({"input_shape": [2, 3, -5, 7], "case": "0" * 12}, "input_shape[2] must be at least 0, but is -5"),
    "nested lists": ({"class": [[]]}, "class must be a string or null, but is [[]]"),
    "a verdict": ({"verdict": "maybe"}, 'verdict must be one of agree, disagree, unsupported, error, crash, timeout'),
    "null": ({"layout": None}, "layout must be one of NCHW, NHWC, but is null"),
    "seconds": ({"seconds": "long"}, 'seconds must be a number, but is "long"'),
    "negative seconds": ({"seconds": -0.5}, "seconds must be at least 0, but is -0.5"),
    "evidence": ({"evidence": [1]}, "evidence must be an object, but is [1]"),
    "within evidence": ({"evidence": {"index": [0, "a"]}}, 'evidence.index[1] must be a whole number, but is "a"'),
    "NaN within evidence": ({"evidence": {"x": [{"y": math.nan}]}}, "evidence.x[0].y must be a finite number"),
    "a strange key": ({"strange key": 1}, '["strange key"] must not be given: there is no such entry'),
    "another spec": ({"spec": {**CASES[0].spec.to_dict(), "stride": [1, 1]}}, "case 0 of the run is "),
    "another seed": ({"seed": 7}, "case 0 of the run is "),
    "another id": ({"case": "0" * 12}, "which spec, input shape and seed give, but is 000000000000"),
    "no layer": ({"spec": {"kernel_size": 3}, "case": "0" * 12}, "in_channels must be given"),
    "another adapter": ({"request": "torch"}, "the run did not ask for case 0 by 'torch'"),
    "another layout": ({"layout": "NHWC"}, "the run did not ask for case 0"),
    "data": ({"data": "cancellation"}, "the run did not ask for case 0"),
    "unknown data": ({"data": "mine"}, "data must be one of exact, random"),
    "precision": ({"precision": "strict"}, "the run did not ask for case 0"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_line_that_breaks_a_rule_is_told_and_left_out(whole, file, kind):
    changes, words = BROKEN[kind]
    lines, report = whole
    write(file, [*lines[:2], edited(lines[2], **changes), *lines[3:]])
    read = load(file)
    assert [note.startswith("run.jsonl: left out: line 3: ") for note in read.notes] == [True]
    assert words in read.notes[0]
    assert len(read.results) == len(report.results) - 1
    assert read.missing == (f"1 of {len(report.results)} verdicts were not reached",)


def test_every_rule_has_an_entry_that_must_be_given(whole, file):
    lines, _ = whole
    keys = [*json.loads(lines[2])]
    short = [{k: v for k, v in json.loads(lines[2]).items() if k != key} for key in keys]
    write(file, [*lines[:2], *short])
    left_out = journal.read(file).verdicts.left_out
    assert left_out == {number: f"{key} must be given" for number, key in enumerate(keys, 3)}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"\xff\xfe{}\n", "it must be JSON"),
        (b"[" * 100_000 + b"\n", "it must be JSON"),
        (b"[1, 2]\n", "it must be an object, but is [1, 2]"),
        (b'{"absent": "gone", "target": ["torch", "cpu"]}\n', "target must be an adapter and device of the run"),
        (b'{"absent": 3, "target": ["convspec_fakes:SAME_LOWER", "cpu"]}\n', "absent must be a string, but is 3"),
        (b'{"absent": "gone", "target": 3}\n', "target must be a list, but is 3"),
        (b'{"ended": {"seconds": 1e400}}\n', "ended.seconds must be a finite number, but is Infinity"),
        (b'{"ended": 3}\n', "ended must be an object, but is 3"),
        (b'{"resumed": {"environment": {"versions": []}}}\n', "resumed.environment.convspec must be given"),
        (b'{"schema": "convspec.run/1"}\n', "case must be given"),
        (b'{"case": ' + b"[" * 70 + b"]" * 70 + b"}\n", "index must be given"),
        (b'{"ended": {"seconds": 1, "x": ' + b"[" * 70 + b"]" * 70 + b"}}\n", "must have at most 64 levels"),
    ],
)  # fmt: skip
def test_other_lines_have_rules_too(whole, file, line, words):
    lines, report = whole
    read = load(write(file, [*lines, line]))
    assert [f"left out: line {len(lines) + 1}: " in note for note in read.notes] == [True]
    assert words in read.notes[0]
    assert (read.summary, read.missing, read.absent) == (report.summary, (), {})


def test_many_damaged_lines_are_counted(whole, file):
    read = load(write(file, [*whole[0], *[b"{}\n"] * 50]))
    assert len(read.notes) == 21
    assert read.notes[-1] == "run.jsonl: left out: 30 more lines"


# -- lines that repeat or contradict another one -----------------------------------------------------------------------


def test_a_repeated_verdict_counts_once_and_is_told(whole, file, monkeypatch):
    lines, report = whole
    slower = edited(lines[3], seconds=9.0)
    write(file, [*lines, *lines[2:6], slower])
    read = load(file)
    at = len(lines)
    numbers = ", ".join(f"line {n}" for n in range(at + 1, at + 6))
    assert read.notes == (f"run.jsonl: counted once: 5 repeated verdicts: {numbers}",)
    assert (read.summary, read.missing) == (report.summary, ())
    assert [r.seconds for r in read.results] == [r.seconds for r in report.results]
    monkeypatch.setattr(runner, "Scheduler", Idle)
    resumed = convspec.resume(file)
    assert (resumed.summary, resumed.missing, Idle.asked) == (report.summary, (), [])


def contradicted(whole, file, **changes):
    lines, _ = whole
    return write(file, [*lines, edited(lines[2], **{"verdict": "crash", "reason": "no", **changes})])


def test_contradicting_verdicts_are_named_and_neither_counts(whole, file):
    lines, report = whole
    read = load(contradicted(whole, file))
    assert len(read.results) == len(report.results)
    wrong = [result for result in read.results if result.reason.startswith("contradicting verdicts")]
    assert [(r.verdict, r.unexpected, r.index, r.case.data) for r in wrong] == [("error", True, 0, "exact")]
    assert wrong[0].reason == (f"contradicting verdicts: line 3: agree, line {len(lines) + 1}: crash; neither counts")
    assert read.missing == ()
    assert len(read.unexpected) == len(report.unexpected) + 1
    assert Difference(report, read).verdicts[0][1].reason == wrong[0].reason


def test_the_same_verdict_with_other_numbers_is_a_contradiction(whole, file):
    read = load(contradicted(whole, file, verdict="agree", reason="", evidence={"worst_q": 0.5}))
    assert any(r.reason.startswith("contradicting verdicts with other facts: line 3: agree") for r in read.results)


def test_a_third_line_does_not_settle_a_contradiction(whole, file):
    lines, _ = whole
    contradicted(whole, file)
    with file.open("ab") as more:
        more.write(lines[2])
    at = len(lines)
    assert [r.reason for r in load(file).results if "contradicting" in r.reason] == [
        f"contradicting verdicts: line 3: agree, line {at + 1}: crash, line {at + 2}: agree; neither counts"
    ]


def test_a_resumed_run_settles_a_contradiction_and_only_that(whole, file, monkeypatch):
    lines, report = whole
    contradicted(whole, file)
    monkeypatch.setattr(runner, "Scheduler", Agreeing)
    resumed = convspec.resume(file)
    assert len(resumed.results) == len(report.results)
    assert (resumed.summary, resumed.missing) == (report.summary, ())
    note = f"contradicting verdicts: line 3: agree, line {len(lines) + 1}: crash; a later session ran the case again"
    assert resumed.notes == (note,)
    again = journal.read(file)
    assert (again.report().summary, again.report().notes) == (report.summary, (note,))
    new = [json.loads(line) for line in file.read_bytes().splitlines()[len(lines) + 1 :]]
    assert [next(iter(entry)) for entry in new] == ["resumed", "case", "ended"]
    file.write_bytes(file.read_bytes() + lines[3].replace(b'"agree"', b'"error"'))
    assert sum("contradicting" in r.reason for r in load(file).results) == 1


def test_what_a_run_did_not_ask_for_is_run_again(whole, file, monkeypatch):
    """Cases in another order under the same indices: no verdict is taken for another case's."""
    lines, report = whole
    asked = json.loads(lines[1])
    write(file, [lines[0], {"cases": asked["cases"][::-1]}, *lines[2:]])
    read = load(file)
    assert (len(read.results), len(read.missing)) == (0, 1)
    assert all(" of the run is " in note or "did not ask" in note for note in read.notes[:20])
    monkeypatch.setattr(runner, "Scheduler", Agreeing)
    resumed = convspec.resume(file)
    assert [(r.index, r.case.seed) for r in resumed.results] == sorted((r.index, 3 - r.index) for r in resumed.results)
    assert len(resumed.results) == len(report.results)


def test_a_document_is_read_by_the_same_rules(whole):
    document = json.loads(dumps(whole[1].to_dict()))
    first = document["results"][0]
    repeated = from_dict({**document, "results": [*document["results"], first]})
    assert repeated.summary == whole[1].summary
    assert repeated.notes == (f"counted once: 1 repeated verdicts: results[{len(document['results'])}]",)
    assert from_dict(json.loads(dumps(repeated.to_dict()))).notes == repeated.notes
    other = from_dict({**document, "results": [*document["results"], {**first, "verdict": "crash"}]})
    reasons = [r.reason for r in other.unexpected if hasattr(r, "reason")]
    assert (
        f"contradicting verdicts: results[0]: agree, results[{len(document['results'])}]: crash; neither counts"
        in reasons
    )
    with pytest.raises(ValueError, match=r"results\[0\]\.index must be a whole number, but is Infinity"):
        from_dict({**document, "results": [{**first, "index": math.inf}]})
    with pytest.raises(ValueError, match=r"results\[0\]: case must be"):
        from_dict({**document, "results": [{**first, "seed": 99}]})


def test_notes_are_in_every_form_and_in_merged_and_compared_runs(whole, file):
    lines, report = whole
    read = load(write(file, [*lines, b"{}\n"]))
    (note,) = read.notes
    out = io.StringIO()
    run_terminal.show(read, Console(file=out, width=200))
    for text in (out.getvalue(), run_files.markdown(read).replace("&#58;", ":"), run_files.page(read), str(read)):
        assert "left out: line" in text
    assert merge([read]).notes == (note,)
    assert f"note new: {note}" in [*Difference(report, read).lines()]
    assert "notes" not in report.to_dict()
    report_rules().problem(read.to_dict())


def test_a_journal_has_one_writer(whole, file):
    """Two runs of one process, so that a lock that several may hold does not pass."""
    write(file, whole[0][:4])
    first, _ = journal.Journal.reopen(file)
    try:
        with pytest.raises(RequestError, match="is being written by another run"):
            journal.Journal.reopen(file)
        assert len(journal.read(file).results) == 2  # reading needs no lock
    finally:
        first.close()
    journal.Journal.reopen(file)[0].close()
    header = journal.read(file).header
    new = journal.Journal.create(file.with_name("new.jsonl"), header)
    try:
        with pytest.raises(RequestError, match="is being written by another run"):
            journal.Journal.reopen(new.path)
    finally:
        new.close()


@pytest.mark.parametrize("name", ["requests", "precisions", "data"])
def test_a_run_that_asks_for_nothing_is_no_run(whole, file, name):
    head = json.loads(whole[0][0])
    write(file, [{**head, "request": {**head["request"], name: []}}, *whole[0][1:]])
    with pytest.raises(RequestError, match=r"is not a convspec journal .*there is nothing to check: no "):
        load(file)
    if name != "requests":
        with pytest.raises(RequestError, match="there is nothing to check: no "):
            convspec.check(CASES, NAMES, **{name: []})


def test_missing_shards_are_named_up_to_a_number(whole):
    report = whole[1]
    shard = convspec.conformance.Report({**report.environment, "shard": "2/999999999"}, report.results)
    missing = merge([shard]).missing
    assert missing[0] == "shard 1/999999999 is missing"
    assert missing[-1] == "999999978 more shards are missing"
    assert len(missing) == 21


def test_a_file_of_failures_is_read_by_the_same_rules(whole, tmp_path):
    path = tmp_path / "failures.jsonl"
    path.write_bytes(whole[0][2] + encode(edited(whole[0][3], index=math.inf)))
    with pytest.raises(RequestError, match=r"line 2 is not a failure: index must be a whole number, but is Infinity"):
        FailureFile(path)


# -- any change of any line --------------------------------------------------------------------------------------------

HOSTILE = [
    math.inf, -math.inf, math.nan, "1e400", 10**400, -1, 0, 2**64, 1.5, True, None, "", "zz", "\ud800", "\x1b[2J", [],
    [[]], {}, {"a": {"b": [1]}}, [1, "a"], ["NCHW"], "NHWC", "float64", "random", "input", "error", "x" * 3000,
]  # fmt: skip


def paths(value, prefix=()):
    """Every place within a JSON value."""
    yield prefix
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in pairs:
        yield from paths(entry, (*prefix, key))


def changed(value, path, new):
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1 and new is DELETED:
        del copy[path[0]]
    else:
        copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


DELETED = object()


@dataclasses.dataclass(frozen=True)
class Change:
    """A change of one line of a file, or of one value within it."""

    kind: str
    line: int
    place: int
    new: object
    extra: bytes

    def applied(self, lines):
        """The lines with the change, and the number of the changed line (from 1)."""
        number = 1 + self.line % len(lines)
        line, before, after = lines[number - 1], lines[: number - 1], lines[number:]
        if self.kind == "bytes":
            at = self.place % len(line)
            new = [line[:at] + self.extra + line[at + len(self.extra) // 2 :]]
        elif self.kind in ("repeat", "drop"):
            new = [line] * (2 * (self.kind == "repeat"))
        else:
            new = [encode(self.within(json.loads(line)))]
        return [*before, *new, *after], number

    def within(self, value):
        """A JSON value with one value within it replaced or deleted."""
        places = [path for path in paths(value) if path]
        return changed(value, places[self.place % len(places)], DELETED if self.kind == "delete" else self.new)


CHANGES = st.builds(
    Change, st.sampled_from(["value", "value", "value", "delete", "bytes", "repeat", "drop"]),
    st.one_of(st.integers(0, 1), st.integers(2, 500)), st.integers(0, 10_000), st.sampled_from(HOSTILE),
    st.binary(max_size=4),
)  # fmt: skip
often = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def show_in_every_form(report):
    run_terminal.show(report, Console(file=io.StringIO(), width=120))
    for form in (run_files.page, run_files.markdown, run_files.junit, str):
        form(report)
    document = json.loads(dumps(report.to_dict()))
    assert from_dict(document).summary == report.summary
    [*Difference(report, report).lines()]


def is_note(line):
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(entry, dict) and bool({"absent", "ended", "resumed"} & entry.keys())


def keys_of(lines):
    entries = [json.loads(line) for line in lines]
    return {tuple(entry[name] for name in IDENTITY) for entry in entries if "verdict" in entry}


@often
@given(change=CHANGES)
def test_no_change_of_a_journal_breaks_a_reader(whole, tmp_path_factory, change):
    file = tmp_path_factory.mktemp("fuzz") / "run.jsonl"
    lines, number = change.applied(whole[0])
    write(file, lines)
    try:
        content = journal.read(file)
    except RequestError:
        if number > 2:  # only the first two lines make a journal
            raise
        return
    report, results, verdicts = content.report(), content.results, content.verdicts
    contradictions = [*verdicts.contradictions()]
    asked = len(verdicts.asked)
    reached = {result.key for result in (*results, *contradictions)}
    assert len(reached) == len(results) + len(contradictions) <= asked
    assert reached <= verdicts.asked.keys()
    complete = file.read_bytes().split(b"\n")[2:-1]  # what follows the last line break is half-written
    notes = sum(is_note(line) and n not in verdicts.left_out for n, line in enumerate(complete, 3))
    named = sum(result.reason.count("line ") for result in contradictions)
    assert len(results) + len(verdicts.left_out) + len(verdicts.repeated) + named + notes == len(complete)
    if not content.absent:
        left = asked - len(reached)
        assert report.missing == ((f"{left} of {asked} verdicts were not reached",) if left else ())
    assert sum(Counter(r.verdict for r in report.results).values()) == len(reached)
    if number > 2:
        assert keys_of(whole[0][2 : number - 1] + whole[0][number:]) <= reached
        assert len(contradictions) <= 1
    show_in_every_form(report)


@settings(often, max_examples=60)
@given(change=CHANGES)
def test_no_change_of_a_journal_breaks_a_resumed_run(whole, tmp_path_factory, change):
    file = tmp_path_factory.mktemp("fuzz") / "run.jsonl"
    lines, number = change.applied(whole[0])
    write(file, lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "Scheduler", Agreeing)
        try:
            report = convspec.resume(file)
        except RequestError:
            if number > 2:
                raise
            return
    again = journal.read(file)
    assert len(report.results) == len(again.results) == len(again.verdicts.asked)
    assert report.missing == again.report().missing == ()
    assert not [*again.verdicts.contradictions()]


@settings(often, max_examples=100)
@given(change=CHANGES)
def test_no_change_of_a_document_breaks_a_reader(whole, change):
    document = json.loads(dumps(whole[1].to_dict()))
    document["results"] = document["results"][:3]
    broken = json.loads(encode(change.within(document)))
    try:
        report = from_dict(broken)
    except ValueError:
        return
    show_in_every_form(report)


@settings(often, max_examples=200)
@given(change=CHANGES)
def test_the_rules_are_those_of_json_schema_and_stricter(whole, change):
    schema, rules = journal.json_schema(), JsonRules(journal.json_schema())
    lines, number = change.applied(whole[0])
    kind = {1: "opening", 2: "cases", len(whole[0]): "ended"}.get(number, "result")
    try:
        entry = json.loads(lines[min(number, len(lines)) - 1])
    except (ValueError, RecursionError):
        return
    fits = jsonschema.Draft202012Validator({**schema["$defs"][kind], "$defs": schema["$defs"]}).is_valid(entry)
    problem = rules.problem(entry, kind)
    assert fits or problem is not None
    assert fits == (problem is None) or any(words in problem for words in ("finite", "whole number", "levels"))


def test_a_schema_with_an_unknown_keyword_is_refused():
    with pytest.raises(ValueError, match="unknown keyword in a schema: maxLength"):
        JsonRules({"properties": {"a": {"maxLength": 3}}}).problem({})
