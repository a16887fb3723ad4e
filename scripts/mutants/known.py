"""The mistakes of ports that the diagnosis knows, each made by somebody who never noticed."""

from __future__ import annotations

from functools import partial

from convspec.diagnosis import IMPOSSIBLE, Mistake, catalogue, right_layer
from mutants.engine import Layer
from mutants.mutant import Array, Mutant

# Their numbers are fitted to an output that is there; the flattened output belongs to no layer of its own.
_LEFT_OUT = {"flatten-order"}


def _fault(kind: Mistake, layer: Layer) -> Array | None:
    """The output with the mistake's first variant; right where the mistake cannot be made, or has no output."""
    if not layer.x.size:
        return None
    good = right_layer(layer.spec, layer.params, layer.x)
    for _, wrong in kind.apply(good):
        try:
            return wrong.output()
        except IMPOSSIBLE:
            continue
    return None


# Right on the data of a run, and why.
_PROOFS = {
    "subnormals-flushed": "No number of exact or random data is subnormal in float32: the one are integers, and of the "
    "others – NumPy's float32 normal numbers, divided by √K at most – the smallest is many powers of two larger. Where "
    "a backend flushes, the bound allows for it; data that show it would be of another kind.",
}


def _mutants() -> list[Mutant]:
    return [
        Mutant(f"mistake-{kind.id}", kind.title, partial(_fault, kind), _PROOFS.get(kind.id, ""))
        for kind in catalogue()
        if not kind.fitted and kind.id not in _LEFT_OUT
    ]


MUTANTS = _mutants()
