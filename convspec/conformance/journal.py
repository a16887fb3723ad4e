"""The journal of a run: every verdict on disk at once, so that an interrupted run can be resumed.

A file of JSON Lines, schema ``convspec.run/1``. The first line has the request, the environment and the declared
gaps, the second the cases; both are written before the file gets its name. Each further line is a verdict, as in a
report, or one of ``{"absent": …}``, ``{"resumed": …}`` and ``{"ended": …}``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from convspec.conformance import gap_ledger
from convspec.conformance.compressed_list import CompressedList
from convspec.conformance.request import Request
from convspec.conformance.results import Report, Result, sort_results
from convspec.contract import known_gaps
from convspec.errors import ConvspecError, JournalError, RequestError

SCHEMA = "convspec.run/1"
_SYNC = 5.0  # seconds of a run that a power cut may cost
_SHOWN = 60


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
                    journal.append(entry)
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
        data = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode(errors="backslashreplace") + b"\n"
        try:
            rest = data
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            self._size += len(data)
            if time.monotonic() - self._synced > _SYNC:
                self._sync()
        except OSError as error:
            with contextlib.suppress(OSError):  # a half-written line can be read as well
                os.ftruncate(self._descriptor, self._size)
            raise JournalError(
                f"cannot write {self.path}: {error.strerror}; once there is room: {resume_command(self.path)}"
            ) from None

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
    """The content of a journal.

    Attributes:
        size: bytes up to the end of the last complete line.
        unreadable: numbers of the lines that cannot be read, whose verdicts are lost.
        absent: the targets whose framework or device a worker did not find, and why.
        seconds: of the sessions that ended.
        environment: of the last session.
    """

    header: Header
    size: int = 0
    results: CompressedList[Result] = field(default_factory=CompressedList)
    unreadable: list[int] = field(default_factory=list)
    absent: dict[tuple[str, ...], str] = field(default_factory=dict)
    seconds: float = 0.0
    environment: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environment = self.environment or self.header.environment

    def add(self, entry: Mapping[str, Any]) -> None:
        """Add a line.

        Raises:
            KeyError, TypeError, ValueError: if it is not a line of a journal.
        """
        if not isinstance(entry, dict):
            raise TypeError(f"{entry!r} is not a JSON object")
        if "absent" in entry:
            self.absent[tuple(entry["target"])] = str(entry["absent"])
        elif "ended" in entry:
            self.seconds += float(entry["ended"]["seconds"])
        elif "resumed" in entry:
            self.environment = dict(entry["resumed"]["environment"])
            self.absent.clear()  # the new session finds out again
        else:
            self.results.append(Result.from_dict(entry))

    def report(self) -> Report:
        """Return the report of the run so far."""
        ledger = gap_ledger.Ledger()
        for adapter, declared in self.header.declared.items():
            ledger.declare(adapter, declared)
        distinct = {result.key: result for result in self.results}
        results = CompressedList(result.assign_gap(ledger) for result in distinct.values())
        return make_report(self, results, ledger)


def make_report(content: Content, results: CompressedList[Result], ledger: gap_ledger.Ledger) -> Report:
    """Return the report of a run with these results, which ``ledger`` has tallied."""
    request, absent = content.header.request, dict(content.header.absent)
    for (name, device), reason in content.absent.items():
        absent[name if device == "cpu" else f"{name} on {device}"] = reason
    targets = (unit for problem in request.problems() for unit in problem.units)
    expected = sum(len(u.trials) for u in targets if (u.target.request, u.target.device) not in content.absent)
    left = expected - sum((r.request, r.case.device) not in content.absent for r in results)
    environment = {**content.environment, **request.summary(), "seconds": round(content.seconds, 3)}
    missing = (f"{left} of {expected} verdicts were not reached",) if left else ()
    ordered = sort_results(results, request.selection.requests)
    for tally in ledger.all():
        tally.whole = request.shard is None and not missing
    return Report(environment, ordered, tuple(ledger.all()), absent, missing)


def read(path: Path) -> Content:
    """Read a journal; a half-written last line is dropped, lines that a power cut damaged are counted.

    Raises:
        RequestError: if the file cannot be read or is not a journal.
    """
    try:
        with path.open("rb") as file:
            content = Content(_read_header(path, file.readline(), file.readline()), file.tell())
            for number, line in enumerate(file, 3):
                if not line.endswith(b"\n"):
                    break
                content.size += len(line)
                try:
                    content.add(json.loads(line))
                except (ValueError, KeyError, TypeError, RecursionError, ConvspecError):
                    content.unreadable.append(number)
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from None
    return content


def _read_header(path: Path, *lines: bytes) -> Header:
    try:
        head, second = (json.loads(line) for line in lines)
        schema = head.get("schema")
        if schema == SCHEMA:
            return Header.from_dicts(head, second)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ConvspecError) as error:
        raise RequestError(f"{path} is not a convspec journal ({SCHEMA}): {str(error)[:_SHOWN]}") from None
    raise RequestError(f"{path} is not a convspec journal: it has schema {str(schema)[:_SHOWN]!r}, expected {SCHEMA!r}")
