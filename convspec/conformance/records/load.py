"""Load the records of other runs from their folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convspec.conformance import journal
from convspec.conformance.records.recording import Recording, one_of, trial_of
from convspec.conformance.records.write import SCHEMA
from convspec.corpora import DATA_KINDS, Case
from convspec.errors import ConvspecError, RecordError, RequestError
from convspec.spec import DIRECTIONS, DTYPES, LAYOUTS

if TYPE_CHECKING:
    from convspec.conformance.results import Result


@dataclass(slots=True)
class Records:
    """What is in the folders of records.

    Attributes:
        without: results of which there is no output, counted by why.
        environments: of the recorded runs, by the path of their journals.
        problems: what of the journals cannot be read.
    """

    recordings: list[Recording] = field(default_factory=list)
    without: Counter[str] = field(default_factory=Counter)
    environments: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def load(folders: Sequence[Path]) -> Records:
    """The records in these folders, each of which may hold several shards.

    Raises:
        RequestError: if there is none, or a journal breaks a rule; RecordError names file and rule.
    """
    found = Records()
    for folder in folders:
        journals = sorted(folder.glob("run*.jsonl"))
        if not journals:
            raise RequestError(
                f"{folder} is no record: there is no run.jsonl, which convspec check --record DIR writes"
            )
        for path in journals:
            _take(found, path)
    return found


def _take(found: Records, path: Path) -> None:
    if path.is_symlink():
        raise RecordError(path, "it must be a file, but is a link")
    run = journal.read(path)
    if run.opening.request.record is None:
        raise RecordError(path, f"it must be the journal of a run with --record ({SCHEMA})")
    results = {result.key: result for result in run.results}
    recordings: dict[tuple[Any, ...], list[Result]] = {}
    for result in results.values():
        if isinstance(kept := result.evidence.get("record"), dict) and "outputs" in kept:
            key = (result.index, result.request, result.case.dtype, result.case.device, result.precision)
            recordings.setdefault(key, []).append(result)
        else:
            found.without[_why_not(result)] += 1
    for group in recordings.values():
        found.recordings.append(_recording(path, group))
    found.environments[str(path)] = dict(run.environment)
    expected = sum(len(unit.trials) for problem in run.opening.request.problems() for unit in problem.units)
    if absent := expected - len(results):
        found.without["not reached"] += absent
    found.problems += [f"{path}: line {number} cannot be read" for number in run.unreadable]


def _why_not(result: Result) -> str:
    """Why there is no output of a result."""
    kept = result.evidence.get("record")
    if isinstance(kept, dict):
        return str(kept.get("left_out", "left out"))[:80]
    if result.verdict in ("agree", "disagree"):
        return "no arrays of its own" if result.case.data not in DATA_KINDS else "no output"
    return result.verdict


def _recording(path: Path, group: Sequence[Result]) -> Recording:
    first = group[0]
    try:
        case = Case.from_dict(first.case.to_dict())
        one_of("dtype", case.dtype, DTYPES)
        case.spec.output_shape(case.input_shape)
        trials = [
            trial_of(
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
        said = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise RecordError(path, f"case {first.case.id} by {first.request[:40]!r}: {said[:200]}") from None
    trials.sort(key=lambda trial: (LAYOUTS.index(trial.layout), DIRECTIONS.index(trial.direction)))
    by = f"against {first.request} on {case.device}"
    return Recording(case.varied(name=f"{case.name} {by}".strip()), tuple(trials))
