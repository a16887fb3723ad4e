"""What a run found: one result per trial, the declared gaps' tallies, and what of it is unexpected."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import Any

from convspec.conformance.compressed_list import Packed
from convspec.conformance.gap_ledger import Ledger, Tally
from convspec.conformance.trials.metamorphic import RELATIONS
from convspec.conformance.trials.work_plan import KINDS, PRECISIONS, Key
from convspec.corpora import Case
from convspec.reference import VERDICTS
from convspec.spec import DIRECTIONS, DTYPES, LAYOUTS, ConvSpec

SCHEMA = "convspec.report/1"


@dataclass(frozen=True, slots=True)
class Result:
    """The verdict on one case, in one layout and kind of data, by one adapter.

    Attributes:
        direction: ``"forward"``, or what the gradient is with respect to: ``"input"``, ``"kernel"``, ``"bias"``.
        case: with the layout, dtype, device and data of this result.
        adapter: the adapter's own name; ``request`` is how it was asked for, which a reproduction needs.
        gap: id of the declared gap that this failure belongs to, None where there is none.
        seconds: that build and apply took in the worker; of a crash or timeout, until it was noticed.
        index: the case's place among those of the run.
    """

    case: Case
    adapter: str
    request: str
    variant: str
    precision: str
    support: str
    support_reason: str
    verdict: str
    reason: str
    accuracy_class: str | None
    evidence: dict[str, Any]
    gap: str | None
    seconds: float
    direction: str = "forward"
    index: int = 0

    def __reduce__(self) -> tuple[type[Result], tuple[Any, ...]]:
        return Result, _VALUES(self)  # runs keep their results pickled, and a dataclass's own way is slow

    @property
    def unexpected(self) -> bool:
        """Whether this is a failure that neither the adapter's ``support`` nor a gap declared."""
        if self.verdict == "agree" or self.gap is not None:
            return False
        return self.verdict != "unsupported" or self.support != "unsupported"

    def to_dict(self) -> dict[str, Any]:
        """As in a report."""
        case = self.case
        return {
            "case": case.id, "index": self.index, "name": case.name, "spec": case.spec.to_dict(),
            "input_shape": list(case.input_shape), "seed": case.seed, "adapter": self.adapter,
            "request": self.request, "layout": case.layout, "dtype": case.dtype,
            "device": case.device, "direction": self.direction, "variant": self.variant,
            "precision": self.precision, "data": case.data, "support": self.support,
            "support_reason": self.support_reason, "verdict": self.verdict, "reason": self.reason,
            "class": self.accuracy_class, "evidence": self.evidence, "gap": self.gap,
            "seconds": self.seconds,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Result:
        """The result that :meth:`to_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: where it is none.
        """
        case = Case(
            _spec(json.dumps(data["spec"])), tuple(data["input_shape"]), _text(data, "layout"),
            _text(data, "dtype"), _text(data, "device"), _text(data, "data"), data["seed"], _text(data, "name"),
        )  # fmt: skip
        if data["verdict"] not in VERDICTS or data["direction"] not in DIRECTIONS:
            raise ValueError(f"verdict {data['verdict']!r} of direction {data['direction']!r}")
        words = {key: _text(data, key) for key in _WORDS}
        return cls(
            case=case, request=str(data.get("request", words["adapter"])), accuracy_class=data["class"],
            evidence=dict(data["evidence"]), gap=data["gap"], seconds=float(data["seconds"]),
            index=int(data.get("index", 0)), **words,
        )  # fmt: skip

    @property
    def key(self) -> Key:
        """What no other result of a run has in common with it."""
        case = self.case
        target = (self.index, self.request, case.dtype, case.device, self.precision)
        return (*target, case.layout, case.data, self.direction)

    def under(self, ledger: Ledger) -> Result:
        """The result with the gap that declares it; every gap that matches it is tallied.

        A relation that holds is no proof of right numbers, so it says nothing against a gap; one that does not hold
        is declared by a gap of any of the layers that it ran. Nor is a result that agrees with a recorded one; where
        the recorded one alone is wrong, what declared it there declares this.
        """
        found_there = self.evidence.get("recorded")
        recorded = found_there if isinstance(found_there, dict) else {}
        if self.verdict == "agree" and (recorded or self.case.data in RELATIONS):
            return self._of(None)
        said = ""
        if self.verdict != "agree":
            said = "\n".join([self.reason, *(str(self.evidence.get(key, "")) for key in ("message", "last_words"))])
        adapter = (self.adapter, self.variant, self.support)
        found = (ledger.judge(case, *adapter, self.verdict, said, self.direction) for case in self._ran())
        return self._of(next((gap for gap in found if gap is not None), recorded.get("gap")))

    def _of(self, gap: str | None) -> Result:
        return self if gap == self.gap else replace(self, gap=gap)

    def _ran(self) -> Iterator[Case]:
        """The case, and those of the other layers that a relation ran."""
        yield self.case
        for run in self.evidence.get("runs", ()):
            spec = _spec(json.dumps(run["spec"]))
            yield self.case.varied(spec=spec, input_shape=tuple(run["input_shape"]), layout=run["layout"])


_VALUES = attrgetter(*(entry.name for entry in fields(Result)))
_WORDS = ("adapter", "variant", "precision", "support", "support_reason", "verdict", "reason", "direction")


@lru_cache(maxsize=4096)
def _spec(fields: str) -> ConvSpec:
    return ConvSpec.from_dict(json.loads(fields))


def _text(data: Mapping[str, Any], key: str) -> str:
    if not isinstance(data[key], str):
        raise TypeError(f"{key}={data[key]!r} must be a text")
    return str(data[key])


def in_order(results: Packed[Result], requests: Sequence[str]) -> Packed[Result]:
    """The results by case, then by adapter in the order of the request, then as a worker takes them."""
    adapters = {name: place for place, name in enumerate(requests)}

    def place(result: Result) -> tuple[Any, ...]:
        case, direction = result.case, DIRECTIONS.index(result.direction)
        return (
            result.index, adapters.get(result.request, len(adapters)), _place(DTYPES, case.dtype), case.device,
            _place(PRECISIONS, result.precision), _place(LAYOUTS, case.layout), direction > 0,
            _place((*KINDS, *RELATIONS), case.data), direction,
        )  # fmt: skip

    return results.sorted(place)


def _place(names: Iterable[str], name: str) -> int:
    found = list(names)
    return found.index(name) if name in found else len(found)


class UnexpectedResults(AssertionError):
    """A run found something unexpected; the message lists it."""


@dataclass(frozen=True)
class Report:
    """A run's results.

    Attributes:
        environment: versions, machine and options of the run, JSON-ready.
        gaps: what became of each declared gap.
        absent: adapters that could not run here, and why.
        missing: what the run has not come to, one sentence each: it was cut short, or shards of it are elsewhere.
    """

    environment: dict[str, Any]
    results: Sequence[Result]
    gaps: tuple[Tally, ...] = ()
    absent: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @cached_property
    def unexpected(self) -> tuple[Result | Tally, ...]:
        """The failures that nothing declared, and the gaps that are too wide or closed."""
        results = tuple(result for result in self.results if result.unexpected)
        return (*results, *(tally for tally in self.gaps if tally.unexpected))

    @cached_property
    def summary(self) -> dict[str, int]:
        """How many results have each verdict, and how much is unexpected."""
        counts = Counter(result.verdict for result in self.results)
        return {**{verdict: counts[verdict] for verdict in VERDICTS}, "unexpected": len(self.unexpected)}

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON of schema ``convspec.report/1``."""
        return {
            "schema": SCHEMA,
            "environment": {**self.environment, "absent": self.absent},
            "summary": self.summary,
            "missing": list(self.missing),
            "gaps": [tally.to_dict() for tally in self.gaps if tally.status != "unmatched"],
            "results": [result.to_dict() for result in self.results],
        }

    def expect(self) -> Report:
        """The report itself, if nothing in it is unexpected.

        Raises:
            UnexpectedResults: with one line for each unexpected thing, at most twenty.
        """
        if not self.unexpected:
            return self
        lines = [describe(item) for item in self.unexpected[:20]]
        more = len(self.unexpected) - len(lines)
        head = f"{len(self.unexpected)} unexpected among {len(self.results)} results"
        raise UnexpectedResults("\n  ".join([head, *lines, *([f"… and {more} more"] if more else [])]))


def what(result: Result) -> str:
    """The kind of data, and which gradient where it is one."""
    return result.case.data if result.direction == "forward" else f"{result.case.data} gradient of {result.direction}"


def describe(item: Result | Tally) -> str:
    """One line that says what is unexpected."""
    if isinstance(item, Tally):
        return (
            f"gap {item.gap.id} of {item.adapter} is {item.status}: {item.passed} matching results agree, "
            f"{item.failed} fail as declared"
        )
    case = item.case
    return (
        f"{item.adapter} {case.layout} {case.dtype} {what(item)}: {item.verdict}, {item.reason} – "
        f"{case.spec!r} on {case.input_shape}, seed {case.seed}"
    )


def reproduction(result: Result, *limits: str) -> str:
    """A shell command that checks this one case, adapter and layout again, within the limits if any are given."""
    case = result.case
    if isinstance(recorded := result.evidence.get("recorded"), dict):
        asked = [str(recorded.get("folder")), "--adapters", result.request, "--recorded", str(recorded.get("by"))]
        asked += ["--case", case.id, "--devices", case.device, "--precision", result.precision]
        return f"convspec replay {shlex.join(asked)}"
    line = json.dumps({"spec": _brief(case.spec), "input_shape": list(case.input_shape), "seed": case.seed})
    options = ["--adapters", result.request, "--layouts", case.layout]
    if case.dtype != "float32":
        options += ["--dtypes", case.dtype]
    if case.device != "cpu":
        options += ["--devices", case.device]
    if case.data not in ("exact", "random"):
        options += ["--data", case.data]
    if result.precision != "shipped":
        options += ["--precision", result.precision]
    if result.direction != "forward":
        options += ["--gradients"]
    options += limits
    return f"echo {shlex.quote(line)} | convspec check --corpus - {shlex.join(options)}"


def _brief(spec: ConvSpec) -> dict[str, Any]:
    """The fields that a layer cannot do without, and those that are not as they are by default."""
    plain = ConvSpec(spec.in_channels, spec.out_channels, spec.kernel_size).to_dict()
    needed = ("in_channels", "out_channels", "kernel_size")
    return {key: value for key, value in spec.to_dict().items() if key in needed or value != plain[key]}
