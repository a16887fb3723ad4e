"""An adapter against the contract, before any case runs; in a process of its own, which may crash or hang."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from dataclasses import asdict, dataclass
from typing import Any

from convspec.conformance.execution.worker_handle import ended
from convspec.conformance.validation.runtime_checks import RUNNING
from convspec.conformance.validation.static_checks import STATIC, Broken, Promise
from convspec.contract import registry

TIMEOUT = 300.0


@dataclass(frozen=True, slots=True)
class Checked:
    """One promise, and whether it is kept; None: not tried, with the reason."""

    id: str
    title: str
    kept: bool | None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def validate(name: str, timeout: float = TIMEOUT) -> list[Checked]:
    """Hold an adapter against every promise of :class:`convspec.contract.protocol.Adapter`.

    Args:
        name: as for :func:`convspec.adapter`: that of an entry point, or ``"package.module:OBJECT"``.
        timeout: seconds for all promises together.

    Raises:
        UnknownName, RequestError: where there is no such adapter.
    """
    registry.adapter(name)
    command = [sys.executable, "-P", "-m", "convspec.conformance.validation.validate", name]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    options: dict[str, Any] = {"env": environment, "stdin": subprocess.DEVNULL, "capture_output": True}
    try:
        done = subprocess.run(command, text=True, timeout=timeout, check=False, **options)
        lines, ending = done.stdout, ended(done.returncode) if done.returncode else ""
        words = done.stderr.strip().splitlines()[-1:]
    except subprocess.TimeoutExpired as error:
        out = error.stdout or b""
        lines, ending, words = out.decode() if isinstance(out, bytes) else out, f"no answer within {timeout:g} s", []
    found = {line["id"]: Checked(**line) for line in map(json.loads, lines.splitlines())}
    return [found.get(p.id) or _unreached(p, ": ".join([ending, *words])) for p in (*STATIC, *RUNNING)]


def _unreached(promise: Promise, reason: str) -> Checked:
    return Checked(promise.id, promise.title, False, reason)


def main() -> None:
    """Check every promise of the adapter named on the command line; one JSON line each on standard output."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the framework prints is not ours
    name = sys.argv[1]
    adapter = registry.adapter(name)
    absence = registry.absence(adapter)
    for promise in (*STATIC, *RUNNING):
        if promise in RUNNING and absence:
            checked = Checked(promise.id, promise.title, None, absence)
        else:
            checked = _checked(promise, adapter, name)
        out.write(json.dumps(checked.to_dict()) + "\n")
        out.flush()
    os._exit(0)


def _checked(promise: Promise, adapter: Any, name: str) -> Checked:
    try:
        promise.check(adapter, name)
    except Broken as broken:
        return Checked(promise.id, promise.title, False, str(broken))
    except Exception as error:  # noqa: BLE001 – what an adapter raises is what is reported of it
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return Checked(promise.id, promise.title, False, f"{said} ({where.filename}:{where.lineno})")
    return Checked(promise.id, promise.title, True)


if __name__ == "__main__":
    main()
