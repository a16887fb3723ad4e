"""What a worker does: run the units of one adapter and send their outcomes.

Its process is :mod:`convspec.contract.isolation.child`, started by the runner: requests come on standard input,
outcomes leave on standard output as it was at the start.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

from convspec.conformance.checks.checks import outcomes
from convspec.conformance.checks.expected import given
from convspec.conformance.execution import messages
from convspec.conformance.trials.run_layer import first_line
from convspec.conformance.trials.work_plan import Target
from convspec.contract import adapter as find
from convspec.contract.isolation import memory_limit, send
from convspec.errors import FrameworkAbsent

if TYPE_CHECKING:
    from convspec.contract import Adapter


def serve(requests: BinaryIO, replies: int) -> None:
    """Serve units until the runner closes the pipe or is gone."""
    opening = json.loads(requests.readline())
    target = Target(*opening["target"])
    if opening["cores"]:
        os.sched_setaffinity(0, opening["cores"])
    adapter, reply = _start(target, opening["threads"])
    limited = opening["memory"] is not None and target.device == "cpu"  # drivers reserve more than there is
    if limited:
        memory_limit.confine(opening["memory"])
    gc.freeze()  # a framework has some hundred thousand objects, which every full collection would look at in vain
    send(replies, messages.line(reply))
    if adapter is not None:
        _serve(adapter, target, requests, replies, limited=limited)


def _serve(adapter: Adapter, target: Target, requests: BinaryIO, replies: int, *, limited: bool) -> None:
    for request in requests:
        unit, bundle = messages.unit_from_json(json.loads(request), target)
        made = bundle.read()
        if made is None:
            made = given(unit.case, unit.recipes)
            send(replies, messages.line(messages.GIVEN))
        for outcome in outcomes(adapter, unit, made):
            if limited and outcome.verdict == "error" and memory_limit.refused(outcome.reason):
                sys.stderr.write(f"{outcome.reason}\n")  # what it could not take, others have: a fresh worker decides
                sys.stderr.flush()
                os._exit(memory_limit.EXIT_STATUS)
            send(replies, messages.line(messages.outcome_to_json(outcome)))


def _start(target: Target, threads: int) -> tuple[Adapter | None, dict[str, Any]]:
    """The configured adapter, and what to tell the runner about it."""
    try:
        adapter = find(target.request)
        adapter.configure(dtype=target.dtype, device=target.device, precision=target.precision, threads=threads)
        devices = adapter.devices()
    except FrameworkAbsent as error:
        return None, {"absent": str(error)}
    except Exception as error:  # noqa: BLE001 – the runner reports it for every case of this adapter
        return None, {"failed": first_line(error)}
    if target.device not in devices:
        return None, {
            "absent": f"adapter {adapter.name!r} has no device {target.device!r} here, only {', '.join(devices)}"
        }
    return adapter, {"ready": os.getpid()}
