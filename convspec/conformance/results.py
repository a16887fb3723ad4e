"""The results of a run: one verdict for each trial, the tallies of the declared gaps, and what is unexpected."""

from __future__ import annotations

import json
import shlex
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property, lru_cache
from importlib.resources import files
from operator import attrgetter
from typing import Any

from convspec.conformance import summary
from convspec.conformance.compressed_list import CompressedList
from convspec.conformance.gap_ledger import Ledger, Tally
from convspec.conformance.json_rules import JsonRules
from convspec.conformance.trials.metamorphic import METAMORPHIC, RELATIONS
from convspec.conformance.trials.work_plan import ASKED, PRECISIONS, Key
from convspec.corpora import Case
from convspec.errors import printable
from convspec.reference import VERDICTS
from convspec.spec import DIRECTIONS, DTYPES, LAYOUTS, ConvSpec

SCHEMA = "convspec.report/1"


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """The verdict on one case, in one layout and kind of data, by one adapter.

    Attributes:
        direction: ``"forward"``, or what the gradient is with respect to: ``"input"``, ``"kernel"``, ``"bias"``.
        case: with the layout, dtype, device and data of this result.
        adapter: the adapter's own name.
        request: the adapter's name in the request, which a reproduction needs.
        gap: id of the declared gap that covers this failure, None where there is none.
        seconds: of build and apply in the worker; for a crash or timeout, until it was noticed.
        index: position of the case in the run.
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

    def __str__(self) -> str:
        case, reason = self.case, f", {self.reason}" if self.reason else ""
        known = f" (known: {self.gap})" if self.gap else ""
        text = f"{self.adapter_name} {case.layout} {case.dtype} {self.data_title}: {self.verdict}{known}{reason} – "
        return printable(f"{text}{case.spec!r} on {case.input_shape}, seed {case.seed}", None)

    def __repr__(self) -> str:
        return f"<Result {self}>"

    @property
    def adapter_name(self) -> str:
        """The adapter's name, with the variant where the request has one."""
        return self.request if self.request.startswith(f"{self.adapter}:") else self.adapter

    @property
    def data_title(self) -> str:
        """The kind of data, and which gradient: ``"exact"``, ``"random gradient of kernel"``."""
        return self.case.data if self.direction == "forward" else f"{self.case.data} gradient of {self.direction}"

    @property
    def subject(self) -> str:
        """Adapter, layout, dtype, data and device."""
        case = self.case
        return f"{self.adapter_name} {case.layout} {case.dtype} {self.data_title} on {case.device}"

    def __reduce__(self) -> tuple[type[Result], tuple[Any, ...]]:
        return Result, _VALUES(self)  # a run pickles every result, and the dataclass's own way is slow

    @property
    def unexpected(self) -> bool:
        """Whether this is a failure that neither the adapter's ``support`` nor a gap declares."""
        if self.verdict == "agree" or self.gap is not None:
            return False
        return self.verdict != "unsupported" or self.support != "unsupported"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready entry of a report."""
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
    def from_dict(cls, data: object) -> Result:
        """Read what :meth:`to_dict` wrote; ``data`` may be any JSON value.

        Raises:
            ValueError: naming the entry, the rule and the value, if ``data`` is not a result.
        """
        if broken := report_rules().problem(data, "result"):
            raise ValueError(broken)
        assert isinstance(data, dict)
        case = _case(json.dumps(data["spec"]), tuple(data["input_shape"]), data["dtype"]).varied(
            **{key: data[key] for key in ("layout", "device", "data", "seed", "name")}
        )
        if case.data not in _DATA:
            raise ValueError(f"data must be one of {', '.join(_DATA)}, but is {case.data[:40]!r}")
        if data["case"] != case.id:
            raise ValueError(f"case must be {case.id}, which spec, input shape and seed give, but is {data['case']}")
        result = cls(
            case=case, accuracy_class=data["class"], evidence=data["evidence"], seconds=float(data["seconds"]),
            **{key: data[key] for key in _SAME_NAME},
        )  # fmt: skip
        for run in data["evidence"].get("runs", ()):
            _case(json.dumps(run["spec"]), tuple(run["input_shape"]), case.dtype)
        return result

    @property
    def key(self) -> Key:
        """The identity of this result within a run."""
        case = self.case
        target = (self.index, self.request, case.dtype, case.device, self.precision)
        return (*target, case.layout, case.data, self.direction)

    def assign_gap(self, ledger: Ledger) -> Result:
        """Return the result with the gap that declares it; tally every gap that matches.

        A relation that holds does not prove right numbers, so it does not count against a gap; a relation that fails
        is declared by a gap of any layer that it ran. A result that agrees with a recorded one does not count either;
        where only the recorded result is wrong, the gap that declared it there declares this one. A result that did not
        reach the adapter – the oracle failed, or no worker started – is declared by none.
        """
        if self.evidence.get("unreached"):
            return replace(self, gap=None)
        evidence = self.evidence.get("recorded")
        recorded = evidence if isinstance(evidence, dict) else {}
        gap = None
        if self.verdict != "agree" or not (recorded or self.case.data in RELATIONS):
            message = ""
            if self.verdict != "agree":
                texts = (str(self.evidence.get(key, "")) for key in ("message", "last_words"))
                message = "\n".join([self.reason, *texts])
            adapter = (self.adapter, self.variant, self.support)
            gaps = (ledger.judge(case, *adapter, self.verdict, message, self.direction) for case in self._cases_run())
            gap = next((gap for gap in gaps if gap is not None), recorded.get("gap"))
        return self if gap == self.gap else replace(self, gap=gap)

    def _cases_run(self) -> Iterator[Case]:
        """Yield the case, and the cases of the other layers that a relation ran."""
        yield self.case
        for run in self.evidence.get("runs", ()):
            other = _case(json.dumps(run["spec"]), tuple(run["input_shape"]), self.case.dtype)
            yield self.case.varied(spec=other.spec, input_shape=other.input_shape, layout=run["layout"])


_VALUES = attrgetter(*(entry.name for entry in fields(Result)))
_SAME_NAME = ("adapter", "request", "variant", "precision", "support", "support_reason", "verdict", "reason", "gap",
              "direction", "index")  # fmt: skip
_DATA = tuple(kind for kind in ASKED if kind != METAMORPHIC)


@lru_cache(maxsize=4096)
def _case(spec: str, input_shape: tuple[int, ...], dtype: str) -> Case:
    return Case.from_dict({"spec": json.loads(spec), "input_shape": input_shape, "dtype": dtype})


@cache
def report_rules() -> JsonRules:
    """The rules of a report; those of the definition ``result`` are the rules of a result."""
    return JsonRules(json.loads(files("convspec.conformance").joinpath("report.schema.json").read_text("utf-8")))


def sort_results(results: CompressedList[Result], requests: Sequence[str]) -> CompressedList[Result]:
    """Sort by case, then by adapter in the order of the request, then in the order of a worker."""
    adapters = {name: position for position, name in enumerate(requests)}

    def key(result: Result) -> tuple[Any, ...]:
        case, direction = result.case, DIRECTIONS.index(result.direction)
        return (
            result.index, adapters.get(result.request, len(adapters)), _position(DTYPES, case.dtype), case.device,
            _position(PRECISIONS, result.precision), _position(LAYOUTS, case.layout), direction > 0,
            _position(_DATA, case.data), direction,
        )  # fmt: skip

    return results.sorted(key)


def _position(names: Iterable[str], name: str) -> int:
    ordered = list(names)
    return ordered.index(name) if name in ordered else len(ordered)


class UnexpectedResults(AssertionError):
    """A run has unexpected results; the message lists them."""


@dataclass(frozen=True, repr=False)
class Report:
    """The results of a run; ``print`` shows them in short.

    Attributes:
        environment: versions, machine and options of the run, JSON-ready.
        gaps: the tally of each declared gap.
        absent: adapters that cannot run, and why.
        missing: what the run did not reach, one sentence each: it was interrupted, or other shards are missing.
        notes: what was left out of the saved run that was read, one sentence each.
    """

    environment: dict[str, Any]
    results: Sequence[Result]
    gaps: tuple[Tally, ...] = ()
    absent: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return summary.text(self, shutil.get_terminal_size().columns)

    def __repr__(self) -> str:
        return f"<Report of {summary.conclusion(self)}>"

    def _repr_html_(self) -> str:
        return summary.html(self)

    @cached_property
    def unexpected(self) -> tuple[Result | Tally, ...]:
        """The failures that nothing declares, and the gaps that are too wide or closed."""
        results = tuple(result for result in self.results if result.unexpected)
        return (*results, *(tally for tally in self.gaps if tally.unexpected))

    @cached_property
    def summary(self) -> dict[str, int]:
        """The number of results with each verdict, and of unexpected results and gaps."""
        counts = Counter(result.verdict for result in self.results)
        return {**{verdict: counts[verdict] for verdict in VERDICTS}, "unexpected": len(self.unexpected)}

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON of schema ``convspec.report/1``."""
        return {
            "schema": SCHEMA,
            "environment": {**self.environment, "absent": self.absent},
            "summary": self.summary,
            "missing": list(self.missing),
            **({"notes": list(self.notes)} if self.notes else {}),
            "gaps": [tally.to_dict() for tally in self.gaps if tally.status != "unmatched"],
            "results": [result.to_dict() for result in self.results],
        }

    def expect(self) -> Report:
        """Return the report itself, if nothing in it is unexpected.

        Raises:
            UnexpectedResults: with one line for each unexpected result or gap, at most twenty.
        """
        if not self.unexpected:
            return self
        lines = [str(item) for item in self.unexpected[:20]]
        more = len(self.unexpected) - len(lines)
        head = f"{len(self.unexpected)} unexpected among {len(self.results)} results"
        raise UnexpectedResults("\n  ".join([head, *lines, *([f"… and {more} more"] if more else [])]))


def reproduction(result: Result, *limits: str) -> str:
    """The shell command that checks this one result again, with these options for limits."""
    case = result.case
    if isinstance(recorded := result.evidence.get("recorded"), dict):
        options = [str(recorded.get("folder")), "--adapters", result.request, "--recorded", str(recorded.get("by"))]
        options += ["--case", case.id, "--devices", case.device, "--precision", result.precision]
        return f"convspec replay {shlex.join(options)}"
    line = json.dumps({"spec": _brief(case.spec), "input_shape": list(case.input_shape), "seed": case.seed})
    options = ["--adapters", result.request, "--layouts", case.layout]
    for option, value, defaults in (
        ("--dtypes", case.dtype, ("float32",)),
        ("--devices", case.device, ("cpu",)),
        ("--data", case.data, ("exact", "random")),
        ("--precision", result.precision, ("shipped",)),
    ):
        options += [] if value in defaults else [option, value]
    options += ["--gradients"] * (result.direction != "forward")
    return f"echo {shlex.quote(line)} | convspec check --corpus - {shlex.join([*options, *limits])}"


def _brief(spec: ConvSpec) -> dict[str, Any]:
    """The required fields of a layer, and those that differ from their defaults."""
    plain = ConvSpec(spec.in_channels, spec.out_channels, spec.kernel_size).to_dict()
    required = ("in_channels", "out_channels", "kernel_size")
    return {key: value for key, value in spec.to_dict().items() if key in required or value != plain[key]}
