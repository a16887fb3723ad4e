"""The errors that convspec raises.

::

    ConvspecError(Exception)
    ├── SpecError(ValueError)            a layer's fields break a rule; every problem is listed
    ├── ShapeError(ValueError)           a tensor does not fit a layer; the axis and the likely cause are named
    ├── ParamsError(ValueError)          a kernel or bias does not fit a layer
    ├── UnsupportedError                 an adapter cannot express this layer, with the reason
    ├── FrameworkAbsent(ImportError)     the framework behind an adapter is not installed
    ├── PlacementError                   the work ran on another device, or in another dtype, than asked for
    ├── ExecutorError(RuntimeError)      the executor or cluster that a run was sent to cannot go on with it
    ├── StorageError(OSError)            there is no room for what a run needs on disk
    │   └── JournalError                 nor for its journal; the line that goes on with the run is named
    └── RequestError(ValueError)         the request itself is wrong (the command exits with status 2)
        ├── UnknownName                  no adapter, corpus, … of that name; the nearest is suggested
        ├── CorpusError                  a corpus file has a malformed line; file and line are named
        ├── CallError                    a constructor's text cannot be read; the position is shown
        ├── GapError                     a declaration of a known gap is malformed
        └── RecordError                  a file of a record is not what it must be; file and rule are named
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def printable(text: object, most: int | None = 300) -> str:
    r"""Return text of unknown origin on one line, cut to ``most`` characters, without signs that a terminal obeys.

    Line breaks and tabs become spaces; control characters, and those that turn the reading direction, are written as
    Python writes them (``\x1b``, ``\u202e``).
    """
    start = str(text) if most is None else str(text)[: most + 1]
    shown = "".join(c if c.isprintable() else " " if c in "\n\t" else ascii(c)[1:-1] for c in start)
    return shown if most is None or len(shown) <= most else shown[: most - 1] + "…"


class ConvspecError(Exception):
    """Base class of all errors raised by convspec."""


class SpecError(ConvspecError, ValueError):
    """One or more fields of a :class:`~convspec.ConvSpec` break a rule.

    ``problems`` holds one sentence per bad field, each of the form ``name=value must …``.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))

    def __reduce__(self) -> tuple[type[SpecError], tuple[tuple[str, ...]]]:
        return type(self), (self.problems,)


class ShapeError(ConvspecError, ValueError):
    """A tensor's shape does not fit the layer that it is given to."""


class ParamsError(ConvspecError, ValueError):
    """A kernel or a bias does not fit the layer that it is meant for."""


class UnsupportedError(ConvspecError):
    """An adapter cannot express the layer; the message is the reason."""


class FrameworkAbsent(ConvspecError, ImportError):
    """The framework that an adapter needs is not installed."""


class PlacementError(ConvspecError):
    """The computation ran on a device, or in a dtype, that was not asked for."""


class ExecutorError(ConvspecError, RuntimeError):
    """Where a run was sent to cannot go on with it; a journal keeps what was reached."""


class StorageError(ConvspecError, OSError):
    """What a run needs cannot be written: the disk is full, say."""


class JournalError(StorageError):
    """The journal of a run cannot be written any more; the message names the line that goes on with the run."""


class RequestError(ConvspecError, ValueError):
    """The request itself is wrong; the message says what would be right."""


# What others call it, small letters; the nearest by its letters would be something else, or nothing.
_ELSEWHERE = {
    "tensorflow": "keras", "tf": "keras", "jax": "flax", "nnx": "flax", "linen": "flax-linen", "eqx": "equinox",
    "onnxruntime": "onnx", "ort": "onnx", "channels_first": "NCHW", "channels_last": "NHWC",
    "double": "float64", "single": "float32", "float": "float32", "half": "float16", "fp16": "float16",
}  # fmt: skip


class UnknownName(RequestError):
    """A name that nothing is known by; the message lists the known ones and the nearest."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        near = [one for one in self.known if one.lower() == name.lower() or one == _ELSEWHERE.get(name.lower())]
        near = near or get_close_matches(name, self.known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        listing = ", ".join(self.known) or "none"
        super().__init__(
            f"unknown {kind} {name!r}{hint} Known: {listing}" if hint else f"unknown {kind} {name!r}. Known: {listing}"
        )

    def __reduce__(self) -> tuple[type[UnknownName], tuple[str, str, tuple[str, ...]]]:
        return type(self), (self.kind, self.name, self.known)


class CorpusError(RequestError):
    """A corpus file cannot be read; the message names the file, the line and the fault."""


class GapError(RequestError):
    """A declaration of a known gap is malformed; the message names the file and the gap."""


class RecordError(RequestError):
    """A file of a recorded run is not what it must be; the message names the file and the rule."""

    def __init__(self, path: object, rule: str) -> None:
        self.path, self.rule = path, rule
        super().__init__(f"record {path}: {rule}")

    def __reduce__(self) -> tuple[type[RecordError], tuple[object, str]]:
        return type(self), (self.path, self.rule)


class CallError(RequestError):
    """The text of a constructor cannot be read as a layer; the message shows the place."""

    def __init__(self, text: str, problem: str, column: int | None = None) -> None:
        self.text, self.problem, self.column = text, problem, column
        line = " ".join(text.strip().split("\n"))
        shown = line if len(line) <= 120 else line[:119] + "…"
        pointer = "" if column is None or column >= 120 else f"\n  {shown}\n  {' ' * column}^"
        super().__init__(f"{shown!r} cannot be read: {problem}{pointer}")

    def __reduce__(self) -> tuple[type[CallError], tuple[str, str, int | None]]:
        return type(self), (self.text, self.problem, self.column)
