"""The journal of a run: every verdict on disk as it is reached, so that a run which is cut short can go on.

A file of JSON Lines, schema ``convspec.run/1``. The first line has the request, the environment and the declared
gaps, the second the cases; both are there before the file gets its name. Then comes one line for each verdict, as in
a report, and ``{"absent": …}``, ``{"resumed": …}`` and ``{"ended": …}`` as they happen.
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
from convspec.conformance.compressed_list import Packed
from convspec.conformance.request import Request
from convspec.conformance.results import Report, Result, in_order
from convspec.contract import known_gaps
from convspec.errors import ConvspecError, JournalError, RequestError

SCHEMA = "convspec.run/1"
_SYNC = 5.0  # seconds: how much of a run a power cut may cost
_SHOWN = 60


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a journal's lines."""
    schema: dict[str, Any] = json.loads(files("convspec.conformance").joinpath("run.schema.json").read_text("utf-8"))
    return schema


class Journal:
    """A journal that is being written; no other process may have it open."""

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self.path = path
        self._descriptor, self._size = descriptor, size
        self._synced = time.monotonic()

    @classmethod
    def create(cls, path: Path, opening: Opening) -> Journal:
        """Begin a journal: it has its opening, or is not there at all.

        Raises:
            RequestError: if there is such a file already.
            JournalError: if it cannot be written.
        """
        if path.exists() or path.is_symlink():
            raise RequestError(f"{path} is there already; go on with that run: {resuming(path)}, or name another file")
        part = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            journal = cls(path, os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644), 0)
            try:
                journal._lock()
                for entry in opening.to_dicts():
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
    def reopen(cls, path: Path) -> tuple[Journal, Record]:
        """A journal to go on with, and what is in it; a line that was torn at its end is cut off.

        Raises:
            RequestError: if there is no such journal, or another run is writing it.
        """
        try:
            journal = cls(path, os.open(path, os.O_WRONLY | os.O_APPEND), 0)
            try:
                journal._lock()
                record = read(path)
                journal._size = record.size
                os.ftruncate(journal._descriptor, record.size)
            except BaseException:
                journal.close()
                raise
        except OSError as error:
            raise RequestError(f"cannot go on with {path}: {error.strerror}") from None
        return journal, record

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add one line; it is in the file when this returns, and on disk some seconds later.

        Raises:
            JournalError: if there is no room; what was written before stays as it was.
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
            with contextlib.suppress(OSError):  # reading takes a torn line as well
                os.ftruncate(self._descriptor, self._size)
            raise JournalError(
                f"cannot write {self.path}: {error.strerror}; with room: {resuming(self.path)}"
            ) from None

    def discard(self) -> None:
        """Remove the file, where the run turned out to be impossible before there was anything to keep."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Put everything on disk and let the file go."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):  # it was full, and that has been told
                os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _sync(self) -> None:
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system that has nothing to synchronise
                raise
        self._synced = time.monotonic()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RequestError(f"{self.path} is being written by another run") from None


def resuming(path: Path) -> str:
    """The command that goes on with a run."""
    import shlex

    return f"convspec check --resume {shlex.quote(str(path))}"


@dataclass(frozen=True, slots=True)
class Opening:
    """What a journal begins with.

    Attributes:
        environment: what the numbers may depend on, and the number of jobs.
        absent: adapters that were not there from the start, and why.
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
            "gaps": {adapter: [gap.to_dict() for gap in found] for adapter, found in self.declared.items()},
        }  # fmt: skip
        yield {"cases": self.request.cases_to_dicts()}

    @classmethod
    def from_dicts(cls, head: Mapping[str, Any], second: Mapping[str, Any]) -> Opening:
        """The opening that :meth:`to_dicts` wrote.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: where it is none.
        """
        declared = {name: known_gaps.from_tables(tables, f"gaps of {name}") for name, tables in head["gaps"].items()}
        return cls(
            Request.from_dict(head["request"], second["cases"]),
            dict(head["environment"]),
            dict(head["absent"]),
            declared,
        )


@dataclass(slots=True)
class Record:
    """What a journal holds.

    Attributes:
        size: bytes up to the end of the last whole line.
        unreadable: numbers of lines that hold nothing that can be read: their verdicts are not there.
        absent: where a worker found that its framework or device is not there, and why.
        seconds: of the sessions that came to an end.
        environment: of the last session.
    """

    opening: Opening
    size: int = 0
    results: Packed[Result] = field(default_factory=Packed)
    unreadable: list[int] = field(default_factory=list)
    absent: dict[tuple[str, ...], str] = field(default_factory=dict)
    seconds: float = 0.0
    environment: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environment = self.environment or self.opening.environment

    def take(self, entry: Mapping[str, Any]) -> None:
        """One more line.

        Raises:
            KeyError, TypeError, ValueError: where it is none of a journal.
        """
        if not isinstance(entry, dict):
            raise TypeError(f"{entry!r} is no JSON object")
        if "absent" in entry:
            self.absent[tuple(entry["target"])] = str(entry["absent"])
        elif "ended" in entry:
            self.seconds += float(entry["ended"]["seconds"])
        elif "resumed" in entry:
            self.environment = dict(entry["resumed"]["environment"])
            self.absent.clear()  # whoever is absent still will be found so again
        else:
            self.results.append(Result.from_dict(entry))

    def report(self) -> Report:
        """The report that the run gives, or would give if it ended here."""
        ledger = gap_ledger.Ledger()
        for adapter, declared in self.opening.declared.items():
            ledger.declare(adapter, declared)
        found = {result.key: result for result in self.results}
        results = Packed(result.under(ledger) for result in found.values())
        return summed_up(self, results, ledger)


def summed_up(record: Record, results: Packed[Result], ledger: gap_ledger.Ledger) -> Report:
    """The report of a run with these results, which ``ledger`` has seen."""
    request, absent = record.opening.request, dict(record.opening.absent)
    for (name, device), reason in record.absent.items():
        absent[name if device == "cpu" else f"{name} on {device}"] = reason
    targets = (unit for problem in request.problems() for unit in problem.units)
    expected = sum(len(u.trials) for u in targets if (u.target.request, u.target.device) not in record.absent)
    left = expected - sum((r.request, r.case.device) not in record.absent for r in results)
    about = {**record.environment, **request.described(), "seconds": round(record.seconds, 3)}
    missing = (f"{left} of {expected} verdicts were not reached",) if left else ()
    ordered = in_order(results, request.selection.requests)
    for tally in ledger.all():
        tally.whole = request.shard is None and not missing
    return Report(about, ordered, tuple(ledger.all()), absent, missing)


def read(path: Path) -> Record:
    """What a journal holds; a torn last line, and any that a power cut spoilt, are left out and noted.

    Raises:
        RequestError: if the file cannot be read or is no journal.
    """
    try:
        with path.open("rb") as file:
            record = Record(_opening(path, file.readline(), file.readline()), file.tell())
            for number, line in enumerate(file, 3):
                if not line.endswith(b"\n"):
                    break
                record.size += len(line)
                try:
                    record.take(json.loads(line))
                except (ValueError, KeyError, TypeError, RecursionError, ConvspecError):
                    record.unreadable.append(number)
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from None
    return record


def _opening(path: Path, *lines: bytes) -> Opening:
    try:
        head, second = (json.loads(line) for line in lines)
        schema = head.get("schema")
        if schema == SCHEMA:
            return Opening.from_dicts(head, second)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ConvspecError) as error:
        raise RequestError(f"{path} is no journal of a run ({SCHEMA}): {str(error)[:_SHOWN]}") from None
    raise RequestError(f"{path} is of schema {str(schema)[:_SHOWN]!r}, not {SCHEMA!r}")
