"""JSON documents: layout, and writing to files."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convspec.errors import RequestError

if TYPE_CHECKING:
    from convspec.conformance import Report


def text(report: Report) -> str:
    """The report as JSON of schema ``convspec.report/1``; NaN and infinity are strings in it already."""
    return dumps(report.to_dict())


def dumps(document: Any) -> str:
    """JSON with one line for each entry of a top-level list, so that files can be compared line by line."""
    lines = []
    for key, value in document.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            entries = ",\n  ".join(_compact(entry) for entry in value)
            lines.append(f"{json.dumps(key)}: [\n  {entries}\n ]")
        else:
            lines.append(f"{json.dumps(key)}: {_compact(value)}")
    return "{\n " + ",\n ".join(lines) + "\n}\n"


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def write(content: str, path: str) -> None:
    """Write the text to a file atomically, or to standard output if the path is ``-``.

    Raises:
        RequestError: if the file cannot be written.
    """
    if path == "-":
        sys.stdout.write(content)
        return
    target = Path(path)
    try:
        descriptor, part = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        Path(part).chmod(0o644)
        Path(part).replace(target)
    except OSError as error:
        raise RequestError(f"cannot write {path}: {error.strerror}") from None


def writable(path: str | None) -> None:
    """Check before a long run that its report can be written.

    Raises:
        RequestError: if the folder does not exist or is not writable.
    """
    if path in (None, "-"):
        return
    folder = Path(path).absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise RequestError(f"cannot write {path}: {folder} is not a writable folder")
