"""``convspec.replay``: compare adapters with the recorded outputs of another run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from convspec.conformance.environment import local_installation, require_known
from convspec.conformance.records.load import load
from convspec.conformance.request import Request
from convspec.conformance.results import Report
from convspec.conformance.runner import TIMEOUT, Progress, begin
from convspec.conformance.trials.work_plan import PRECISIONS, Selection
from convspec.errors import RequestError


def replay(
    folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    adapters: Sequence[str] | None = None,
    devices: Sequence[str] | None = None,
    *,
    precisions: Sequence[str] | None = None,
    recorded: Sequence[str] | None = None,
    cases: Sequence[str] | None = None,
    jobs: int | None = None,
    timeout: float = TIMEOUT,
    memory: int | None = None,
    journal: str | os.PathLike[str] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Run the layers that ``convspec.check(record=…)`` recorded, on the recorded arrays, and compare the outputs.

    Two outputs agree if they differ by no more than the error bounds of both; outputs of exact data must be equal. The
    evidence of each result has the number of elements with different bits, and for a mismatch which of the two is
    further from the oracle.

    Args:
        folders: of one record, or of several, e.g. the shards of a run.
        adapters: names; by default the recorded adapters. An adapter is compared with its own recorded results, or
            with all of them if it has none.
        devices: names; by default the recorded devices.
        precisions: ``"shipped"``, ``"strict"``; by default the recorded precisions.
        recorded: use only the results recorded by these adapters.
        cases: use only the cases with these ids.

    Raises:
        RequestError: if a folder is not a record, there is nothing to compare, or an adapter cannot run here.
        RecordError: if a journal of a record breaks a rule. A damaged array file makes its own results errors.
        JournalError: if the journal can no longer be written.
    """
    require_known("precision", precisions, PRECISIONS)
    paths = [folders] if isinstance(folders, str | os.PathLike) else list(folders)
    records = load([Path(path) for path in paths])
    chosen = [
        recording
        for recording in records.recordings
        if (recorded is None or recording.by in recorded) and (cases is None or recording.case.id in cases)
    ]
    if not chosen:
        made = ", ".join(sorted({recording.by for recording in records.recordings})) or "none"
        number = len({recording.case.id for recording in records.recordings})
        raise RequestError(f"nothing to compare with: the record has {number} cases with outputs by {made}")
    installation = local_installation(adapters or tuple(dict.fromkeys(recording.by for recording in chosen)), jobs)
    selection = Selection(
        tuple(installation.adapters),
        devices=None if devices is None else tuple(devices),
        precisions=tuple(precisions or ()),
        data=tuple(dict.fromkeys(trial.data for recording in chosen for trial in recording.trials)),
    )
    about = {
        "folders": [str(path) for path in paths],
        "without": dict(records.without),
        "recorded": records.environments,
    }
    request = Request(
        tuple(recording.case for recording in chosen), selection, True, timeout, memory,
        origin={"replay": about}, recordings=tuple(chosen),
    )  # fmt: skip
    report = begin(request, installation, journal, progress=progress)
    return replace(report, missing=(*report.missing, *records.problems))
