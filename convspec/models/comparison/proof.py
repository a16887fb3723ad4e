"""Trace a run through its judged layers: where these are all there is, and are wired alike, rounding is proved."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from convspec.models.run_model import Model
    from convspec.spec import Array


@dataclass(slots=True)
class Wiring:
    """What each call of a layer and each result reads.

    Attributes:
        calls: the layer, and the input or the judged layer whose output it reads; in the order of execution.
        results: the same of each result.
        unjudged: the steps that no layer's check covers, in words.
    """

    calls: list[tuple[str, str]] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    unjudged: list[str] = field(default_factory=list)

    def is_like(self, other: Wiring, counterparts: Mapping[str, str]) -> bool:
        """Whether the other model's layers read their counterparts' outputs; ``counterparts`` are its paths by ours."""

        def theirs(source: str) -> str:
            return counterparts.get(source, source)

        mapped = sorted((theirs(path), theirs(source)) for path, source in self.calls)
        return mapped == sorted(other.calls) and [theirs(source) for source in self.results] == other.results


def wiring(model: Model, judged: Collection[str]) -> Wiring:
    """Return what reads what. A layer reads another's output where its input has exactly those numbers."""
    given = model.inputs or ()
    inputs = given.values() if isinstance(given, Mapping) else given
    known = {_fingerprint(x): f"\0input {place}" for place, x in enumerate(inputs)}
    found = Wiring()
    for call in model.calls:
        if (source := known.get(_fingerprint(call.x))) is None:
            found.unjudged.append(f"the operations before {call.path or 'the layer'}")
        found.calls.append((call.path, source or ""))
        if call.path in judged:
            known.setdefault(_fingerprint(call.y), call.path)
        else:
            found.unjudged.append(call.path)
    for place, y in enumerate(model.outputs):
        if (source := known.get(_fingerprint(y))) is None:
            found.unjudged.append(f"the operations before result {place}")
        found.results.append(source or "")
    found.unjudged = list(dict.fromkeys(found.unjudged))
    return found


def _fingerprint(x: Array) -> tuple[tuple[int, ...], int]:
    return x.shape, hash(np.ascontiguousarray(x).tobytes())
