"""Write a new adapter's package from the templates beside this file."""

from __future__ import annotations

import keyword
import re
import shutil
from pathlib import Path
from string import Template

from convspec.errors import RequestError, StorageError

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_FOLDERS = {"pyproject.toml": "", "README.md": "", "test_conformance.py": "tests"}


def create(name: str, parent: str | Path = ".") -> list[Path]:
    """Write ``convspec-<name>/``, a distribution with one adapter that lacks only the framework's own calls.

    Args:
        name: of the adapter, lower case with dashes; also taken as the framework's import name.
        parent: folder of the new one.

    Returns:
        The files that were written.

    Raises:
        RequestError: for a bad name, and where the folder exists already.
        StorageError: if it cannot be written; nothing is left of it then.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise RequestError(f"name={name!r} must be lower-case words with dashes between, like 'my-framework'")
    root = Path(parent) / f"convspec-{name}"
    if root.exists():
        raise RequestError(f"{root} already exists: take another name or folder")
    module = name.replace("-", "_")
    words = {"name": name, "framework": module, "package": f"convspec_{module}"}
    try:
        return _write(root, words)
    except OSError as error:
        shutil.rmtree(root, ignore_errors=True)
        raise StorageError(f"cannot write {root}: {error.strerror}") from None


def _write(root: Path, words: dict[str, str]) -> list[Path]:
    """Write the package, and return its files."""
    from importlib.resources import files

    written = []
    for template in sorted(files(__package__).iterdir(), key=lambda entry: entry.name):
        if not template.name.endswith(".txt"):
            continue
        target = template.name.removesuffix(".txt")
        path = root / _FOLDERS.get(target, f"src/{words['package']}") / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Template(template.read_text("utf-8")).substitute(words), "utf-8")
        written.append(path)
    return written
