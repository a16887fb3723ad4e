"""Recorded results of other runs, and the work plan that compares adapters with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from convspec.conformance.records.array_files import check_digest
from convspec.conformance.trials.work_plan import PRECISIONS, Problem, Recipe, Recorded, Selection, Target, Trial, Unit
from convspec.corpora import DATA_KINDS, Case
from convspec.reference import VERDICTS
from convspec.spec import DIRECTIONS, LAYOUTS, ComputePrecision, format_of

_ROUNDINGS = 1 << 16  # a gradient summed in the output's format is rounded many times
_STRINGS = ("by", "device", "precision", "verdict")


@dataclass(frozen=True, slots=True)
class Recording:
    """One case as one adapter ran it on one device in one precision: its trials, each with the recorded result."""

    case: Case
    trials: tuple[Trial, ...]

    @property
    def by(self) -> str:
        """The adapter that ran it, by its name in the request."""
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
        """Return the recording JSON-ready; :meth:`from_dict` reads it."""
        trials = [{**asdict(trial), "recorded": asdict(trial.recorded)} for trial in self.trials if trial.recorded]
        return {**self.case.to_dict(), "trials": trials}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recording:
        """Read what :meth:`to_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: if ``data`` is not a recording.
        """
        return cls(Case.from_dict(data), tuple(read_trial(entry, entry["recorded"]) for entry in data["trials"]))


def read_trial(entry: Mapping[str, Any], recorded: Mapping[str, Any]) -> Trial:
    """Read a trial and its recorded result from untrusted JSON."""
    for key, names in {"layout": LAYOUTS, "data": DATA_KINDS, "direction": DIRECTIONS}.items():
        require_one_of(key, entry[key], names)
    require_one_of("precision", recorded["precision"], PRECISIONS)
    require_one_of("verdict", recorded["verdict"], VERDICTS)
    gap = recorded.get("gap")
    for key, value in (*((key, recorded[key]) for key in (*_STRINGS, "folder")), *([("gap", gap)] if gap else [])):
        if not isinstance(value, str):
            raise TypeError(f"{key}={value!r} must be a string")
    digests = check_digest(recorded["inputs"]), check_digest(recorded["outputs"])
    strings = {key: recorded[key] for key in _STRINGS}
    precision = _compute_precision(recorded["arithmetic"])
    result = Recorded(recorded["folder"], *digests, arithmetic=precision, gap=gap, **strings)
    return Trial(entry["layout"], entry["data"], entry["direction"], result)


def _compute_precision(data: Mapping[str, Any]) -> ComputePrecision:
    precision = ComputePrecision(**{entry.name: data[entry.name] for entry in fields(ComputePrecision)})
    for name in (precision.accumulator, *(name for name in (precision.inputs, precision.stored) if name is not None)):
        format_of(str(name))
    if type(precision.flushes_subnormals) is not bool:
        raise TypeError(f"flushes_subnormals={str(precision.flushes_subnormals)[:40]} must be true or false")
    if type(precision.output_roundings) is not int or not 1 <= precision.output_roundings <= _ROUNDINGS:
        raise ValueError(f"output_roundings={precision.output_roundings!r} must be from 1 to {_ROUNDINGS}")
    return precision


def require_one_of(key: str, value: Any, names: Sequence[str]) -> None:
    """Raise ValueError for a value that is not among the names."""
    if value not in names:
        raise ValueError(f"{key}={str(value)[:40]!r} must be one of {', '.join(names)}")


def plan_replay(recordings: Sequence[Recording], selection: Selection) -> Iterator[Problem]:
    """Yield the work that compares the selection's adapters with recordings, one kind of data at a time.

    An adapter is compared with its own recordings, or with all of them if it has none. Devices and precisions are
    those of the recordings unless the selection has some.
    """
    recorded_adapters = {recording.by for recording in recordings}
    for index, recording in sorted(enumerate(recordings), key=lambda entry: entry[1].case.dtype):
        requests = [name for name in selection.requests if name == recording.by or name not in recorded_adapters]
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
