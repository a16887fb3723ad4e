"""Load the records of other runs from their folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convspec.conformance import journal
from convspec.conformance.records.array_files import SCHEMA
from convspec.conformance.records.recording import Recording, read_trial, require_one_of
from convspec.conformance.results import Result
from convspec.corpora import DATA_KINDS, Case
from convspec.errors import ConvspecError, RecordError, RequestError
from convspec.spec import DIRECTIONS, DTYPES, LAYOUTS


@dataclass(slots=True)
class Records:
    """The content of the folders of records.

    Attributes:
        without: the number of results without an output, by the reason.
        environments: of the recorded runs, by the path of their journals.
        problems: a sentence for each line of a journal that is left out or contradicts another.
        notes: sentences on repeated verdicts.
    """

    recordings: list[Recording] = field(default_factory=list)
    without: Counter[str] = field(default_factory=Counter)
    environments: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def load(folders: Sequence[Path]) -> Records:
    """Load the records in these folders, each of which may hold several shards.

    Raises:
        RequestError: if a folder is not a record; RecordError: if a journal breaks a rule.
    """
    records = Records()
    for folder in folders:
        journals = sorted(folder.glob("run*.jsonl"))
        if not journals:
            raise RequestError(
                f"{folder} is not a record: it has no run.jsonl, which convspec check --record DIR writes"
            )
        for path in journals:
            _add(records, path)
    return records


def _add(records: Records, path: Path) -> None:
    if path.is_symlink():
        raise RecordError(path, "it must be a file, but is a link")
    run = journal.read(path)
    if run.header.request.record is None:
        raise RecordError(path, f"it must be the journal of a run with --record ({SCHEMA})")
    results = run.results
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        if isinstance(entry := result.evidence.get("record"), dict) and "outputs" in entry:
            key = (result.index, result.request, result.case.dtype, result.case.device, result.precision)
            groups.setdefault(key, []).append(result)
        else:
            records.without[_why_without(result)] += 1
    records.recordings += [_recording(path, group) for group in groups.values()]
    records.environments[str(path)] = dict(run.environment)
    expected = sum(len(unit.trials) for problem in run.header.request.problems() for unit in problem.units)
    contradictions = [f"case {result.case.id}: {result.reason}" for result in run.verdicts.contradictions()]
    if contradictions:
        records.without["contradicted"] += len(contradictions)
    if unreached := expected - len(results) - len(contradictions):
        records.without["not reached"] += unreached
    records.problems += [f"{path}: {sentence}" for sentence in (*run.verdicts.problems(), *contradictions)]
    records.notes += [f"{path}: {sentence}" for sentence in run.verdicts.remarks()]


def _why_without(result: Result) -> str:
    """Why a result has no output."""
    entry = result.evidence.get("record")
    if isinstance(entry, dict):
        return str(entry.get("left_out", "left out"))[:80]
    if result.verdict in ("agree", "disagree"):
        return "no arrays of its own" if result.case.data not in DATA_KINDS else "no output"
    return result.verdict


def _recording(path: Path, group: Sequence[Result]) -> Recording:
    first = group[0]
    try:
        case = Case.from_dict(first.case.to_dict())
        require_one_of("dtype", case.dtype, DTYPES)
        case.spec.output_shape(case.input_shape)
        trials = [
            read_trial(
                {"layout": result.case.layout, "data": result.case.data, "direction": result.direction},
                {
                    **result.evidence["record"], "folder": str(path.parent.absolute()), "by": result.request,
                    "device": result.case.device, "precision": result.precision, "verdict": result.verdict,
                    "gap": result.gap,
                },
            )
            for result in group
        ]  # fmt: skip
    except (KeyError, TypeError, ValueError, ConvspecError) as error:
        problem = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise RecordError(path, f"case {first.case.id} by {first.request[:40]!r}: {problem[:200]}") from None
    trials.sort(key=lambda trial: (LAYOUTS.index(trial.layout), DIRECTIONS.index(trial.direction)))
    by = f"against {first.request} on {case.device}"
    return Recording(case.varied(name=f"{case.name} {by}".strip()), tuple(trials))
