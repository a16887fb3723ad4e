"""The request of a run: everything that another process needs to resume it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields
from typing import Any

from convspec.conformance.records.array_files import SCHEMA
from convspec.conformance.records.recording import Recording, plan_replay
from convspec.conformance.trials.work_plan import Key, Problem, RecordFolder, Selection
from convspec.corpora import Case
from convspec.errors import RequestError

_LEAST_MEMORY = 256 << 20


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
        if self.timeout <= 0:
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

    @property
    def limits(self) -> list[str]:
        """The command line options for the limits of one trial."""
        memory = [] if self.memory is None else ["--memory", str(self.memory)]
        return ["--timeout", f"{self.timeout:g}", *memory]

    def summary(self) -> dict[str, Any]:
        """Return the entries of the request in a report's environment."""
        seeds = sorted({case.seed for case in self.cases})
        return {
            "adapters": list(self.selection.requests),
            "cases": len(set(self.cases) if self.recordings else self.cases),
            "seed": seeds[0] if len(seeds) == 1 else seeds,
            **self.origin,
            **({} if self.shard is None else {"shard": f"{self.shard[0]}/{self.shard[1]}"}),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the request without its cases, JSON-ready; :meth:`from_dict` reads it."""
        selection = {entry.name: getattr(self.selection, entry.name) for entry in fields(Selection)}
        names = ("named", "timeout", "memory", "shard")
        data = {**selection, **{name: getattr(self, name) for name in names}, "origin": dict(self.origin)}
        return data if self.record is None else {**data, "record": {"schema": SCHEMA, "limit": self.record}}

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
        limits = (data["timeout"], data["memory"], _frozen(data["shard"]))
        record = data.get("record")
        limit = None if record is None else int(record["limit"])
        if record is not None and record["schema"] != SCHEMA:
            raise ValueError(f"its record has schema {str(record['schema'])[:40]!r}, expected {SCHEMA!r}")
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
