"""What a run was asked to do: all that another process needs to go on with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields
from typing import Any

from convspec.conformance.records import recording as recordings
from convspec.conformance.records.recording import Recording
from convspec.conformance.records.write import SCHEMA
from convspec.conformance.trials.work_plan import Keep, Key, Problem, Selection
from convspec.corpora import Case
from convspec.errors import RequestError

_LEAST = 256 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """A run's cases, what is run of each, and its limits.

    Attributes:
        named: whether somebody named the adapters, so that none of them may be absent.
        timeout: seconds that one build and run may take.
        memory: bytes that a worker may hold, None for no limit.
        shard: ``(i, n)``: only every n-th case, from the i-th on (the first is 1).
        origin: where the cases come from, for the report's readers.
        record: bytes of arrays that are kept at most, beside the journal; None where none are.
        recordings: of a replay: what each case is held against; empty where that is the oracle.
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
        if self.memory is not None and self.memory < _LEAST:
            raise RequestError(f"memory={self.memory} must be at least {_LEAST} bytes: a framework alone takes as much")
        if self.record is not None and self.record <= 0:
            raise RequestError(f"record_limit={self.record} must be more than 0 bytes")
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise RequestError(f"shard={self.shard[0]}/{self.shard[1]} must be i/n with i from 1 to n")

    def problems(self, done: Set[Key] = frozenset(), keep: Keep | None = None) -> Iterator[Problem]:
        """The work of this run, or of this shard of it, without the results that are done."""
        part, parts = self.shard or (1, 1)
        replayed = recordings.problems(self.recordings, self.selection)
        for problem in replayed if self.recordings else self.selection.problems(self.cases):
            if problem.units[0].index % parts == part - 1:
                left = problem.without(done) if done else problem
                if left.units:
                    yield left if keep is None else left.keeping(keep)

    @property
    def limits(self) -> list[str]:
        """The command's options that set the limits of a single trial."""
        memory = [] if self.memory is None else ["--memory", str(self.memory)]
        return ["--timeout", f"{self.timeout:g}", *memory]

    def described(self) -> dict[str, Any]:
        """What a report says of the request."""
        seeds = sorted({case.seed for case in self.cases})
        found: dict[str, Any] = {
            "adapters": list(self.selection.requests),
            "cases": len(set(self.cases) if self.recordings else self.cases),
        }
        found |= {"seed": seeds[0] if len(seeds) == 1 else seeds, **self.origin}
        return found if self.shard is None else {**found, "shard": f"{self.shard[0]}/{self.shard[1]}"}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the cases; :meth:`from_dict` reads it back."""
        selection = {entry.name: getattr(self.selection, entry.name) for entry in fields(Selection)}
        names = ("named", "timeout", "memory", "shard")
        found = {**selection, **{name: getattr(self, name) for name in names}, "origin": dict(self.origin)}
        return found if self.record is None else {**found, "record": {"schema": SCHEMA, "limit": self.record}}

    def cases_to_dicts(self) -> list[dict[str, Any]]:
        """The cases, JSON-ready; of a replay with what each is held against."""
        return [entry.to_dict() for entry in self.recordings or self.cases]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], cases: Sequence[Mapping[str, Any]]) -> Request:
        """The request that :meth:`to_dict` and :meth:`cases_to_dicts` wrote.

        Raises:
            KeyError, TypeError, ValueError: where it is none.
        """
        selection = Selection(**{entry.name: _frozen(data[entry.name]) for entry in fields(Selection)})
        limits = (data["timeout"], data["memory"], _frozen(data["shard"]))
        record = data.get("record")
        limit = None if record is None else int(record["limit"])
        if record is not None and record["schema"] != SCHEMA:
            raise ValueError(f"its record is of schema {str(record['schema'])[:40]!r}, not {SCHEMA!r}")
        held = tuple(Recording.from_dict(case) for case in cases if "trials" in case)
        asked = tuple(entry.case for entry in held) or tuple(Case.from_dict(case) for case in cases)
        return cls(asked, selection, data["named"], *limits, dict(data["origin"]), limit, held)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def of_cases(given: Iterable[Case]) -> tuple[Case, ...]:
    """The cases of a request.

    Raises:
        RequestError: where they are no cases: the name of a corpus, say, or one case alone.
    """
    found = tuple(given) if isinstance(given, Iterable) else (given,)
    if not isinstance(given, Iterable) or not all(isinstance(case, Case) for case in found):
        said = f"and not {str(given)[:60]}"
        raise RequestError(f"cases must be a list of Case, as corpora.load('tutorial') gives, {said}")
    return found
