"""Import convspec with a fault, or with counters, in every process of a self-mutation run.

``SELF_MUTANT`` is the mutated file and the file that has its text. ``SELF_MUTATION_MAP`` is a folder: ``files`` names
the files to instrument, with the number of the first block; ``hits`` gets a line for each test
(``SELF_MUTATION_TEST``) and block. Python imports this module at its start, as its folder is in PYTHONPATH.
"""

import builtins
import contextlib
import functools
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path


class _Loader(SourceFileLoader):
    def get_code(self, fullname):
        del fullname
        return compile(_changed(self.path), self.path, "exec", dont_inherit=True)


class _Finder:
    @staticmethod
    def find_spec(name: str, path=None, target=None) -> ModuleSpec | None:
        if not name.startswith("convspec"):
            return None
        found = PathFinder.find_spec(name, path, target)
        if found is not None and found.origin and _is_changed(found.origin):
            found.loader = _Loader(name, found.origin)
        return found


def _is_changed(file: str) -> bool:
    return file == os.environ.get("SELF_MUTANT", "").partition("\t")[0] or file in _mapped()


def _changed(file: str):
    mutated, _, text = os.environ.get("SELF_MUTANT", "").partition("\t")
    if file == mutated:
        return Path(text).read_text("utf-8")
    from self_mutants.blocks import instrument

    return instrument(Path(file).read_text("utf-8"), file, _mapped()[file])


@functools.cache
def _mapped() -> dict[str, int]:
    folder = os.environ.get("SELF_MUTATION_MAP")
    lines = (Path(folder) / "files").read_text("utf-8").splitlines() if folder else []
    return {file: int(first) for file, first, _ in (line.split("\t") for line in lines)}


_seen = set()


def _hit(number, *, _open=os.open, _write=os.write, _close=os.close, _environ=os.environ):
    test = _environ.get("SELF_MUTATION_TEST", "")
    if (test, number) not in _seen:
        _seen.add((test, number))
        with contextlib.suppress(OSError):  # a test may limit what its processes can write
            file = _open(_HITS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            _write(file, f"{test} {number}\n".encode())
            _close(file)


if "SELF_MUTANT" in os.environ or "SELF_MUTATION_MAP" in os.environ:
    sys.meta_path.insert(0, _Finder)
if "SELF_MUTATION_MAP" in os.environ:
    _HITS = str(Path(os.environ["SELF_MUTATION_MAP"]) / "hits")
    builtins.__block_runs__ = _hit
