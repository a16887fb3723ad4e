"""Verify a graph, write it with what its source shows to be wrong set right, and verify the written graph anew."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from convspec.errors import RequestError, printable
from convspec.models.verification.report import VerifyReport
from convspec.models.verification.verifier import verify


def verify_and_repair(
    path: str | os.PathLike[str], out: str | os.PathLike[str], against: Any, inputs: Any = None, **options: Any
) -> VerifyReport:
    """Repair a graph, and return the verification of the written graph, whose ``repaired`` says what was changed.

    What can be set right is an attribute or an array of a convolution that its source layer shows. Where that helps no
    node, nothing is written, and the report is on the model as it is, ``repaired`` empty.

    Args:
        path: of the model.
        out: the file to write, another one.
        against: the source, as for :func:`~convspec.verify`, which has all other arguments.
        inputs: as for :func:`~convspec.verify`.
        options: as for :func:`~convspec.verify`.

    Raises:
        RequestError: for the model itself as ``out``, and without a source.
    """
    target = Path(out)
    if target.exists() and Path(path).exists() and target.samefile(path):
        raise RequestError(f"--repair {printable(out)} is the model itself, which is never changed: give another path")
    if against is None:
        raise RequestError("a graph can only be repaired after its source: give against")
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "repaired.onnx"
        report = verify(path, against, inputs, draft=draft, **options)
        if not report.repaired:
            return report
        written = verify(draft, against, inputs, **options)
        wrong = {node for node, _, _ in written.unexpected}
        fixed = {node for node, _, _ in report.unexpected if node != "model"} - wrong
        if not fixed:
            report.repaired = []
            return report
        shutil.copyfile(draft, target)
    written.model, written.repaired = os.fspath(out), report.repaired
    return written
