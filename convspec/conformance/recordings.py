"""What is in the records of other runs, and the plan of work that holds adapters here against it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convspec.cases import DATA_KINDS, Case
from convspec.conformance.recording import SCHEMA, digest
from convspec.conformance.units import PRECISIONS, Problem, Recipe, Recorded, Selection, Target, Trial, Unit
from convspec.contract import DIRECTIONS, Arithmetic
from convspec.dtypes import DTYPES, format_of
from convspec.errors import ConvspecError, RecordError, RequestError
from convspec.layouts import LAYOUTS
from convspec.verdict import VERDICTS

if TYPE_CHECKING:
    from convspec.conformance.results import Result

_ROUNDINGS = 1 << 16  # gradients that are summed in the output's format are rounded many times
_WORDS = ("by", "device", "precision", "verdict")


@dataclass(frozen=True, slots=True)
class Recording:
    """One case as one adapter ran it, on one device in one precision: its trials, each with what came out."""

    case: Case
    trials: tuple[Trial, ...]

    @property
    def by(self) -> str:
        """The adapter that made it, as it was asked for."""
        return self._recorded.by

    @property
    def precision(self) -> str:
        return self._recorded.precision

    @property
    def _recorded(self) -> Recorded:
        recorded = self.trials[0].recorded
        assert recorded is not None
        return recorded

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; :meth:`from_dict` reads it back."""
        trials = [{**asdict(trial), "recorded": asdict(trial.recorded)} for trial in self.trials if trial.recorded]
        return {**self.case.to_dict(), "trials": trials}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recording:
        """The recording that :meth:`to_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: where it is none.
        """
        return cls(Case.from_dict(data), tuple(_trial(entry, entry["recorded"]) for entry in data["trials"]))


def _trial(entry: Mapping[str, Any], recorded: Mapping[str, Any]) -> Trial:
    """A trial with its recorded result, from JSON that anybody may have written."""
    known = {"layout": LAYOUTS, "data": DATA_KINDS, "direction": DIRECTIONS}
    for key, names in known.items():
        _one_of(key, entry[key], names)
    _one_of("precision", recorded["precision"], PRECISIONS)
    _one_of("verdict", recorded["verdict"], VERDICTS)
    gap = recorded.get("gap")
    for key, value in (*((key, recorded[key]) for key in (*_WORDS, "folder")), *([("gap", gap)] if gap else [])):
        if not isinstance(value, str):
            raise TypeError(f"{key}={value!r} must be a text")
    files = digest(recorded["inputs"]), digest(recorded["outputs"])
    words = {key: recorded[key] for key in _WORDS}
    found = Recorded(recorded["folder"], *files, arithmetic=_arithmetic(recorded["arithmetic"]), gap=gap, **words)
    return Trial(entry["layout"], entry["data"], entry["direction"], found)


def _arithmetic(data: Mapping[str, Any]) -> Arithmetic:
    found = Arithmetic(**{entry.name: data[entry.name] for entry in fields(Arithmetic)})
    for name in (found.accumulator, *(name for name in (found.inputs, found.stored) if name is not None)):
        format_of(str(name))
    if type(found.flushes_subnormals) is not bool:
        raise TypeError(f"flushes_subnormals={str(found.flushes_subnormals)[:40]} must be true or false")
    if type(found.output_roundings) is not int or not 1 <= found.output_roundings <= _ROUNDINGS:
        raise ValueError(f"output_roundings={found.output_roundings!r} must be from 1 to {_ROUNDINGS}")
    return found


def _one_of(key: str, value: Any, names: Sequence[str]) -> None:
    if value not in names:
        raise ValueError(f"{key}={str(value)[:40]!r} must be one of {', '.join(names)}")


# -- reading records ---------------------------------------------------------------------------------------------------


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
    from convspec.conformance import journal

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
        _one_of("dtype", case.dtype, DTYPES)
        case.spec.output_shape(case.input_shape)
        trials = [
            _trial(
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


# -- the plan ----------------------------------------------------------------------------------------------------------


def problems(recordings: Sequence[Recording], selection: Selection) -> Iterator[Problem]:
    """The work that holds the selection's adapters against recordings, a kind of data at a time.

    An adapter that is in the record is held against its own recordings, another one against all. Devices and
    precisions are those of the recordings where the selection has none.
    """
    known = {recording.by for recording in recordings}
    for index, recording in sorted(enumerate(recordings), key=lambda entry: entry[1].case.dtype):
        requests = [name for name in selection.requests if name == recording.by or name not in known]
        groups: dict[Recipe, list[Trial]] = {}
        for trial in recording.trials:
            groups.setdefault(trial.recipe, []).append(trial)
        targets = [
            Target(request, recording.case.dtype, device, precision)
            for device in selection.devices or (recording.case.device,)
            for request in requests
            for precision in selection.precisions or (recording.precision,)
        ]
        for trials in groups.values() if targets else ():
            units = (Unit(index, recording.case, target, tuple(trials)) for target in targets)
            yield Problem(recording.case, tuple(units), shared=len(targets) > 1)
