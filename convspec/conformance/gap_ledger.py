"""The declared gaps over a run: which gap covers a failure, and whether each gap holds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from convspec.contract import Gap
from convspec.corpora import QUANTIZED_KINDS, Case
from convspec.errors import ShapeError
from convspec.spec import layouts, shapes


def features(case: Case, *, support: str, adapter: str, variant: str, direction: str = "forward") -> dict[str, Any]:
    """The features of a case that ``when`` may name: those in ``SCALARS`` and ``VECTORS``."""
    return {
        **_layer_features(case.spec, case.input_shape), "layout": layouts.family(case.layout, case.spec.ndim),
        "dtype": case.dtype, "device": case.device, "data": case.data, "direction": direction, "support": support,
        "adapter": adapter, "variant": variant,
    }  # fmt: skip


def _is_about(gap: Gap, case: Case) -> bool:
    """Return whether a gap is about such a layer: about a quantised one where it names its data."""
    return case.data not in QUANTIZED_KINDS or case.data in re.findall(r"\w+", gap.when.text)


@lru_cache(maxsize=1024)
def _layer_features(spec: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    batch, _, *spatial = shape
    try:
        out = spec.output_shape(shape)
    except ShapeError:
        out = None
    pads = shapes.resolve_padding(spec, spatial)[0]
    names = ("kernel_size", "stride", "dilation", "output_padding", "in_channels", "out_channels", "groups", "bias",
             "padding_mode", "transposed", "ndim", "effective_kernel", "depthwise")  # fmt: skip
    return {
        **{name: getattr(spec, name) for name in names},
        **_sizes("in", spatial, spec.ndim),
        **_sizes("out", out[2:] if out else (), spec.ndim),
        "padding": spec.padding if isinstance(spec.padding, str) else "explicit",
        "pad_before": tuple(before for before, _ in pads),
        "pad_after": tuple(after for _, after in pads),
        "batch": batch,
        "spatial": tuple(spatial),
        "out_spatial": out[2:] if out else None,
        "multiplier": spec.out_channels // spec.groups if spec.depthwise else None,
        "empty_output": out is not None and 0 in out,
    }


def _sizes(prefix: str, spatial: Iterable[int], ndim: int) -> dict[str, int | None]:
    letters = layouts.spatial_letters(ndim).lower()
    sizes = dict(zip(letters, spatial, strict=False))
    return {f"{prefix}_{letter}": sizes.get(letter) for letter in "whd"}


@dataclass(slots=True)
class Tally:
    """The results that match one gap of one adapter.

    Attributes:
        failed: how many fail as declared. A result that fails otherwise is unexpected, and not counted here.
        passed: how many agree.
        example: one that agrees.
        whole: False where the run has other cases, in another shard or not reached.
    """

    gap: Gap
    adapter: str
    failed: int = 0
    passed: int = 0
    example: dict[str, str] = field(default_factory=dict)
    whole: bool = True

    @property
    def status(self) -> str:
        """``"holds"``, ``"too wide"``, ``"closed"``, or ``"unmatched"`` where no case matched.

        ``"passing"``: too wide or closed, which only the whole run can tell.
        """
        if self.passed:
            return "too wide" if self.failed else "closed" if self.whole else "passing"
        return "holds" if self.failed else "unmatched"

    @property
    def unexpected(self) -> bool:
        return self.passed > 0

    def __str__(self) -> str:
        return (
            f"gap {self.gap.id} of {self.adapter} is {self.status}: {self.passed} matching results agree, "
            f"{self.failed} fail as declared"
        )

    def add(self, other: Tally) -> None:
        """Add the counts of another run of the same gap."""
        self.failed, self.passed = self.failed + other.failed, self.passed + other.passed
        self.example = self.example or other.example

    def to_dict(self) -> dict[str, Any]:
        return {
            "gap": self.gap.id, "adapter": self.adapter, "kind": self.gap.kind, "status": self.status,
            "failed": self.failed, "passed": self.passed, "passing_example": self.example or None,
            "when": self.gap.when.text, "reason": self.gap.reason, "link": self.gap.link or None,
        }  # fmt: skip


class Ledger:
    """Finds the gap that covers each failure, and tallies every gap."""

    def __init__(self) -> None:
        self.tallies: dict[str, tuple[Tally, ...]] = {}

    def declare(self, adapter: str, gaps: Iterable[Gap]) -> None:
        """Register the gaps that apply to an adapter; only the first call for each adapter counts."""
        if adapter not in self.tallies:
            self.tallies[adapter] = tuple(Tally(gap, adapter) for gap in gaps)

    def judge(
        self, case: Case, adapter: str, variant: str, support: str, verdict: str, reason: str,
        direction: str = "forward",
    ) -> str | None:  # fmt: skip
        """Return the id of the gap that covers this failure, or None; tally every gap that matches the case."""
        covering = facts = None
        for tally in self.tallies.get(adapter, ()):
            facts = facts or features(case, support=support, adapter=adapter, variant=variant, direction=direction)
            if not (_is_about(tally.gap, case) and tally.gap.when(facts)):
                continue
            if verdict == "agree":
                tally.passed += 1
                at = {"case": case.id, "layout": case.layout, "dtype": case.dtype, "data": case.data}
                tally.example = tally.example or {**at, "direction": direction}
            elif tally.gap.covers(verdict, reason):
                tally.failed += 1
                covering = covering or tally.gap.id
        return covering

    def all(self) -> list[Tally]:
        """Return every tally, in the order of declaration."""
        return [tally for tallies in self.tallies.values() for tally in tallies]
