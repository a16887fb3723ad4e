"""Load corpora by name or path, draw samples from them, and write them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

from convspec.corpora.architectures import cases as architecture_cases
from convspec.corpora.cases import Case
from convspec.corpora.jsonl import read, read_stdin
from convspec.errors import CorpusError, RequestError, UnknownName
from convspec.spec import ConvSpec

_FOLDER = Path(__file__).parent
_FILES = {
    "features": "features.jsonl",
    "regressions": "regressions.jsonl",
    "pairwise": "pairwise.jsonl",
    "threewise": "threewise.jsonl.gz",
    "timm": "timm.jsonl.gz",
}


def names() -> tuple[str, ...]:
    """The names of the corpora."""
    return ("tutorial", "features", "pairwise", "threewise", "regressions", "architectures", "timm")


def load(name_or_path: str | os.PathLike[str]) -> list[Case]:
    """Load a corpus: one of :func:`names`, a file of JSON Lines (gzipped or not), or ``"-"``, standard input.

    Raises:
        UnknownName: if it is neither a known name nor looks like a path.
        CorpusError: if the file cannot be read or one of its lines is malformed.
    """
    name = os.fspath(name_or_path)
    if name == "tutorial":
        return _tutorial()
    if name == "architectures":
        return architecture_cases()
    if name in _FILES:
        return read(_FOLDER / _FILES[name])
    if name == "-":
        return read_stdin()
    if not Path(name).exists():
        if isinstance(name_or_path, str) and not Path(name).suffix and Path(name).name == name:
            raise UnknownName("corpus", name, names())
        raise CorpusError(f"{name}: file not found")
    return read(Path(name))


def sample(cases: Sequence[Case], n: int, seed: int = 0) -> list[Case]:
    """Draw ``n`` cases, in their order; the same for the same seed on every machine, and part of any larger sample.

    Raises:
        RequestError: if ``n`` is negative.
    """
    if n < 0:
        raise RequestError(f"sample size {n} must be at least 0")

    def lot(index: int) -> tuple[str, int]:
        return sha256(f"{seed} {cases[index].id}".encode()).hexdigest(), index

    return [cases[i] for i in sorted(sorted(range(len(cases)), key=lot)[:n])]


def dump(cases: Iterable[Case]) -> str:
    """Return the cases as JSON Lines, which :func:`load` reads from a file."""
    return "".join(case.to_json() + "\n" for case in cases)


def _tutorial() -> list[Case]:
    return [
        Case(ConvSpec(1, 32, 3, padding=1), (1, 1, 28, 28), name="grey image 28x28, 32 filters"),
        Case(ConvSpec(3, 16, 3, stride=2, padding=1), (1, 3, 32, 32), name="colour image 32x32, stride 2"),
        Case(ConvSpec(3, 128, 5, padding=2), (1, 3, 64, 64), name="colour image 64x64, 128 filters"),
    ]
