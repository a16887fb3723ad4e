"""Load a model, and run it on the inputs that arrive: a script of its own, whose process does not import convspec.

``python SCRIPT REQUESTS REPLIES`` reads a line of JSON for each request and writes one for each answer; arrays are raw
bytes in files of the working directory. The first request says where the model is, and how each framework's models are
called; each further one has the forms of a run's inputs.
"""

import hashlib
import importlib
import importlib.util
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Answer until the pipe is closed."""
    requests, replies = os.fdopen(int(sys.argv[1]), "rb"), int(sys.argv[2])
    del sys.argv[1:]
    host: Host | None = None
    for line in requests:
        request = json.loads(line)
        try:
            if host is None:
                host = Host(request)
                answer: dict[str, Any] = {"framework": host.framework}
            else:
                answer = {"forms": host.run(request["forms"])}
        except BaseException as error:  # noqa: BLE001 – also sys.exit
            answer = {"error": f"{type(error).__name__}: {error}"[:1000]}
        data = json.dumps(answer).encode() + b"\n"
        while data:
            data = data[os.write(replies, data) :]


class Host:
    """A loaded model, and the function that calls models of its framework."""

    def __init__(self, opening: dict[str, Any]) -> None:
        _hide(set(opening["hidden"]))
        model = _named(opening["file"], opening["module"], opening["path"])
        found = _framework(model, opening["calls"])
        if opening["given"] or isinstance(model, type) or (found is None and callable(model)):
            args, kwargs = opening["given"] or ((), {})
            model = model(*args, **kwargs)
            found = _framework(model, opening["calls"])
        if found is None:
            raise TypeError(f"{type(model).__module__}.{type(model).__qualname__} is no model of a framework")
        self.model, (_, text, self.framework) = model, found
        words: dict[str, Any] = {}
        exec(text, words)
        self.call = words["call"]

    def run(self, forms: list[Any]) -> list[Any]:
        """Run the model on the arrays in the file ``inputs``, and write ``results``; return the form of each."""
        with Path("inputs").open("rb") as file:
            arrays = [np.frombuffer(file.read(_size(form)), form[0]).reshape(form[1]).copy() for form in forms]
        results = [np.ascontiguousarray(y).reshape(np.shape(y)) for y in _leaves(self.call(self.model, arrays))]
        with Path("results").open("wb") as file:
            file.writelines(y.tobytes() for y in results)
        return [[y.dtype.name, list(y.shape)] for y in results]


def _framework(model: Any, calls: list[Any]) -> Any:
    kind = type(model[0]) if isinstance(model, tuple) and model else type(model)
    bases = [f"{base.__module__}." for base in kind.__mro__]
    return next((one for base in bases for one in calls if base.startswith(f"{one[0]}.")), None)


def _size(form: Any) -> int:
    return int(math.prod(form[1]) * np.dtype(form[0]).itemsize)


def _named(file: str, module: str, path: list[str]) -> Any:
    found: Any
    if file:
        spec: Any = importlib.util.spec_from_file_location(module, file)
        found = sys.modules[module] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
    else:
        found = importlib.import_module(module)
    for word in path:
        found = getattr(found, word)
    return found


def _leaves(y: Any) -> list[Any]:
    """Return the arrays of a result in order; of a plain dictionary in the order of its keys."""
    if isinstance(y, dict):
        return [leaf for key in (sorted(y) if type(y) is dict else y) for leaf in _leaves(y[key])]
    if isinstance(y, list | tuple):
        return [leaf for one in y for leaf in _leaves(one)]
    return [] if y is None else [np.asarray(y)]


def _hide(hashes: set[str]) -> None:
    """Refuse files by the hashes of their paths, where the kernel does not."""

    def hook(event: str, arguments: Any) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if hashlib.sha256(path.encode()).hexdigest() in hashes:
                raise PermissionError(13, "Permission denied", path)

    if hashes:
        sys.addaudithook(hook)


if __name__ == "__main__":
    main()
