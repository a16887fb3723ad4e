"""The process that one adapter runs in: ``python -m convspec.conformance.worker``, started by the runner.

Requests come on standard input and verdicts leave on standard output as it was at the start. Frameworks print to
standard output, so before anything else is imported descriptor 1 is made another name of standard error.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from convspec.conformance.units import Target
    from convspec.contract import Adapter


def main() -> None:
    """Serve units until the runner closes the pipe or is gone."""
    from convspec.conformance.keeper import keep

    keep(int(sys.argv[1]))
    replies = os.dup(1)
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _no_core_dumps()

    import gc
    import json

    from convspec.conformance import protocol
    from convspec.conformance.memory import confine
    from convspec.conformance.units import Target

    opening = json.loads(requests.readline())
    target = Target(*opening["target"])
    if opening["cores"]:
        os.sched_setaffinity(0, opening["cores"])
    adapter, reply = _start(target, opening["threads"])
    limited = opening["memory"] is not None and target.device == "cpu"  # drivers reserve more than there is
    if limited:
        confine(opening["memory"])
    gc.freeze()  # a framework has some hundred thousand objects, which every full collection would look at in vain
    _send(replies, protocol.line(reply))
    if adapter is not None:
        _serve(adapter, target, requests, replies, limited=limited)
    # frameworks' threads and destructors have been seen to hang or abort at interpreter exit: leave without them
    os._exit(0)


def _serve(adapter: Adapter, target: Target, requests: BinaryIO, replies: int, *, limited: bool) -> None:
    import json

    from convspec.conformance import memory, protocol
    from convspec.conformance.checks import outcomes
    from convspec.conformance.oracle import given

    for request in requests:
        unit, bundle = protocol.unit_from_json(json.loads(request), target)
        made = bundle.read()
        if made is None:
            made = given(unit.case, unit.recipes)
            _send(replies, protocol.line(protocol.GIVEN))
        for outcome in outcomes(adapter, unit, made):
            if limited and outcome.verdict == "error" and memory.refused(outcome.reason):
                sys.stderr.write(f"{outcome.reason}\n")  # what it could not take, others have: a fresh worker decides
                sys.stderr.flush()
                os._exit(memory.EXIT_STATUS)
            _send(replies, protocol.line(protocol.outcome_to_json(outcome)))


def _start(target: Target, threads: int) -> tuple[Adapter | None, dict[str, Any]]:
    """The configured adapter, and what to tell the runner about it."""
    from convspec.conformance.attempts import first_line
    from convspec.errors import FrameworkAbsent
    from convspec.registry import adapter as find

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


def _send(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _no_core_dumps() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


if __name__ == "__main__":
    main()
