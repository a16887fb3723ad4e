"""Plans: the program of one layer in one framework, as text that is both shown and run."""

from __future__ import annotations

import itertools
import linecache
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType
from typing import Any, Literal, TypeAlias

from convspec.spec import ConvSpec

Kind: TypeAlias = Literal["native", "composed", "unsupported"]
_KEPT = 1024  # texts whose compiled code is cached, and whose lines tracebacks show
_WIDTH = 88  # the line length of the usual formatters
_serial = itertools.count()
_shown: deque[str] = deque()


class Support(str):
    """``"native"``, ``"composed"`` or ``"unsupported"``, with the reason where it is not native.

    It is a string, so ``support == "composed"`` works; ``support.reason`` is the reason.
    """

    __slots__ = ("reason",)
    reason: str

    def __new__(cls, kind: Kind, reason: str = "") -> Support:
        self = super().__new__(cls, kind)
        self.reason = reason
        return self

    def __repr__(self) -> str:
        return f"{self!s}({self.reason})" if self.reason else str(self)

    def __reduce__(self) -> tuple[type[Support], tuple[str, str]]:
        return Support, (str(self), self.reason)


@dataclass(frozen=True, slots=True)
class Plan:
    """A straight-line program in one framework for a (spec, layout, dtype), valid for every input size.

    Attributes:
        spec: the layer.
        layout: ``"NCHW"`` or ``"NHWC"``: the layout of the tensors that the layer takes and gives.
        dtype: name of the layer's format.
        text: Python that defines ``layer``; ``build`` executes this text.
        usual: another program for the layer, where users of the framework do not write code like ``text``: it is shown
            in its place, and the adapter's tests show that both give the same layer. Empty: ``text`` is shown.
        convs: names of the convolutions inside a composed ``layer`` – several where groups are split –
            or empty where ``layer`` itself is the framework's convolution.
        bias: attribute name of a bias that is added after the convolutions, None where they have it.
        reasons: why the layer is composed, one sentence each; empty for a native one.
    """

    spec: ConvSpec
    layout: str
    dtype: str
    text: str
    convs: tuple[str, ...] = ()
    bias: str | None = None
    reasons: tuple[str, ...] = ()
    usual: str = ""

    @property
    def shown(self) -> str:
        """The program that users see."""
        return self.usual or self.text

    @property
    def support(self) -> Support:
        """``native``, or ``composed`` with the reasons."""
        return Support("composed", "; ".join(self.reasons)) if self.reasons else Support("native")

    def execute(self) -> Any:
        """Run the text and return the ``layer`` that it defines; its weights are the framework's own initial values.

        The text is known to :mod:`linecache`, so a traceback through the layer shows its lines.
        """
        namespace: dict[str, Any] = {"__name__": "convspec_plan"}
        exec(_compiled(self.text), namespace)
        return namespace.pop("layer")  # otherwise it would live as long as the classes that the text defines


def call_text(function: str, arguments: Sequence[str], target: str, indent: int) -> str:
    """Return a call in one line where it fits, else with its arguments in one line, else in one line each.

    Args:
        target: the name that is assigned the result in the first line.
        indent: spaces before it.
    """
    line = f"{function}({', '.join(arguments)})"
    if indent + len(f"{target} = {line}") <= _WIDTH:
        return line
    inner, outer = " " * (indent + 4), " " * indent
    line = f"{inner}{', '.join(arguments)}"
    if len(line) <= _WIDTH:
        return f"{function}(\n{line}\n{outer})"
    lines = "".join(f"{inner}{argument},\n" for argument in arguments)
    return f"{function}(\n{lines}{outer})"


@lru_cache(maxsize=_KEPT)
def _compiled(text: str) -> CodeType:
    filename = f"<convspec plan {next(_serial)}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    _shown.append(filename)
    if len(_shown) > _KEPT:
        linecache.cache.pop(_shown.popleft(), None)
    return compile(text, filename, "exec")
