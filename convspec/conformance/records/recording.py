"""What is in the records of other runs, and the plan of work that holds adapters here against it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from convspec.conformance.records.write import digest
from convspec.conformance.trials.work_plan import PRECISIONS, Problem, Recipe, Recorded, Selection, Target, Trial, Unit
from convspec.corpora import DATA_KINDS, Case
from convspec.reference import VERDICTS
from convspec.spec import DIRECTIONS, LAYOUTS, ComputePrecision, format_of

if TYPE_CHECKING:
    pass

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
        return cls(Case.from_dict(data), tuple(trial_of(entry, entry["recorded"]) for entry in data["trials"]))


def trial_of(entry: Mapping[str, Any], recorded: Mapping[str, Any]) -> Trial:
    """A trial with its recorded result, from JSON that anybody may have written."""
    known = {"layout": LAYOUTS, "data": DATA_KINDS, "direction": DIRECTIONS}
    for key, names in known.items():
        one_of(key, entry[key], names)
    one_of("precision", recorded["precision"], PRECISIONS)
    one_of("verdict", recorded["verdict"], VERDICTS)
    gap = recorded.get("gap")
    for key, value in (*((key, recorded[key]) for key in (*_WORDS, "folder")), *([("gap", gap)] if gap else [])):
        if not isinstance(value, str):
            raise TypeError(f"{key}={value!r} must be a text")
    files = digest(recorded["inputs"]), digest(recorded["outputs"])
    words = {key: recorded[key] for key in _WORDS}
    found = Recorded(recorded["folder"], *files, arithmetic=_arithmetic(recorded["arithmetic"]), gap=gap, **words)
    return Trial(entry["layout"], entry["data"], entry["direction"], found)


def _arithmetic(data: Mapping[str, Any]) -> ComputePrecision:
    found = ComputePrecision(**{entry.name: data[entry.name] for entry in fields(ComputePrecision)})
    for name in (found.accumulator, *(name for name in (found.inputs, found.stored) if name is not None)):
        format_of(str(name))
    if type(found.flushes_subnormals) is not bool:
        raise TypeError(f"flushes_subnormals={str(found.flushes_subnormals)[:40]} must be true or false")
    if type(found.output_roundings) is not int or not 1 <= found.output_roundings <= _ROUNDINGS:
        raise ValueError(f"output_roundings={found.output_roundings!r} must be from 1 to {_ROUNDINGS}")
    return found


def one_of(key: str, value: Any, names: Sequence[str]) -> None:
    if value not in names:
        raise ValueError(f"{key}={str(value)[:40]!r} must be one of {', '.join(names)}")


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
