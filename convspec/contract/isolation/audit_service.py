"""The audit of one file in a child process: one request, then messages, each a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, TypeAlias

from convspec.contract.isolation.child_process import send
from convspec.errors import ConvspecError, printable

Report: TypeAlias = "Callable[[Mapping[str, Any]], None]"
Ask: TypeAlias = "Callable[[dict[str, Any]], dict[str, Any]]"


def serve_audit(audit: Callable[[Mapping[str, Any], Report, Ask], None], requests: BinaryIO, replies: int) -> None:
    """Answer one request by ``audit(request, report, ask)``; an error becomes the message ``refused``."""

    def report(message: Mapping[str, Any]) -> None:
        send(replies, json.dumps(message, allow_nan=False, default=str).encode() + b"\n")

    def ask(wanted: dict[str, Any]) -> dict[str, Any]:
        report({"wanted": wanted})
        answer: dict[str, Any] = json.loads(requests.readline())
        return answer

    try:
        audit(json.loads(requests.readline()), report, ask)
    except ConvspecError as error:
        report({"refused": printable(error)})
    except MemoryError:
        report({"refused": "the model needs more memory than is allowed; if you trust it, raise --memory"})
    except RecursionError:
        report({"refused": "the model is nested too deeply"})
