"""Import adapters: every way in which an adapter's module can fail becomes a reason in words.

A module of another distribution may also end the process, crash it or hang, and so may the modules that it imports when
it is first asked something. So a child process imports it and asks first.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from convspec.contract.protocol import Adapter
from convspec.errors import AdapterError, printable
from convspec.spec import ConvSpec

SECONDS = 30.0  # that a child process may take for one import
_LONGEST = 600  # characters of a reason
_TEXTS = ("name", "native_layout", "variant", "audit_module", "vectors_module", "messages_module")
_ANNOUNCED = "\0"  # begins the message that names the next call
_TUPLES = ("requires", "dtypes", "layouts", "variants", "costly", "files", "graph_files", "weight_files")


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
    """Import adapters in a child process and ask each what commands ask of all; another one after each that ends it.

    Returns:
        Why each cannot be used; empty for those that can be. An exception of a method is no reason: the commands that
        call it report it.
    """
    from convspec.contract.isolation import ChildError, ChildProcess, ChildTimeout

    reasons: dict[Source, str] = {}
    left, call = deque(sources), ""
    while left:
        try:
            with ChildProcess(__name__, threads=1) as child:  # as most workers: one server forks both
                child.send([astuple(source) for source in left])
                while left:
                    message = str(child.next(SECONDS))
                    call = message[1:] if message.startswith(_ANNOUNCED) else ""
                    if not call:
                        reasons[left.popleft()] = printable(message, _LONGEST)
        except ChildTimeout:
            reasons[left.popleft()] = f"its {call or 'import'} takes more than {SECONDS:g} s"
        except (ChildError, OSError) as error:
            reasons[left.popleft()] = printable(f"its {call} fails: {error}" if call else error)
        call = ""
    return reasons


def serve(requests: BinaryIO, replies: int) -> None:
    """Import and ask each adapter of the request; a message before each call, and one for each adapter: the reason."""
    from convspec.contract.isolation import encode, send

    for source in json.loads(requests.readline()):
        with contextlib.suppress(OSError):  # an earlier one has closed it
            os.ftruncate(2, 0)  # the last words of a process are then those of one import
        send(replies, encode(_try(Source(*source), lambda call: send(replies, encode(_ANNOUNCED + call)))))


def _try(source: Source, announce: Callable[[str], None]) -> str:
    before = _process_state()
    try:
        adapter = load(source)
    except AdapterError as error:
        return error.reason
    except KeyboardInterrupt:
        return "KeyboardInterrupt"
    if not (reason := _changes("module", before)):
        for call, ask in _questions(adapter):
            announce(call)
            if reason := _ending(call, ask) or _changes(call, before):
                break
    return reason


def _questions(adapter: Adapter) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what commands ask of every adapter, with the name of the call."""
    layer = ConvSpec(2, 2, (3, 3))
    yield "versions()", adapter.versions
    yield "gaps()", adapter.gaps
    yield "owns()", lambda: adapter.owns(object)
    yield "support()", lambda: adapter.support(layer, adapter.native_layout)
    yield "source()", lambda: adapter.source(layer, adapter.native_layout)


def _ending(call: str, ask: Callable[[], object]) -> str:
    """Return how a call ends the process; empty where it returns or raises an ordinary exception."""
    try:
        ask()
    except Exception:  # noqa: BLE001 – whoever calls it reports this
        return ""
    except BaseException as error:  # noqa: BLE001 – SystemExit and the like
        return f"its {call} raises {_reason(error)}"
    return ""


def _changes(what: str, before: Mapping[str, object]) -> str:
    """Return what an import or a call has changed in the process; empty if nothing."""
    after = _process_state()
    return next((f"its {what} {words}" for words, state in before.items() if after[words] != state), "")


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
