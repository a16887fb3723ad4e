"""Requirements such as ``keras>=3.6, <4``, held against installed versions."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass

from convspec.errors import GapError

_COMPARE = {
    "==": operator.eq, "!=": operator.ne, ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Requirement:
    """A distribution and bounds of its version; without a name it is always met."""

    name: str
    bounds: tuple[tuple[str, tuple[int, ...]], ...]

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """``"keras>=3.6, <4"``, or nothing.

        Raises:
            GapError: where the text does not read like that.
        """
        if not text:
            return cls("", ())
        head = re.match(r"\s*([A-Za-z0-9._-]+?)\s*(?=[=!<>])", text)
        parts = (
            [re.fullmatch(r"\s*(==|!=|>=|<=|>|<)\s*(\d+(?:\.\d+)*)\s*", p) for p in text[head.end() :].split(",")]
            if head
            else []
        )
        if head is None or not all(parts):
            raise GapError(f"versions={text!r} must read like 'keras>=3.6, <4'")
        return cls(head[1], tuple((p[1], release(p[2])) for p in parts if p))

    def met(self, versions: Mapping[str, str], whose: str) -> bool:
        """Whether these versions (distribution → version) meet it.

        Raises:
            GapError: where the distribution is not among them; ``whose`` names the requirement.
        """
        if not self.name:
            return True
        if self.name not in versions:
            reported = ", ".join(versions) or "none"
            raise GapError(f"{whose}: versions names {self.name!r}, but the adapter reports {reported}")
        installed = release(versions[self.name])
        return all(_COMPARE[op](installed, bound) for op, bound in self.bounds)


def public(version: str) -> str:
    """A version without its local part, which says how it was built: ``2.13.0`` of ``2.13.0+cpu``."""
    return version.partition("+")[0]


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, without local part and trailing zeros: ``2.13.0+cpu`` is (2, 13)."""
    head = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(n) for n in head[0].split(".")] if head else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
