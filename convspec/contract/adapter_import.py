"""Import adapters: every way in which an adapter's module can fail becomes a reason in words.

A module of another distribution may also end the process, crash it or hang. So a child process imports it first.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from convspec.contract.protocol import Adapter
from convspec.errors import AdapterError, printable

SECONDS = 30.0  # that a child process may take for one import
_LONGEST = 600  # characters of a reason
_TEXTS = ("name", "native_layout", "variant", "audit_module", "vectors_module")
_TUPLES = ("requires", "dtypes", "layouts", "variants", "files", "graph_files")


@dataclass(frozen=True, slots=True)
class Source:
    """Where an adapter is: an object of a module; ``name`` is what requests call it."""

    name: str
    module: str
    attribute: str


class _NotAnAdapter(Exception):
    """The module can be imported, but does not have the adapter; the message says what it has instead."""


def load(source: Source) -> Adapter:
    """Import an adapter; what its module prints goes to standard error.

    Raises:
        AdapterError: with the reason, whatever the module raises.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):  # noqa: TID251 – what a module prints at import
            return _adapter_of(source)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise AdapterError(source.name, _reason(error)) from error


def try_in_child(sources: Sequence[Source]) -> dict[Source, str]:
    """Import adapters in a child process, and in another one after each that ends it.

    Returns:
        Why each cannot be imported; empty for those that can be.
    """
    from convspec.contract.isolation import ChildError, ChildProcess, ChildTimeout

    reasons: dict[Source, str] = {}
    left = deque(sources)
    while left:
        try:
            with ChildProcess(__name__) as child:
                child.send([astuple(source) for source in left])
                while left:
                    reason = printable(child.next(SECONDS), _LONGEST)
                    reasons[left.popleft()] = reason
        except ChildTimeout:
            reasons[left.popleft()] = f"its import takes more than {SECONDS:g} s"
        except (ChildError, OSError) as error:
            reasons[left.popleft()] = printable(error)
    return reasons


def serve(requests: BinaryIO, replies: int) -> None:
    """Import each adapter of the request; one message for each: the reason why it cannot be imported, or ""."""
    from convspec.contract.isolation import encode, send

    for source in json.loads(requests.readline()):
        with contextlib.suppress(OSError):  # an earlier one has closed it
            os.ftruncate(2, 0)  # the last words of a process are then those of one import
        send(replies, encode(_try(Source(*source))))


def _try(source: Source) -> str:
    before = _process_state()
    try:
        load(source)
    except AdapterError as error:
        return error.reason
    except KeyboardInterrupt:
        return "KeyboardInterrupt"
    after = _process_state()
    return next((f"its module {words}" for words, state in before.items() if after[words] != state), "")


def _process_state() -> Mapping[str, object]:
    """Return what an import must leave as it is, by the words for a change."""
    folder = Path().stat()
    streams = {"input": sys.__stdin__, "output": sys.__stdout__, "error": sys.__stderr__}
    closed = {
        f"closes standard {name}": stream is None or stream.closed or not _is_open(number)
        for number, (name, stream) in enumerate(streams.items())
    }
    return {"changes the working directory": (folder.st_dev, folder.st_ino), **closed}


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _adapter_of(source: Source) -> Adapter:
    """Import the object and check that it is an adapter, as far as this can be seen without a call of it."""
    found: Any = importlib.import_module(source.module)
    for part in filter(None, source.attribute.split(".")):
        if not hasattr(found, part):
            raise _NotAnAdapter(f"module {source.module!r} has no adapter {source.attribute!r}")
        found = getattr(found, part)
    place = f"{source.module}:{source.attribute}"
    if not isinstance(found, Adapter):
        kind = f"the class {found.__name__}" if isinstance(found, type) else f"of type {type(found).__name__}"
        raise _NotAnAdapter(f"{place} must be an instance of convspec.contract.Adapter, and is {kind}")
    for field in (*_TEXTS, *_TUPLES):
        value = getattr(found, field, None)
        values = value if field in _TUPLES and isinstance(value, tuple) else (value if field in _TEXTS else None,)
        if not all(isinstance(one, str) for one in values):
            form = "a string" if field in _TEXTS else "a tuple of strings"
            raise _NotAnAdapter(f"{field} of {place} must be {form}, got {value!r}")
    return found


def _reason(error: BaseException) -> str:
    """Return an exception's type and message, and where it was raised if that is in the adapter's own code."""
    if isinstance(error, _NotAnAdapter):
        return printable(error)
    text = ": ".join(filter(None, [type(error).__name__, str(printable(error))]))
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith("<") and f.filename not in (__file__, importlib.__file__)]
    return printable(f"{text} ({own[-1].filename}:{own[-1].lineno})" if own else text, _LONGEST)
