"""Load reports from the journal of a run or the document of ``check --json``, and merge them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convspec.conformance import SCHEMA, CompressedList, Report, Result, Tally, journal, sort_results
from convspec.contract import SCALARS, VECTORS, Gap, Predicate
from convspec.errors import ConvspecError, RequestError

_SHOWN = 60


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
        return journal.read(path).report()
    if schema != SCHEMA:
        raise RequestError(f"{path} has schema {str(schema)[:_SHOWN]!r}, neither {SCHEMA!r} nor {journal.SCHEMA!r}")
    try:
        return from_dict(head)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, ConvspecError) as error:
        raise RequestError(f"{path} is not a convspec report: {type(error).__name__}: {str(error)[:_SHOWN]}") from None


def from_dict(data: Mapping[str, Any]) -> Report:
    """Read what ``Report.to_dict`` wrote.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, ConvspecError: if ``data`` is not a report.
    """
    about = dict(data["environment"])
    absent = {str(name): str(reason) for name, reason in about.pop("absent", {}).items()}
    results = CompressedList(Result.from_dict(result) for result in data["results"])
    missing = tuple(map(str, data.get("missing", ())))
    return Report(about, results, tuple(_tally(entry) for entry in data["gaps"]), absent, missing)


def _tally(data: Mapping[str, Any]) -> Tally:
    when = Predicate.parse(data["when"], SCALARS, VECTORS)
    gap = Gap(str(data["gap"]), str(data["kind"]), when, (), str(data["reason"]), link=str(data["link"] or ""))
    example = dict(data["passing_example"] or {})
    return Tally(
        gap, str(data["adapter"]), int(data["failed"]), int(data["passed"]), example, data["status"] != "passing"
    )


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
    return Report(about, ordered, tuple(tallies.values()), absent, tuple(missing))


def _same_versions(known: dict[str, str], versions: Mapping[str, str]) -> None:
    for name, version in versions.items():
        if known.setdefault(name, version) != version:
            raise RequestError(
                f"the runs have {name} {known[name]} and {version}: merge runs of the same versions; compare others "
                "with convspec report diff OLD NEW"
            )


def _missing_shards(shards: Sequence[str]) -> list[str]:
    """A sentence for each shard that is missing."""
    sizes = {shard.partition("/")[2] for shard in shards}
    wanted = [f"{i}/{size}" for size in sorted(sizes) for i in range(1, int(size) + 1)]
    return [f"shard {shard} is missing" for shard in wanted if shard not in shards]
