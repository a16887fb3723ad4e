"""The messages between scheduler and workers: one JSON value per line.

To the worker: first ``{"target": …, "threads": n, "memory": bytes or null, "cores": numbers}``, then units. From the
worker: first ``{"ready": process}``, ``{"absent": reason}`` or ``{"failed": reason}``; then one line per trial, in the
order of the unit's trials, preceded by :data:`ARRAYS_COMPUTED` if the unit was sent without arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from convspec.conformance.checks.checks import Outcome
from convspec.conformance.execution.shared_arrays import SharedArrays
from convspec.conformance.trials.work_plan import Recorded, RecordFolder, Target, Trial, Unit
from convspec.corpora import Case
from convspec.spec import ComputePrecision, ConvSpec

ARRAYS_COMPUTED = "arrays computed"  # the worker has computed the arrays itself, and runs the framework next


def unit_to_json(unit: Unit, arrays: SharedArrays) -> dict[str, Any]:
    case = unit.case
    trials = [(t.layout, t.data, t.direction, None if t.recorded is None else asdict(t.recorded)) for t in unit.trials]
    return {
        "spec": case.spec.to_dict(), "input_shape": case.input_shape, "seed": case.seed, "trials": trials,
        "record": None if unit.record is None else asdict(unit.record), "arrays": arrays.to_json(),
    }  # fmt: skip


def unit_from_json(data: dict[str, Any], target: Target) -> tuple[Unit, SharedArrays]:
    spec = ConvSpec._of(data["spec"])
    case = Case(spec, tuple(data["input_shape"]), dtype=target.dtype, device=target.device, seed=data["seed"])
    trials = tuple(_trial(trial) for trial in data["trials"])
    record = None if data["record"] is None else RecordFolder(**data["record"])
    return Unit(0, case, target, trials, record), SharedArrays.from_json(data["arrays"])


def _trial(data: Sequence[Any]) -> Trial:
    layout, kind, direction, recorded = data
    if recorded is not None:
        recorded = Recorded(**{**recorded, "arithmetic": ComputePrecision(**recorded["arithmetic"])})
    return Trial(layout, kind, direction, recorded)


def outcome_to_json(outcome: Outcome) -> list[Any]:
    return [
        outcome.support, outcome.support_reason, outcome.verdict, outcome.reason, outcome.accuracy_class,
        outcome.evidence, round(outcome.seconds, 6),
    ]  # fmt: skip
