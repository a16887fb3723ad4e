"""The answer to whether a port is right: verdict, reason, place, cause and fix, and every run of the port."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from convspec.models.comparison.outcomes import Outcome
from convspec.models.judging.draws import GIVEN, OTHER_BATCH, Draw
from convspec.models.text_table import Printable, Text

_STYLES = {"accepted": "green", "refused": "bold red", "cannot tell": "bold yellow"}


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of the port: its inputs, whether they were sent before, and how its results compare."""

    draw: Draw
    again: bool
    outcome: Outcome

    def to_dict(self) -> dict[str, Any]:
        """Return the trial, JSON-ready."""
        found = {name: value for name, value in self.outcome.to_dict().items() if name != "inputs"}
        return {"shapes": [list(s) for s in self.draw.shapes], "kind": self.draw.kind, "size": self.draw.size,
                "again": self.again, **found}  # fmt: skip


@dataclass(slots=True, repr=False)
class Judgement(Printable):
    """A port judged by inputs that its author has not seen.

    Attributes:
        verdict: ``accepted``, ``refused`` or ``cannot tell``.
        reason: of the verdict.
        divergence: the first layer that diverges.
        cause: the mistake, or what the wrong inputs have in common.
        fix: what to change.
        separation: what kept the port's process from the source.
        trials: every run of the port.
    """

    port: str
    source: str
    verdict: str = "cannot tell"
    seed: int | None = None
    reason: str = ""
    divergence: str = ""
    cause: str = ""
    fix: str = ""
    separation: str = ""
    notes: list[str] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)

    @property
    def accepted(self) -> bool:
        """Whether the verdict is ``accepted``."""
        return self.verdict == "accepted"

    @property
    def evidence(self) -> str:
        """Why rounding explains the differences: ``equal``, there are none; else ``measured``."""
        if not self.accepted:
            return ""
        return "measured" if any(trial.outcome.difference for trial in self.trials) else "equal"

    def _text(self) -> Text:
        heads = ["inputs", "shapes", "difference", "rounding explains", "verdict"]
        rows = [(heads, ""), *((cells, "" if cells[-1] == "agree" else "red") for cells in map(_cells, self.trials))]
        headline = f"{self.verdict.capitalize()}: {self.reason}"
        named = {"First divergence": self.divergence, "Cause": self.cause, "Fix": self.fix}
        lines = [(f"{note}.", "") for note in self.notes]
        lines += [(f"Separation: {self.separation}.", "")] * bool(self.separation)
        lines += [(f"Repeat with --seed {self.seed}.", "")] * (self.seed is not None)
        lines += [(headline, _STYLES[self.verdict]), *((f"{name}: {text}", "") for name, text in named.items() if text)]
        return Text(headline, rows, lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the judgement, JSON-ready."""
        names = ("verdict", "port", "source", "seed", "reason", "divergence", "cause", "fix", "evidence", "separation")
        own = {name: getattr(self, name) for name in names}
        trials = [trial.to_dict() for trial in self.trials]
        return {"schema": "convspec.judgement/1", **own, "notes": self.notes, "trials": trials}


def _cells(trial: Trial) -> list[str]:
    found = trial.outcome
    sizes = [f"{size:.1e}" if size is not None else "–" for size in (found.difference, found.limit)]
    shapes = "; ".join(",".join(map(str, s)) for s in trial.draw.shapes)
    return [trial.draw.kind + ", again" * trial.again, shapes, *sizes, found.verdict]


# -- what wrong inputs have in common ----------------------------------------------------------------------------------


class _Trait(NamedTuple):
    """What inputs may have in common: values by which right ones are told from wrong ones, and words."""

    words: str
    fix: str


CHANGING = (
    "its results for the same input change from call to call",
    "keep nothing between calls – no cache, counter or statistics –, and draw no random numbers",
)
ELSEWHERE = (
    "it agrees where it is run once: it depends on earlier calls, or on the process around it",
    "keep nothing between calls, and ask nothing of the stack, the arguments or the environment",
)
BY_CALLS = ("it depends on earlier calls", "it depends on the size of the batch", CHANGING[0])  # one run hides them
_TRAITS = {
    "again": _Trait("it depends on earlier calls: {}", "keep nothing between calls"),
    "batch": _Trait("it depends on the size of the batch: {}", "compute each sample by itself, for any number of them"),
    "size": _Trait("it depends on the size of the images: {}", "compute sizes from the input, not from one example"),
    "kind": _Trait("it depends on the numbers: {}", "compute from the input; look for limits, casts and kept results"),
}


def _values(trial: Trial) -> dict[str, str]:
    size = trial.draw.size
    sent = "inputs sent again" if trial.again else "new inputs"
    return {"again": sent, "batch": f"batches of {trial.draw.shapes[0][0]}", "kind": trial.draw.kind,
            "size": GIVEN if size == OTHER_BATCH else size}  # fmt: skip


def common_cause(trials: Sequence[Trial]) -> tuple[str, str]:
    """Return what tells the wrong inputs from the right ones, and what to do; empty where nothing does."""
    return next(_causes(trials), ("", ""))


def _causes(trials: Sequence[Trial]) -> Iterator[tuple[str, str]]:
    tried = [(_values(trial), trial.outcome.verdict) for trial in trials if trial.outcome.verdict != "not tried"]
    for name, trait in _TRAITS.items():
        right, wrong = (dict.fromkeys(values[name] for values, verdict in tried if (verdict == "agree") is good)
                        for good in (True, False))  # fmt: skip
        if right and wrong and not right.keys() & wrong.keys():
            yield trait.words.format(f"right for {', '.join(right)}; wrong for {', '.join(wrong)}"), trait.fix
