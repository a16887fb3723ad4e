"""The verdicts of a saved run: each is that of a trial that was asked, once.

Any other line is left out, with its number and the reason. A line that repeats a verdict is counted once. Two lines
that contradict each other are both left out, until a resumed session has run the trial again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from convspec.conformance.compressed_list import CompressedList
from convspec.conformance.results import Result
from convspec.conformance.trials.work_plan import Key
from convspec.corpora import Case

_SHOWN = 20


@dataclass(slots=True)
class SavedVerdicts:
    """Verdicts with the lines that they were read from.

    Attributes:
        asked: the case of each trial of the run; None where the file does not have the request.
        place: the name of a line of the file, with ``{}`` for its number.
        left_out: the lines that cannot be used, and why.
        repeated: the lines that repeat a verdict.
        settled: a sentence for each contradiction that a resumed session has settled.
    """

    asked: Mapping[Key, Case] | None = None
    place: str = "line {}"
    left_out: dict[int, str] = field(default_factory=dict)
    repeated: list[int] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    _every: CompressedList[Result] = field(default_factory=CompressedList)
    _lines: list[int] = field(default_factory=list)
    _positions: dict[tuple[Any, ...], int] = field(default_factory=dict)
    _settled: set[int] = field(default_factory=set)
    _contradicted: dict[tuple[Any, ...], dict[int, str]] = field(default_factory=dict)

    def add(self, line: int, entry: object) -> None:
        """Add a verdict as JSON.

        Raises:
            ValueError: naming the rule, if it is not a verdict of a trial that was asked.
        """
        result = Result.from_dict(entry)
        self._require_asked(result)
        key = result.key if self.asked is not None else (result.case.id, *result.key)
        position = self._positions.setdefault(key, len(self._lines))
        if position == len(self._lines):
            self._every.append(result)
            self._lines.append(line)
        elif key not in self._contradicted and replace(self._every[position], seconds=result.seconds) == result:
            self.repeated.append(line)
        else:
            first = {self._lines[position]: self._every[position].verdict}
            self._contradicted.setdefault(key, first)[line] = result.verdict

    def _require_asked(self, result: Result) -> None:
        if self.asked is None:
            return
        case = self.asked.get(result.key)
        if case is None:
            index, request, *others = result.key
            trial = ", ".join(map(str, others))
            raise ValueError(f"the run did not ask for case {index} by {request[:40]!r} with {trial[:80]}")
        if (case.spec, case.input_shape, case.seed) != (result.case.spec, result.case.input_shape, result.case.seed):
            raise ValueError(f"case {result.index} of the run is {case.id}, but the line has {result.case.id}")

    def resume(self) -> None:
        """Note that a new session begins: it runs the contradicted trials again."""
        for key, verdicts in self._contradicted.items():
            self.settled.append(f"{self._contradiction(verdicts)}; a later session ran the case again")
            self._settled.add(self._positions.pop(key))
        self._contradicted.clear()

    def results(self) -> CompressedList[Result]:
        """Return the verdicts that nothing contradicts, in the order of the lines."""
        void = self._settled.union(self._positions[key] for key in self._contradicted)
        if not void:
            return self._every
        return CompressedList(result for position, result in enumerate(self._every) if position not in void)

    def contradictions(self) -> Iterator[Result]:
        """Yield an error for each trial with contradicting verdicts; no gap covers it."""
        for key, verdicts in self._contradicted.items():
            reason = f"{self._contradiction(verdicts)}; neither counts"
            first = self._every[self._positions[key]]
            yield replace(
                first, verdict="error", reason=reason, accuracy_class=None, evidence={"unreached": True}, gap=None,
                seconds=0.0,
            )  # fmt: skip

    def _contradiction(self, verdicts: Mapping[int, str]) -> str:
        said = [f"{self.place.format(line)}: {verdict}" for line, verdict in verdicts.items()]
        facts = " with other facts" if len(set(verdicts.values())) == 1 else ""
        return f"contradicting verdicts{facts}: {', '.join(said)}"

    def problems(self) -> Iterator[str]:
        """Yield a sentence for each line that is left out."""
        for line, reason in [*self.left_out.items()][:_SHOWN]:
            yield f"left out: {self.place.format(line)}: {reason}"
        if (more := len(self.left_out) - _SHOWN) > 0:
            yield f"left out: {more} more lines"

    def remarks(self) -> Iterator[str]:
        """Yield a sentence on the repeated verdicts, and one for each contradiction that is settled."""
        if self.repeated:
            places = ", ".join(map(self.place.format, self.repeated[:_SHOWN]))
            more = ", …" * (len(self.repeated) > _SHOWN)
            yield f"counted once: {len(self.repeated)} repeated verdicts: {places}{more}"
        yield from self.settled
