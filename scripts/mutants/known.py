"""The mistakes of ports that the diagnosis knows, each made by somebody who never noticed."""

from __future__ import annotations

from functools import partial

from convspec.diagnosis.catalogue import Mistake, catalogue
from convspec.diagnosis.evidence import IMPOSSIBLE
from convspec.diagnosis.layer import right
from convspec.diagnosis.search import _made
from mutants.engine import Layer
from mutants.mutant import Array, Mutant

# Their numbers are fitted to an output that is there; the flattened output belongs to no layer of its own.
_LEFT_OUT = {"flatten-order"}


def _fault(kind: Mistake, layer: Layer) -> Array | None:
    """The output with the mistake's first variant; right where the mistake cannot be made, or has no output."""
    if not layer.x.size:
        return None
    good = right(layer.spec, layer.params, layer.x)
    for _, wrong in _made(kind.made_in(good)):
        try:
            return wrong.output()
        except IMPOSSIBLE:
            continue
    return None


def _mutants() -> list[Mutant]:
    from convspec.diagnosis.catalogue import Fitted

    return [
        Mutant(f"mistake-{kind.id}", kind.title, partial(_fault, kind))
        for kind in catalogue()
        if not isinstance(kind, Fitted) and kind.id not in _LEFT_OUT
    ]


MUTANTS = _mutants()
