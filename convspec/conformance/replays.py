"""``convspec.replay``: adapters here against the recorded outputs of another run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from convspec.conformance.environment import known, local
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
    """Run what ``convspec.check(record=…)`` recorded, on the recorded inputs and weights, and compare the outputs.

    Two outputs agree where they differ by no more than the errors that both may have; those of exact data must be
    equal. The evidence of each result says how many elements differ in their bits, that of a departure which of the two
    is further from the oracle.

    Args:
        folders: of one record, or of several: the shards of a run, say.
        adapters: names; by default those that are recorded. One that is recorded is held against its own recordings,
            another one against all.
        devices: names; by default those of the recordings.
        precisions: ``"shipped"``, ``"strict"``; by default those of the recordings.
        recorded: only what these adapters recorded.
        cases: only those of these identities.

    Raises:
        RequestError: where a folder is no record, there is nothing to compare, or an adapter cannot run here.
        RecordError: where a journal of a record breaks a rule. A file of arrays that does costs its own results, which
            are errors.
        JournalError: if the journal cannot be written any more.
    """
    known("precision", precisions, PRECISIONS)
    places = [folders] if isinstance(folders, str | os.PathLike) else list(folders)
    found = load([Path(place) for place in places])
    chosen = [
        recording
        for recording in found.recordings
        if (recorded is None or recording.by in recorded) and (cases is None or recording.case.id in cases)
    ]
    if not chosen:
        made = ", ".join(sorted({recording.by for recording in found.recordings})) or "none"
        number = len({recording.case.id for recording in found.recordings})
        raise RequestError(f"there is nothing to compare with: the record has {number} cases with outputs by {made}")
    site = local(adapters or tuple(dict.fromkeys(recording.by for recording in chosen)), jobs)
    selection = Selection(
        tuple(site.adapters), devices=None if devices is None else tuple(devices), precisions=tuple(precisions or ()),
        data=tuple(dict.fromkeys(trial.data for recording in chosen for trial in recording.trials)),
    )  # fmt: skip
    about = {
        "folders": [str(place) for place in places],
        "without": dict(found.without),
        "recorded": found.environments,
    }
    request = Request(
        tuple(recording.case for recording in chosen), selection, True, timeout, memory,
        origin={"replay": about}, recordings=tuple(chosen),
    )  # fmt: skip
    report = begin(request, site, journal, progress=progress)
    return replace(report, missing=(*report.missing, *found.problems))
