"""The worker's side: run the units of one adapter and send their outcomes.

The scheduler starts it through :mod:`convspec.contract.isolation.child`.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Any, BinaryIO

from convspec.conformance.checks.checks import first_line, outcomes
from convspec.conformance.checks.expected import given
from convspec.conformance.execution import messages
from convspec.conformance.trials.work_plan import Target
from convspec.contract import Adapter, registry
from convspec.contract.isolation import EXIT_STATUS, encode, limit_memory, out_of_memory, send
from convspec.errors import FrameworkAbsent, printable

_SLACK = 1 << 30  # bytes that frameworks allocate and never touch; the scheduler measures what they touch


def serve(requests: BinaryIO, replies: int) -> None:
    """Serve units until the scheduler closes the pipe or ends."""
    opening = json.loads(requests.readline())
    target = Target(*opening["target"])
    if opening["cores"]:
        os.sched_setaffinity(0, opening["cores"])
    adapter, reply = _start(target, opening["adapter"], opening["threads"])
    limited = opening["memory"] is not None and target.device == "cpu"  # drivers reserve more than exists
    if limited:
        limit_memory(opening["memory"] + _SLACK)
    gc.freeze()  # spares every full collection the framework's objects, some hundred thousand
    send(replies, encode(reply))
    if adapter is not None:
        _serve(adapter, target, requests, replies, limited=limited)


def _serve(adapter: Adapter, target: Target, requests: BinaryIO, replies: int, *, limited: bool) -> None:
    for request in requests:
        unit, shared = messages.unit_from_json(json.loads(request), target)
        arrays = shared.read()
        if arrays is None:
            arrays = given(unit.case, unit.recipes)
            send(replies, encode(messages.ARRAYS_COMPUTED))
        for outcome in outcomes(adapter, unit, arrays):
            if limited and outcome.verdict == "error" and out_of_memory(outcome.reason):
                # earlier layers may hold the memory that this one needs: a fresh worker decides
                sys.stderr.write(f"{outcome.reason}\n")
                sys.stderr.flush()
                os._exit(EXIT_STATUS)
            send(replies, encode(messages.outcome_to_json(outcome)))


def _start(target: Target, place: list[str] | None, threads: int) -> tuple[Adapter | None, dict[str, Any]]:
    """Return the configured adapter, or None, and the message to the scheduler."""
    try:
        adapter = registry.load_at(*place) if place else registry.adapter(target.request)
        adapter.configure(dtype=target.dtype, device=target.device, precision=target.precision, threads=threads)
        devices = adapter.devices()
    except FrameworkAbsent as error:
        return None, {"absent": str(error)}
    except Exception as error:  # noqa: BLE001 – the scheduler reports it for every case of this adapter
        return None, {"failed": first_line(error)}
    if not isinstance(devices, tuple | list) or not all(isinstance(device, str) for device in devices):
        return None, {"failed": f"devices() must return a tuple of strings, got {printable(repr(devices), 80)}"}
    if target.device not in devices:
        return None, {
            "absent": f"adapter {adapter.name!r} has no device {target.device!r} here, only {', '.join(devices)}"
        }
    return adapter, {"ready": os.getpid()}
