"""The rules of rounding that explain the quantised layers of a run, by adapter, operator and kind of layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convspec.conformance.results import Result
    from convspec.spec import ConvSpec


@dataclass(slots=True)
class Rounding:
    """The outputs of one operator.

    Attributes:
        illegal: outputs that no legal rounding of the exact sum gives.
        rules: the rules of which each explains every output; None before the first result.
    """

    outputs: int = 0
    illegal: int = 0
    rules: tuple[str, ...] | None = None

    def add(self, outputs: int, illegal: int, rules: Sequence[str]) -> None:
        """Count the outputs of a layer, and keep the rules that explain them too."""
        self.outputs, self.illegal = self.outputs + outputs, self.illegal + illegal
        known = set(rules)
        self.rules = tuple(rules) if self.rules is None else tuple(rule for rule in self.rules if rule in known)

    def __str__(self) -> str:
        if not self.rules:
            return "no single rule" if not self.illegal else "wrong"
        return self.rules[0] if len(self.rules) == 1 else f"undetermined: {'; '.join(self.rules)}"


def count_roundings(results: Iterable[Result]) -> dict[tuple[str, str, str, str], Rounding]:
    """Return the outputs and rules by adapter, operator, kind of layer and type of the data."""
    found: dict[tuple[str, str, str, str], Rounding] = {}
    for result in results:
        for form, own in result.evidence.get("rounding", {}).items():
            key = result.adapter_name, form, _kind(result.case.spec), result.case.data.partition("_")[0]
            found.setdefault(key, Rounding()).add(**own)
    return dict(sorted(found.items()))


def _kind(spec: ConvSpec) -> str:
    kinds = {"transposed": spec.transposed, "depthwise": spec.depthwise, "grouped": spec.groups > 1, "plain": True}
    return next(kind for kind, true in kinds.items() if true)


def rounding_lines(results: Iterable[Result]) -> list[str]:
    """Return a table of :func:`count_roundings`, header first; empty for a run without quantised layers."""
    rows = [(*key, f"{own.outputs:,}", f"{own.illegal:,}", str(own)) for key, own in count_roundings(results).items()]
    if not rows:
        return []
    table = [("adapter", "operator", "layers", "type", "outputs", "illegal", "rounding"), *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(text.rjust(n) if place in (4, 5) else text.ljust(n) for place, (text, n) in
                      enumerate(zip(row, widths, strict=True))).rstrip() for row in table]  # fmt: skip
