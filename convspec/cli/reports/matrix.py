"""A run as a matrix of counts: adapter × feature of the layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convspec.conformance import Report, Result
from convspec.spec import LAYOUTS

if TYPE_CHECKING:
    from convspec.corpora import Case
    from convspec.spec import ConvSpec

STATES = ("unexpected", "gap", "unsupported", "agree")  # worst first


def state(result: Result) -> str:
    """The state of a result, one of :data:`STATES`."""
    if result.unexpected:
        return "unexpected"
    if result.verdict == "agree":
        return "agree"
    return "gap" if result.gap is not None else "unsupported"


def _pads(spec: ConvSpec) -> tuple[tuple[int, int], ...]:
    return () if isinstance(spec.padding, str) else spec.padding


_FEATURES: dict[str, Callable[[ConvSpec], bool]] = {
    "1-D": lambda s: s.ndim == 1,
    "2-D": lambda s: s.ndim == 2,
    "3-D": lambda s: s.ndim == 3,
    "kernel of 1": lambda s: max(s.kernel_size) == 1,
    "stride": lambda s: max(s.stride) > 1,
    "dilation": lambda s: max(s.dilation) > 1,
    "stride and dilation": lambda s: max(s.stride) > 1 and max(s.dilation) > 1,
    "no pads": lambda s: not any(map(any, _pads(s))) and not isinstance(s.padding, str),
    "equal pads": lambda s: any(map(any, _pads(s))) and all(lo == hi for lo, hi in _pads(s)),
    "unequal pads": lambda s: any(lo != hi for lo, hi in _pads(s)),
    "same with a stride": lambda s: s.padding == "same",
    "same_lower with a stride": lambda s: s.padding == "same_lower",
    "reflect": lambda s: s.padding_mode == "reflect",
    "replicate": lambda s: s.padding_mode == "replicate",
    "circular": lambda s: s.padding_mode == "circular",
    "groups": lambda s: s.groups > 1 and not s.depthwise,
    "depthwise": lambda s: s.depthwise,
    "transposed": lambda s: s.transposed,
    "output_padding": lambda s: any(s.output_padding),
    "no bias": lambda s: not s.bias,
}


LAYER_FEATURES = tuple(_FEATURES)


def features(result: Result) -> Iterator[str]:
    """Yield the features of a result: of its layer, and of its run."""
    case: Case = result.case
    yield from (name for name, holds in _FEATURES.items() if holds(case.spec))
    yield from (case.layout, case.dtype, case.device, f"{case.data} data")
    if result.direction != "forward":
        yield f"gradient of {result.direction}"


@dataclass
class Matrix:
    """Counts by adapter and feature.

    Attributes:
        adapters: the columns, as named in the request.
        rows: for each feature and adapter the number of results in each state; ``""`` means all results.
    """

    adapters: tuple[str, ...]
    rows: dict[str, dict[str, Counter[str]]] = field(default_factory=dict)

    @classmethod
    def of(cls, report: Report) -> Matrix:
        counts: dict[str, dict[str, Counter[str]]] = {}
        for result in report.results:
            for name in ("", *features(result)):
                counts.setdefault(name, {}).setdefault(result.request, Counter())[state(result)] += 1
        run = sorted(counts, key=lambda n: (n not in LAYOUTS, n.endswith(" data"), n.startswith("gradient")))
        rows = {name: counts[name] for name in dict.fromkeys(["", *_FEATURES, *run]) if name in counts}
        return cls(tuple(dict.fromkeys(result.request for result in report.results)), rows)


def worst(counts: Counter[str]) -> str:
    """The worst state that occurs, empty where none does."""
    return next((name for name in STATES if counts[name]), "")


def parts(counts: Counter[str]) -> list[tuple[str, int]]:
    """The states that occur, best first, with their counts."""
    return [(name, counts[name]) for name in reversed(STATES) if counts[name]]


def sentence(counts: Counter[str]) -> str:
    """``118 agree, 2 gap``."""
    return ", ".join(f"{number} {name}" for name, number in parts(counts))
