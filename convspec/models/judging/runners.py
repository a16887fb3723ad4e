"""The processes of a judgement, as their parent sees them: what they may read, and what they answer."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from convspec.contract import registry
from convspec.contract.isolation import ChildError, ChildProcess, beneath
from convspec.errors import RequestError, printable
from convspec.models import arguments
from convspec.models.judging.raw_arrays import read_arrays, write_arrays
from convspec.spec import Array

_CHILD = "convspec.models.judging.child"


class RunError(Exception):
    """A model gives no result; the message says why."""


class Runner:
    """A process that runs one model: in a plain Python, or by its adapter."""

    def __init__(self, opening: dict[str, Any], seconds: float) -> None:
        self.seconds, self._ended = seconds, ""
        self._child = ChildProcess(_CHILD, threads=1, environment={"CUDA_VISIBLE_DEVICES": ""}, prefix="tmp")
        try:
            self.confined = bool(self.ask({**opening, "folder": str(self._child.folder)}).get("confined"))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._child.end()

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, request: Any) -> dict[str, Any]:
        """Return the answer to a request; raises RunError where it is an error, or none comes, now and ever after."""
        try:
            answer = self._child.ask(request, self.seconds)
        except ChildError as error:
            self._ended = str(error)
            self.close()
            raise RunError(self._ended) from None
        if not isinstance(answer, dict):
            raise RunError("the process answered with nonsense")
        if "error" in answer:
            raise RunError(printable(answer.get("message") or answer["error"], 1000))
        return answer

    def do(self, what: str, **options: Any) -> dict[str, Any]:
        return self.ask({"do": what, "with": options})

    def write(self, arrays: Sequence[Array]) -> list[tuple[str, list[int]]]:
        """Write the inputs of a request; return their forms."""
        try:
            return write_arrays(self._child.folder / "inputs", arrays)
        except OSError as error:
            words = f"its process has changed the folder of its inputs: {error.strerror}"
            raise RunError(self._ended or words) from None

    def results(self, answer: dict[str, Any]) -> list[Array]:
        """Return the arrays that an answer speaks of."""
        try:
            return read_arrays(self._child.folder / "results", answer.get("forms"))
        except (ValueError, OSError) as error:
            raise RunError(f"the process answered with nonsense: {printable(error)}") from None

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Return the model's results."""
        return self.results(self.do("run", forms=self.write(inputs)))


class PlainRunner(Runner):
    """A process that runs a model written in Python without convspec."""

    def __init__(self, opening: dict[str, Any], seconds: float, place: arguments.Named, hidden: Sequence[str]) -> None:
        script = Path(__file__).with_name("plain_host.py").read_text("utf-8")
        super().__init__({**opening, "role": "plain", "script": script}, seconds)
        calls = [(root, text, name) for name, one in registry.importable().items()
                 for root, text in one.plain_calls().items()]  # fmt: skip
        hashes = [] if self.confined else [hashlib.sha256(path.encode()).hexdigest() for path in hidden]
        opened = {
            "file": place.file,
            "module": place.module,
            "path": place.words,
            "given": place.given,
            "calls": calls,
            "hidden": hashes,
        }
        try:
            framework = self.ask(opened).get("framework")
        except BaseException:
            self.close()
            raise
        self.adapter = registry.adapter(framework if framework in {name for _, _, name in calls} else calls[0][2])

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        return self.results(self.ask({"forms": self.write(inputs)}))


# -- files -------------------------------------------------------------------------------------------------------------


def own_file(name: str) -> tuple[str, str]:
    """Return the file of a model, without links, and the folder that its imports begin from.

    Raises:
        RequestError: if there is no such file or module.
    """
    place = arguments.named(name)
    if place is None:
        return os.path.realpath(name), os.path.dirname(os.path.realpath(name))  # noqa: PTH120 – as text
    if place.file:
        return os.path.realpath(place.file), os.path.dirname(os.path.realpath(place.file))  # noqa: PTH120
    with arguments.working_folder():
        found = importlib.util.find_spec(place.module.partition(".")[0])
        origin = found.origin if found is not None else None
    if found is None:
        raise RequestError(f"there is no module {place.module!r}")
    folders = list(found.submodule_search_locations or ())
    root = Path(folders[0]).parent if folders else Path(str(origin)).parent
    own = root.joinpath(*place.module.split("."))
    file = next((p for p in (own.with_suffix(".py"), own / "__init__.py") if p.is_file()), None) or Path(str(origin))
    return os.path.realpath(file), os.path.realpath(root)


def hidden_files(source: Sequence[str], imported: Iterable[str], port: str) -> list[str]:
    """Return the files of a source, of what it imports that is not installed, and what Python keeps of them.

    The port's own file is not among them, nor are its packages: it cannot be imported without them.
    """
    installed = [os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, "/usr", Path(__file__).parents[3])]
    its = {port, *(str(folder / "__init__.py") for folder in Path(port).parents)}
    files = {*source, *(os.path.realpath(path) for path in imported if os.path.isabs(path))} - its  # noqa: PTH117
    own = [path for path in files if path in source or not path.startswith(tuple(f"{one}/" for one in installed))]
    kept = [str(p) for path in own for p in Path(path).parent.glob(f"__pycache__/{Path(path).stem}.*.pyc")]
    return sorted({*own, *kept})


def readable_paths(folder: str, hidden: Sequence[str], further: Sequence[str]) -> list[str]:
    """Return what a port's process may read: Python, its path, the port's folder, and what the user names."""
    roots = dict.fromkeys([sys.prefix, sys.base_prefix, *filter(None, sys.path), folder, *further])
    return list(dict.fromkeys(path for root in roots for path in beneath(root, hidden)))
