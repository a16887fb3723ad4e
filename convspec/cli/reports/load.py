"""Reports that were kept: read from a run's journal or from the document of ``check --json``, and put together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convspec.conformance import SCHEMA, Packed, Report, Result, Tally, in_order, journal
from convspec.contract import SCALARS, VECTORS, Gap, Predicate
from convspec.errors import ConvspecError, RequestError

_SHOWN = 60


def load(path: str | Path) -> Report:
    """The report in a file: a journal, finished or not, or a document of schema ``convspec.report/1``.

    Raises:
        RequestError: if it cannot be read or is neither.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            first = file.readline()
            try:
                head = json.loads(first)  # a journal's first line is whole; a document goes over several
            except ValueError:
                head = json.loads(first + file.read())
        schema = head.get("schema")
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, AttributeError, RecursionError) as error:
        raise RequestError(f"{path} is no report: {str(error)[:_SHOWN]}") from None
    if schema == journal.SCHEMA:
        return journal.read(path).report()
    if schema != SCHEMA:
        raise RequestError(f"{path} is of schema {str(schema)[:_SHOWN]!r}, neither {SCHEMA!r} nor {journal.SCHEMA!r}")
    try:
        return from_dict(head)
    except (KeyError, TypeError, ValueError, AttributeError, ConvspecError) as error:
        raise RequestError(f"{path} is no report: {type(error).__name__}: {str(error)[:_SHOWN]}") from None


def from_dict(data: Mapping[str, Any]) -> Report:
    """The report that ``Report.to_dict`` wrote.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, ConvspecError: where it is none.
    """
    about = dict(data["environment"])
    absent = {str(name): str(reason) for name, reason in about.pop("absent", {}).items()}
    results = Packed(Result.from_dict(result) for result in data["results"])
    missing = tuple(map(str, data.get("missing", ())))
    return Report(about, results, tuple(_tally(entry) for entry in data["gaps"]), absent, missing)


def _tally(data: Mapping[str, Any]) -> Tally:
    when = Predicate.parse(data["when"], SCALARS, VECTORS)
    gap = Gap(str(data["gap"]), str(data["kind"]), when, (), str(data["reason"]), link=str(data["link"] or ""))
    example = dict(data["passing_example"] or {})
    return Tally(
        gap, str(data["adapter"]), int(data["failed"]), int(data["passed"]), example, data["status"] != "passing"
    )


def merged(reports: Sequence[Report]) -> Report:
    """One report of several runs, shards of one run say; the gaps are counted over all of them.

    Raises:
        RequestError: if two of them have a result in common, or differ in the version of anything.
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
                    f"case {result.case.id} by {result.request} is in more than one of them: merge runs of different "
                    "cases, adapters or devices, and compare others with convspec report diff OLD NEW"
                )
        for tally in report.gaps:
            known = tallies.setdefault((tally.adapter, tally.gap.id), Tally(tally.gap, tally.adapter))
            known.failed, known.passed = known.failed + tally.failed, known.passed + tally.passed
            known.example = known.example or tally.example
        absent |= {name: reason for name, reason in report.absent.items() if name not in absent}
    environments = [report.environment for report in reports]
    about["adapters"] = list(dict.fromkeys(name for e in environments for name in e.get("adapters", ())))
    about["seconds"] = round(sum(e.get("seconds", 0.0) for e in environments), 3)
    shards = [str(about.pop("shard"))] if "shard" in about else []
    shards += [str(e["shard"]) for e in environments[1:] if "shard" in e]
    missing = [sentence for report in reports for sentence in report.missing] + _lacking(shards)
    for tally in tallies.values():
        tally.whole = not missing
    ordered = in_order(Packed(results.values()), about["adapters"])
    return Report(about, ordered, tuple(tallies.values()), absent, tuple(missing))


def _same_versions(known: dict[str, str], versions: Mapping[str, str]) -> None:
    for name, version in versions.items():
        if known.setdefault(name, version) != version:
            raise RequestError(
                f"they were made with {name} {known[name]} and {version}: merge runs of the same versions, and compare "
                "others with convspec report diff OLD NEW"
            )


def _lacking(shards: Sequence[str]) -> list[str]:
    """The shards that are not there, in words."""
    sizes = {shard.partition("/")[2] for shard in shards}
    wanted = [f"{i}/{size}" for size in sorted(sizes) for i in range(1, int(size) + 1)]
    return [f"shard {shard} is not there" for shard in wanted if shard not in shards]
