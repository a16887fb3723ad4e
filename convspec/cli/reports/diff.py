"""The difference of two runs of the same cases, e.g. with two versions of a framework."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from convspec.conformance import Report, Result

SCHEMA = "convspec.diff/1"
_SHOWN = 100

Pair = tuple[Result, Result]


@dataclass(frozen=True)
class Difference:
    """Two reports, compared result by result: same case, adapter, layout, dtype, device, data and direction."""

    old: Report
    new: Report

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """The results of both reports."""
        old = _by_identity(self.old)
        return tuple((old[key], result) for key, result in _by_identity(self.new).items() if key in old)

    @cached_property
    def verdicts(self) -> tuple[Pair, ...]:
        """The pairs whose verdict or expectedness changed."""
        return tuple((a, b) for a, b in self.pairs if (a.verdict, a.unexpected) != (b.verdict, b.unexpected))

    @cached_property
    def classes(self) -> tuple[Pair, ...]:
        """The pairs whose measured accuracy class changed."""
        return tuple((a, b) for a, b in self.pairs if a.accuracy_class != b.accuracy_class)

    @cached_property
    def gone(self) -> tuple[Result, ...]:
        """The results of the old report only."""
        return _only(self.old, self.new)

    @cached_property
    def added(self) -> tuple[Result, ...]:
        """The results of the new report only."""
        return _only(self.new, self.old)

    @cached_property
    def versions(self) -> dict[str, tuple[str | None, str | None]]:
        """The distributions whose version changed: ``{distribution: (old, new)}``."""
        old, new = ({"convspec": r.environment.get("convspec"), **r.environment.get("versions", {})}
                    for r in (self.old, self.new))  # fmt: skip
        return {n: (old.get(n), new.get(n)) for n in sorted({*old, *new}) if old.get(n) != new.get(n)}

    @cached_property
    def gaps(self) -> dict[str, tuple[str | None, str | None]]:
        """The declared gaps whose status changed: ``{"adapter: id": (old, new)}``."""
        old, new = ({f"{t.adapter}: {t.gap.id}": t.status for t in r.gaps if t.status != "unmatched"}
                    for r in (self.old, self.new))  # fmt: skip
        return {n: (old.get(n), new.get(n)) for n in sorted({*old, *new}) if old.get(n) != new.get(n)}

    @property
    def changed(self) -> bool:
        """Whether a verdict, an accuracy class or a gap changed, or a result is missing; versions do not count."""
        return bool(self.verdicts or self.classes or self.gaps or self.gone)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON of schema ``convspec.diff/1``."""
        return {
            "schema": SCHEMA, "changed": self.changed, "compared": len(self.pairs),
            "versions": {name: list(pair) for name, pair in self.versions.items()},
            "gaps": {name: list(pair) for name, pair in self.gaps.items()},
            "verdicts": [{**_to_dict(a), "old": _end(a), "new": _end(b)} for a, b in self.verdicts],
            "classes": [{**_to_dict(a), "old": a.accuracy_class, "new": b.accuracy_class} for a, b in self.classes],
            "gone": [_to_dict(result) for result in self.gone],
            "added": [_to_dict(result) for result in self.added],
        }  # fmt: skip

    def lines(self) -> Iterator[str]:
        """Yield the changes, one line each, and the conclusion."""
        for name, (old, new) in self.versions.items():
            yield f"version    {name}: {old or 'not installed'} → {new or 'not installed'}"
        for name, (old, new) in self.gaps.items():
            yield f"gap        {name}: {old or 'matched nothing'} → {new or 'matched nothing'}"
        kinds = Counter((a.request, _short(a), _short(b)) for a, b in self.verdicts)
        for (adapter, old, new), number in kinds.items():
            yield f"verdicts   {adapter}: {number} × {old} → {new}"
        for a, b in self.classes[:_SHOWN]:
            yield f"class      {_named(a)}: {a.accuracy_class} → {b.accuracy_class}"
        for a, b in self.verdicts[:_SHOWN]:
            yield f"verdict    {_named(a)}: {_short(a)} → {_short(b)}" + (f" – {b.reason}" if b.reason else "")
        if (more := max(len(self.verdicts), len(self.classes)) - _SHOWN) > 0:
            yield f"… and {more} more; --json FILE has them all"
        for side, results in (("only old", self.gone), ("only new", self.added)):
            for adapter, number in Counter(result.request for result in results).items():
                yield f"{side}   {adapter}: {number} results"
        for side, report in (("old", self.old), ("new", self.new)):
            yield from (f"unfinished {side}: {sentence}" for sentence in report.missing)
            yield from (f"note {side}: {sentence}" for sentence in report.notes)
        counts = {
            "accuracy classes changed": self.classes, "gaps changed": self.gaps, "results missing": self.gone,
        }  # fmt: skip
        others = "".join(f", {len(changes)} {title}" for title, changes in counts.items() if changes)
        yield f"{len(self.pairs)} results compared: {len(self.verdicts)} verdicts changed{others}"


def _by_identity(report: Report) -> dict[tuple[Any, ...], Result]:
    return {(result.case.id, *result.key[1:]): result for result in report.results}


def _only(one: Report, other: Report) -> tuple[Result, ...]:
    both = _by_identity(other).keys()
    return tuple(result for key, result in _by_identity(one).items() if key not in both)


def _to_dict(result: Result) -> dict[str, Any]:
    keys = ("case", "name", "spec", "input_shape", "seed", "request", "layout", "dtype", "device", "direction",
            "precision", "data")  # fmt: skip
    entry = result.to_dict()
    return {key: entry[key] for key in keys}


def _end(result: Result) -> dict[str, Any]:
    return {
        "verdict": result.verdict, "reason": result.reason, "gap": result.gap, "unexpected": result.unexpected,
    }  # fmt: skip


def _short(result: Result) -> str:
    return result.verdict + (f" (gap {result.gap})" if result.gap else "")


def _named(result: Result) -> str:
    case = result.case
    where = "" if case.device == "cpu" else f" on {case.device}"
    return f"{result.request} {case.layout} {case.dtype} {result.data_title}{where}, case {case.id}"
