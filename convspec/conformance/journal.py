"""The request of a run, and its journal: every verdict on disk at once, so that an interrupted run can be resumed.

A file of JSON Lines, schema ``convspec.run/1``. The first line has the request, the environment and the declared
gaps, the second the cases; both are written before the file gets its name. Each further line is a verdict, as in a
report, or one of ``{"absent": …}``, ``{"resumed": …}`` and ``{"ended": …}``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from convspec.conformance import environment, gap_ledger
from convspec.conformance.compressed_list import CompressedList
from convspec.conformance.json_rules import JsonRules
from convspec.conformance.records import array_files
from convspec.conformance.records.recording import Recording, plan_replay
from convspec.conformance.results import Report, Result, report_rules, sort_results
from convspec.conformance.saved_verdicts import SavedVerdicts
from convspec.conformance.trials.work_plan import ASKED, PRECISIONS, Key, Problem, RecordFolder, Selection
from convspec.contract import known_gaps
from convspec.corpora import Case
from convspec.errors import ConvspecError, JournalError, RequestError
from convspec.spec import DTYPES, LAYOUTS

_LEAST_MEMORY = 256 << 20
SCHEMA = "convspec.run/1"
_SYNC = 5.0  # seconds of a run that a power cut may cost
_SHOWN = 200
_NOTES = ("absent", "ended", "resumed")


@dataclass(frozen=True, slots=True)
class Request:
    """The cases of a run, the selection of trials, and the limits.

    Attributes:
        named: whether the request names its adapters, so that all of them must be installed.
        timeout: seconds for one build and run.
        memory: bytes per worker, None for no limit.
        shard: ``(i, n)``: only every n-th case, from the i-th on (the first is 1).
        origin: where the cases come from, for readers of the report.
        record: limit in bytes of the recorded arrays; None where nothing is recorded.
        recordings: the recorded results that a replay compares with; empty otherwise.
    """

    cases: tuple[Case, ...]
    selection: Selection
    named: bool
    timeout: float
    memory: int | None = None
    shard: tuple[int, int] | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    record: int | None = None
    recordings: tuple[Recording, ...] = ()

    def __post_init__(self) -> None:
        for name, kind in {"requests": "adapter", "precisions": "precision", "data": "kind of data"}.items():
            if not (self.recordings or getattr(self.selection, name)):
                raise RequestError(f"there is nothing to check: no {kind} is given")
        if not self.timeout > 0:
            raise RequestError(f"timeout={self.timeout} must be more than 0 seconds")
        if self.memory is not None and self.memory < _LEAST_MEMORY:
            raise RequestError(
                f"memory={self.memory} must be at least {_LEAST_MEMORY} bytes: a framework alone needs that much"
            )
        if self.record is not None and self.record <= 0:
            raise RequestError(f"record_limit={self.record} must be more than 0 bytes")
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise RequestError(f"shard={self.shard[0]}/{self.shard[1]} must be i/n with i from 1 to n")

    def problems(self, done: Set[Key] = frozenset(), record: RecordFolder | None = None) -> Iterator[Problem]:
        """Yield the work of this run or shard, without the results in ``done``."""
        part, parts = self.shard or (1, 1)
        replayed = plan_replay(self.recordings, self.selection)
        for problem in replayed if self.recordings else self.selection.problems(self.cases):
            if problem.units[0].index % parts == part - 1:
                left = problem.without(done) if done else problem
                if left.units:
                    yield left if record is None else left.recorded(record)

    def asked(self) -> dict[Key, Case]:
        """Return the case of each trial of this run or shard, by the trial's identity."""
        units = (unit for problem in self.problems() for unit in problem.units)
        return {unit.key(trial): unit.case for unit in units for trial in unit.trials}

    @property
    def limits(self) -> list[str]:
        """The command line options for the limits of one trial."""
        memory = [] if self.memory is None else ["--memory", str(self.memory)]
        return ["--timeout", f"{self.timeout:g}", *memory]

    def summary(self) -> dict[str, Any]:
        """Return the entries of the request in a report's environment."""
        seeds = sorted({case.seed for case in self.cases})
        own = {
            "adapters": list(self.selection.requests),
            "cases": len(set(self.cases) if self.recordings else self.cases),
            "seed": seeds[0] if len(seeds) == 1 else seeds,
        }
        shard = {} if self.shard is None else {"shard": f"{self.shard[0]}/{self.shard[1]}"}
        return {**own, **self.origin, **own, **shard}

    def to_dict(self) -> dict[str, Any]:
        """Return the request without its cases, JSON-ready; :meth:`from_dict` reads it."""
        selection = {entry.name: getattr(self.selection, entry.name) for entry in fields(Selection)}
        names = ("named", "timeout", "memory", "shard")
        data = {**selection, **{name: getattr(self, name) for name in names}, "origin": dict(self.origin)}
        return data if self.record is None else {**data, "record": {"schema": array_files.SCHEMA, "limit": self.record}}

    def cases_to_dicts(self) -> list[dict[str, Any]]:
        """Return the cases, JSON-ready; for a replay with the recorded results."""
        return [entry.to_dict() for entry in self.recordings or self.cases]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], cases: Sequence[Mapping[str, Any]]) -> Request:
        """Read what :meth:`to_dict` and :meth:`cases_to_dicts` wrote.

        Raises:
            KeyError, TypeError, ValueError: if it is not a request.
        """
        selection = Selection(**{entry.name: _frozen(data[entry.name]) for entry in fields(Selection)})
        environment.require_known("layout", selection.layouts, LAYOUTS)
        environment.require_known("dtype", selection.dtypes, DTYPES)
        environment.require_known("precision", selection.precisions, PRECISIONS)
        environment.require_known("kind of data", selection.data, ASKED)
        limits = (data["timeout"], data["memory"], _frozen(data["shard"]))
        record = data.get("record")
        limit = None if record is None else int(record["limit"])
        recorded = tuple(Recording.from_dict(case) for case in cases if "trials" in case)
        own = tuple(entry.case for entry in recorded) or tuple(Case.from_dict(case) for case in cases)
        return cls(own, selection, data["named"], *limits, dict(data["origin"]), limit, recorded)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def require_cases(values: Iterable[Case]) -> tuple[Case, ...]:
    """Return the cases as a tuple.

    Raises:
        RequestError: if ``values`` is not a list of cases, e.g. a single case or the name of a corpus.
    """
    cases = tuple(values) if isinstance(values, Iterable) else None
    if cases is None or not all(isinstance(case, Case) for case in cases):
        raise RequestError(f"cases must be a list of Case, e.g. corpora.load('tutorial'), got {str(values)[:60]}")
    return cases


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a journal's lines."""
    schema: dict[str, Any] = json.loads(files("convspec.conformance").joinpath("run.schema.json").read_text("utf-8"))
    return schema


class Journal:
    """A journal open for writing; it is locked against other processes."""

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self.path = path
        self._descriptor, self._size = descriptor, size
        self._synced = time.monotonic()

    @classmethod
    def create(cls, path: Path, header: Header) -> Journal:
        """Create a journal with its header, atomically.

        Raises:
            RequestError: if the file exists.
            JournalError: if it cannot be written.
        """
        if path.exists() or path.is_symlink():
            raise RequestError(
                f"{path} already exists; resume that run with {resume_command(path)}, or name another file"
            )
        part = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            journal = cls(path, os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644), 0)
            try:
                journal._lock()
                for entry in header.to_dicts():
                    journal._write(entry)
                os.fsync(journal._descriptor)
                part.rename(path)
            except BaseException:
                journal.close()
                part.unlink()
                raise
        except OSError as error:
            raise JournalError(f"cannot write {path}: {error.strerror}") from None
        return journal

    @classmethod
    def reopen(cls, path: Path) -> tuple[Journal, Content]:
        """Open a journal to resume its run, and read it; a half-written last line is dropped.

        Raises:
            RequestError: if the file is not a journal, or another run is writing it.
        """
        try:
            journal = cls(path, os.open(path, os.O_WRONLY | os.O_APPEND), 0)
            try:
                journal._lock()
                content = read(path)
                journal._size = content.size
                os.ftruncate(journal._descriptor, content.size)
            except BaseException:
                journal.close()
                raise
        except OSError as error:
            raise RequestError(f"cannot resume {path}: {error.strerror}") from None
        return journal, content

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write one line; it is in the file when this returns, and on disk some seconds later.

        Raises:
            JournalError: if there is no room; the lines before are unchanged.
        """
        try:
            self._write(entry)
            if time.monotonic() - self._synced > _SYNC:
                self._sync()
        except OSError as error:
            with contextlib.suppress(OSError):  # a half-written line can be read as well
                os.ftruncate(self._descriptor, self._size)
            raise JournalError(
                f"cannot write {self.path}: {error.strerror}; once there is room: {resume_command(self.path)}"
            ) from None

    def _write(self, entry: Mapping[str, Any]) -> None:
        data = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode(errors="backslashreplace") + b"\n"
        rest = data
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self._size += len(data)

    def discard(self) -> None:
        """Remove the file, for a run that failed before its first verdict."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Write everything to disk and close the file."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):  # a full disk was reported before
                os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _sync(self) -> None:
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system without synchronisation
                raise
        self._synced = time.monotonic()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RequestError(f"{self.path} is being written by another run") from None


def resume_command(path: Path) -> str:
    """The command that resumes a run."""
    import shlex

    return f"convspec check --resume {shlex.quote(str(path))}"


@dataclass(frozen=True, slots=True)
class Header:
    """The first two lines of a journal.

    Attributes:
        environment: everything that the numbers may depend on, and the number of jobs.
        absent: adapters that were not installed at the start, and why.
        declared: the gaps of each adapter.
    """

    request: Request
    environment: Mapping[str, Any]
    absent: Mapping[str, str]
    declared: Mapping[str, Sequence[known_gaps.Gap]]

    def to_dicts(self) -> Iterator[dict[str, Any]]:
        yield {
            "schema": SCHEMA, "request": self.request.to_dict(), "environment": dict(self.environment),
            "absent": dict(self.absent),
            "gaps": {adapter: [gap.to_dict() for gap in gaps] for adapter, gaps in self.declared.items()},
        }  # fmt: skip
        yield {"cases": self.request.cases_to_dicts()}

    @classmethod
    def from_dicts(cls, head: Mapping[str, Any], second: Mapping[str, Any]) -> Header:
        """Read what :meth:`to_dicts` wrote.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: if the lines are not a header.
        """
        declared = {name: known_gaps.from_tables(tables, f"gaps of {name}") for name, tables in head["gaps"].items()}
        request = Request.from_dict(head["request"], second["cases"])
        return cls(request, dict(head["environment"]), dict(head["absent"]), declared)


@dataclass(slots=True)
class Content:
    """The content of a journal: the verdicts of trials that its request asks for, each once.

    Attributes:
        size: bytes up to the end of the last complete line.
        verdicts: with the numbers of the lines that were left out, and why.
        absent: the targets whose framework or device a worker did not find, and why.
        seconds: of the sessions that ended.
        environment: of the last session.
    """

    header: Header
    size: int = 0
    verdicts: SavedVerdicts = field(default_factory=SavedVerdicts)
    absent: dict[tuple[str, ...], str] = field(default_factory=dict)
    seconds: float = 0.0
    environment: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environment = self.environment or self.header.environment

    @property
    def results(self) -> CompressedList[Result]:
        """The verdicts that nothing contradicts, in the order of the lines."""
        return self.verdicts.results()

    def add_line(self, number: int, line: bytes) -> None:
        """Add a line, or note why it is left out."""
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            self.verdicts.left_out[number] = "it must be JSON: a power cut or an edit has damaged it"
            return
        try:
            if kind := next((kind for kind in _NOTES if isinstance(entry, dict) and kind in entry), None):
                _require(entry, kind)
                self._require_asked(entry)
                self.add(entry)
            else:
                self.verdicts.add(number, entry)
        except ValueError as error:
            self.verdicts.left_out[number] = str(error)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Add a line that is not a verdict."""
        if "absent" in entry:
            self.absent[tuple(entry["target"])] = entry["absent"]
        elif "ended" in entry:
            self.seconds += float(entry["ended"]["seconds"])
        else:
            self.environment = dict(entry["resumed"]["environment"])
            self.absent.clear()  # the new session finds out again
            self.verdicts.resume()

    def _require_asked(self, entry: Mapping[str, Any]) -> None:
        """Raise ValueError if a worker of a target that the run does not have found something missing."""
        targets = {(request, device) for _, request, _, device, *_ in self.verdicts.asked or ()}
        if "absent" in entry and tuple(entry["target"]) not in targets:
            raise ValueError(f"target must be an adapter and device of the run, but is {entry['target']}"[:_SHOWN])

    def report(self) -> Report:
        """Return the report of the run so far; a contradicted trial is an error."""
        ledger = gap_ledger.Ledger()
        for adapter, declared in self.header.declared.items():
            ledger.declare(adapter, declared)
        results = CompressedList(result.assign_gap(ledger) for result in self.results)
        for contradiction in self.verdicts.contradictions():
            results.append(contradiction)
        return make_report(self, results, ledger)


def make_report(content: Content, results: CompressedList[Result], ledger: gap_ledger.Ledger) -> Report:
    """Return the report of a run with these results, which ``ledger`` has tallied."""
    request, absent = content.header.request, dict(content.header.absent)
    for (name, device), reason in content.absent.items():
        absent[name if device == "cpu" else f"{name} on {device}"] = reason
    targets = (unit for problem in request.problems() for unit in problem.units)
    expected = sum(len(u.trials) for u in targets if (u.target.request, u.target.device) not in content.absent)
    left = expected - sum((r.request, r.case.device) not in content.absent for r in results)
    measured = {**content.environment, "seconds": round(content.seconds, 3)}
    environment = {**content.environment, **request.summary(), **measured}  # the origin replaces nothing
    missing = (f"{left} of {expected} verdicts were not reached",) if left else ()
    ordered = sort_results(results, request.selection.requests)
    for tally in ledger.all():
        tally.whole = request.shard is None and not missing
    notes = (*content.verdicts.problems(), *content.verdicts.remarks())
    return Report(environment, ordered, tuple(ledger.all()), absent, missing, notes)


def read(path: Path) -> Content:
    """Read a journal; a half-written last line is dropped, other lines that break a rule are left out and counted.

    Raises:
        RequestError: if the file cannot be read or is not a journal.
    """
    try:
        with path.open("rb") as file:
            header = _read_header(path, file.readline(), file.readline())
            content = Content(header, file.tell(), SavedVerdicts(header.request.asked()))
            for number, line in enumerate(file, 3):
                if not line.endswith(b"\n"):
                    break
                content.size += len(line)
                content.add_line(number, line)
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from None
    return content


def _read_header(path: Path, *lines: bytes) -> Header:
    try:
        head, second = (json.loads(line) for line in lines)
        schema = head.get("schema")
        if schema == SCHEMA:
            _require(head, "opening")
            _require(second, "cases")
            header = Header.from_dicts(head, second)
            about = {**header.request.summary(), **header.environment, "absent": dict(header.absent)}
            if broken := report_rules().problem(about, "environment"):
                raise ValueError(broken)
            return header
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ConvspecError) as error:
        raise RequestError(f"{path} is not a convspec journal ({SCHEMA}): {str(error)[:_SHOWN]}") from None
    raise RequestError(f"{path} is not a convspec journal: it has schema {str(schema)[:_SHOWN]!r}, expected {SCHEMA!r}")


@functools.cache
def _rules() -> JsonRules:
    return JsonRules(json_schema())


def _require(entry: object, kind: str) -> None:
    """Raise ValueError if an entry breaks the schema of that kind of line."""
    if broken := _rules().problem(entry, kind):
        raise ValueError(broken)
