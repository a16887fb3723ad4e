"""The errors that convspec raises.

::

    ConvspecError(Exception)
    ├── SpecError(ValueError)            a layer's fields break a rule; every problem is listed
    │   └── UnknownFieldError(TypeError) a keyword is not a field; the likely field is suggested
    ├── ShapeError(ValueError)           a tensor does not fit a layer; the axis and the likely cause are named
    ├── ParamsError(ValueError)          a kernel or bias does not fit a layer
    ├── UnsupportedError                 an adapter cannot express this layer, with the reason
    ├── FrameworkAbsent(ImportError)     the framework behind an adapter is not installed
    ├── PlacementError                   the work ran on another device, or in another dtype, than asked for
    ├── ExecutorError(RuntimeError)      the executor or cluster of a run cannot continue it
    ├── StorageError(OSError)            a file cannot be written, e.g. because the disk is full
    │   └── JournalError                 a run cannot write its journal; the command that resumes the run is named
    └── RequestError(ValueError)         the request itself is wrong (the command exits with status 2)
        ├── UnknownName                  no adapter, corpus, … of that name; the nearest is suggested
        ├── AdapterError                 an adapter cannot be imported; the reason is given
        ├── CorpusError                  a corpus file has a malformed line; file and line are named
        ├── CallError                    a constructor's text cannot be read; the position is shown
        ├── GapError                     a declaration of a known gap is malformed
        └── RecordError                  a file of a record breaks a rule; file and rule are named
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches


def printable(text: object, most: int | None = 300) -> str:
    r"""Return text of unknown origin on one line, cut to ``most`` characters, without signs that a terminal obeys.

    Line breaks and tabs become spaces; control characters, and those that turn the reading direction, are written as
    Python writes them (``\x1b``, ``\u202e``).
    """
    try:
        text = str(text)
    except Exception:  # noqa: BLE001 – an exception of unknown origin, whose text is code
        text = f"({type(text).__name__} has no text)"
    shown = text if most is None else text[: most + 1]
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else " " if c in "\n\t" else ascii(c)[1:-1] for c in shown)
    return shown if most is None or len(shown) <= most else shown[: most - 1] + "…"


def printable_lines(text: str) -> str:
    """Return the text with its line breaks, and each line :func:`printable`."""
    return "\n".join(printable(line, None) for line in text.split("\n"))


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


class UnknownFieldError(SpecError, TypeError):
    """A keyword of a :class:`~convspec.ConvSpec` is not one of its fields; the likely field is suggested.

    It is a TypeError too, as Python raises for an unexpected keyword.
    """


class ShapeError(ConvspecError, ValueError):
    """A tensor's shape does not fit the layer."""


class ParamsError(ConvspecError, ValueError):
    """A kernel or a bias does not fit the layer."""


class UnsupportedError(ConvspecError):
    """An adapter cannot express the layer; the message is the reason."""


class FrameworkAbsent(ConvspecError, ImportError):
    """The framework that an adapter needs is not installed."""


class PlacementError(ConvspecError):
    """The computation ran on a device, or in a dtype, that was not asked for."""


class ExecutorError(ConvspecError, RuntimeError):
    """The executor or cluster of a run cannot continue it; a journal keeps the results so far."""


class StorageError(ConvspecError, OSError):
    """A file cannot be written, for example because the disk is full."""


class JournalError(StorageError):
    """The journal of a run cannot be written; the message names the command that resumes the run."""


class RequestError(ConvspecError, ValueError):
    """The request itself is wrong; the message names a right one."""


# Names used elsewhere, in small letters; the nearest known name by spelling would be another one, or none.
_ELSEWHERE = {
    "tensorflow": "keras", "tf": "keras", "jax": "flax", "nnx": "flax", "linen": "flax-linen", "eqx": "equinox",
    "onnxruntime": "onnx", "ort": "onnx", "channels_first": "NCHW", "channels_last": "NHWC",
    "double": "float64", "single": "float32", "float": "float32", "half": "float16", "fp16": "float16",
}  # fmt: skip


class UnknownName(RequestError):
    """An unknown name; the message lists the known names and the nearest one."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        near = [one for one in self.known if one.lower() == name.lower() or one == _ELSEWHERE.get(name.lower())]
        near = near or get_close_matches(name, self.known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        super().__init__(f"unknown {kind} {name!r}{hint} Known: {', '.join(self.known) or 'none'}")

    def __reduce__(self) -> tuple[type[UnknownName], tuple[str, str, tuple[str, ...]]]:
        return type(self), (self.kind, self.name, self.known)


class AdapterError(RequestError):
    """An adapter cannot be imported or, where the reason begins with a method, used; the message names both."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        lacking = "used" if re.match(r"its \w+\(\) ", reason) else "imported"
        super().__init__(f"adapter '{printable(name)}' cannot be {lacking}: {reason}")

    def __reduce__(self) -> tuple[type[AdapterError], tuple[str, str]]:
        return type(self), (self.name, self.reason)


class CorpusError(RequestError):
    """A corpus file cannot be read; the message names the file, the line and the problem."""


class GapError(RequestError):
    """A declaration of a known gap is malformed; the message names the file and the gap."""


class RecordError(RequestError):
    """A file of a recorded run breaks a rule; the message names the file and the rule."""

    def __init__(self, path: object, rule: str) -> None:
        self.path, self.rule = path, rule
        super().__init__(f"record {path}: {rule}")

    def __reduce__(self) -> tuple[type[RecordError], tuple[object, str]]:
        return type(self), (self.path, self.rule)


class CallError(RequestError):
    """The text of a constructor cannot be read as a layer; the message shows the position."""

    def __init__(self, text: str, problem: str, column: int | None = None) -> None:
        self.text, self.problem, self.column = text, problem, column
        line = " ".join(text.strip().split("\n"))
        shown = line if len(line) <= 120 else line[:119] + "…"
        pointer = "" if column is None or column >= 120 else f"\n  {shown}\n  {' ' * column}^"
        super().__init__(f"{shown!r} cannot be read: {problem}{pointer}")

    def __reduce__(self) -> tuple[type[CallError], tuple[str, str, int | None]]:
        return type(self), (self.text, self.problem, self.column)
