"""Load reports from the journal of a run or the document of ``check --json``, and merge them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from convspec.conformance import (
    SCHEMA,
    CompressedList,
    Report,
    Result,
    SavedVerdicts,
    Tally,
    journal,
    report_rules,
    sort_results,
)
from convspec.contract import SCALARS, VECTORS, Gap, Predicate
from convspec.errors import ConvspecError, RequestError

_SHOWN = 200
_MISSING = 20


def load(path: str | Path) -> Report:
    """Load a journal, finished or not, or a document of schema ``convspec.report/1``.

    Raises:
        RequestError: if the file cannot be read or is neither.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            first = file.readline()
            try:
                head = json.loads(first)  # the first line of a journal is complete JSON; a document has several lines
            except ValueError:
                head = json.loads(first + file.read())
        schema = head.get("schema")
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, AttributeError, RecursionError) as error:
        raise RequestError(f"{path} is not a convspec report: {str(error)[:_SHOWN]}") from None
    if schema == journal.SCHEMA:
        return _named(path, journal.read(path).report())
    if schema != SCHEMA:
        raise RequestError(f"{path} has schema {str(schema)[:_SHOWN]!r}, neither {SCHEMA!r} nor {journal.SCHEMA!r}")
    try:
        return _named(path, from_dict(head))
    except (ValueError, ConvspecError) as error:
        raise RequestError(f"{path} is not a convspec report: {str(error)[:_SHOWN]}") from None


def _named(path: Path, report: Report) -> Report:
    """The report, with the file's name in its notes."""
    return replace(report, notes=tuple(f"{path.name}: {note}" for note in report.notes))


def from_dict(data: Any) -> Report:
    """Read what ``Report.to_dict`` wrote; a result that is repeated counts once, contradicting ones are an error.

    Raises:
        ValueError: naming the entry, the rule and the value, if ``data`` is not a report.
    """
    if broken := report_rules().problem(data):
        raise ValueError(broken)
    about = dict(data["environment"])
    absent = about.pop("absent")
    verdicts = SavedVerdicts(place="results[{}]")
    for number, entry in enumerate(data["results"]):
        try:
            verdicts.add(number, entry)
        except ValueError as error:
            raise ValueError(f"results[{number}]: {error}") from None
    results = CompressedList([*verdicts.results(), *verdicts.contradictions()])
    tallies = tuple(_tally(entry) for entry in data["gaps"])
    notes = (*data.get("notes", ()), *verdicts.remarks())
    return Report(about, results, tallies, absent, tuple(data["missing"]), notes)


def _tally(data: Mapping[str, Any]) -> Tally:
    when = Predicate.parse(data["when"], SCALARS, VECTORS)
    gap = Gap(data["gap"], data["kind"], when, (), data["reason"], link=data["link"] or "")
    whole = data["status"] != "passing"
    return Tally(gap, data["adapter"], data["failed"], data["passed"], dict(data["passing_example"] or {}), whole)


def merge(reports: Sequence[Report]) -> Report:
    """Merge the reports of several runs, e.g. the shards of one; gaps are counted over all of them.

    Raises:
        RequestError: if two of them share a result, or differ in any version.
    """
    results: dict[Any, Result] = {}
    tallies: dict[tuple[str, str], Tally] = {}
    about: dict[str, Any] = {**reports[0].environment, "versions": {}}
    absent: dict[str, str] = {}
    for report in reports:
        _same_versions(about["versions"], report.environment.get("versions", {}))
        for result in report.results:
            if results.setdefault((result.case.id, *result.key), result) is not result:
                raise RequestError(
                    f"case {result.case.id} by {result.request} is in more than one run: merge runs of different "
                    "cases, adapters or devices; compare others with convspec report diff OLD NEW"
                )
        for tally in report.gaps:
            known = tallies.setdefault((tally.adapter, tally.gap.id), Tally(tally.gap, tally.adapter))
            known.add(tally)
        absent |= {name: reason for name, reason in report.absent.items() if name not in absent}
    environments = [report.environment for report in reports]
    about["adapters"] = list(dict.fromkeys(name for e in environments for name in e.get("adapters", ())))
    about["seconds"] = round(sum(e.get("seconds", 0.0) for e in environments), 3)
    shards = [str(about.pop("shard"))] if "shard" in about else []
    shards += [str(e["shard"]) for e in environments[1:] if "shard" in e]
    missing = [sentence for report in reports for sentence in report.missing] + _missing_shards(shards)
    for tally in tallies.values():
        tally.whole = not missing
    ordered = sort_results(CompressedList(results.values()), about["adapters"])
    notes = tuple(note for report in reports for note in report.notes)
    return Report(about, ordered, tuple(tallies.values()), absent, tuple(missing), notes)


def _same_versions(known: dict[str, str], versions: Mapping[str, str]) -> None:
    for name, version in versions.items():
        if known.setdefault(name, version) != version:
            raise RequestError(
                f"the runs have {name} {known[name]} and {version}: merge runs of the same versions; compare others "
                "with convspec report diff OLD NEW"
            )


def _missing_shards(shards: Sequence[str]) -> list[str]:
    """A sentence for each shard that is missing; one for all that are beyond the first twenty."""
    sizes = sorted({shard.partition("/")[2] for shard in shards})
    wanted = (f"{i}/{size}" for size in sizes for i in range(1, int(size) + 1))
    missing = [*islice((shard for shard in wanted if shard not in shards), _MISSING)]
    more = sum(map(int, sizes)) - len({*shards}) - len(missing)
    return [*(f"shard {shard} is missing" for shard in missing), *[f"{more} more shards are missing"] * (more > 0)]
