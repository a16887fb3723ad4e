"""Check an adapter against the contract before any case runs, in a child process that may crash or hang."""

from __future__ import annotations

import json
import traceback
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from convspec.conformance.validation.runtime_checks import RUNNING
from convspec.conformance.validation.static_checks import STATIC, Broken, Promise
from convspec.contract import registry
from convspec.contract.isolation import ChildError, ChildProcess, encode, send

TIMEOUT = 300.0


@dataclass(frozen=True, slots=True)
class Checked:
    """One promise and whether the adapter keeps it; None: not checked, with the reason."""

    id: str
    title: str
    kept: bool | None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def validate(name: str, timeout: float = TIMEOUT) -> list[Checked]:
    """Check an adapter against every promise of :class:`convspec.contract.protocol.Adapter`.

    Args:
        name: as for :func:`convspec.adapter`: that of an entry point, or ``"package.module:OBJECT"``.
        timeout: seconds for all promises together.

    Raises:
        UnknownName, RequestError: if no such adapter exists.
    """
    registry.adapter(name)
    checked: list[Checked] = []
    with ChildProcess(__name__) as child:
        child.send(name)
        try:
            for _, message in zip((*STATIC, *RUNNING), child.messages(timeout), strict=False):
                checked.append(Checked(**message))
        except ChildError as error:
            checked += (Checked(p.id, p.title, False, str(error)) for p in (*STATIC, *RUNNING)[len(checked) :])
    return checked


def serve(requests: BinaryIO, replies: int) -> None:
    """Check every promise of the adapter whose name is the request; one message for each."""
    name = json.loads(requests.readline())
    adapter = registry.adapter(name)
    absence = registry.absence(adapter)
    for promise in (*STATIC, *RUNNING):
        if promise in RUNNING and absence:
            checked = Checked(promise.id, promise.title, None, absence)
        else:
            checked = _check(promise, adapter, name)
        send(replies, encode(checked.to_dict()))


def _check(promise: Promise, adapter: Any, name: str) -> Checked:
    try:
        promise.check(adapter, name)
    except Broken as broken:
        return Checked(promise.id, promise.title, False, str(broken))
    except Exception as error:  # noqa: BLE001 – an adapter may raise anything, and the report names it
        place = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return Checked(promise.id, promise.title, False, f"{message} ({place.filename}:{place.lineno})")
    return Checked(promise.id, promise.title, True)
