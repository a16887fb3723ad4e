"""The porting mistakes of the diagnosis, each as a mutant."""

from __future__ import annotations

from functools import partial

from convspec.diagnosis import IMPOSSIBLE, Mistake, catalogue, right_layer
from mutants.engine import Layer
from mutants.mutant import Array, Mutant

# It changes a flattened output only. Fitted mistakes are left out too: they need an actual output.
_LEFT_OUT = {"flatten-order"}


def _fault(kind: Mistake, layer: Layer) -> Array | None:
    """Return the output with the mistake's first possible variant; None, which means right, if there is none."""
    if not layer.x.size:
        return None
    good = right_layer(layer.spec, layer.params, layer.x)
    for _, wrong in kind.apply(good):
        try:
            return wrong.output()
        except IMPOSSIBLE:
            continue
    return None


# Mistakes that give right numbers on the data of a run, with the proof.
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
