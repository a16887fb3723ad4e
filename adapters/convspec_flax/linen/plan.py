"""Write the code of a layer in ``flax.linen`` from a spec."""

from __future__ import annotations

from convspec.contract import ConvSpec, Plan
from convspec_flax.plan import LINEN, compute_precision, written

__all__ = ["compute_precision", "plan"]


def plan(spec: ConvSpec, layout: str, dtype: str) -> Plan:
    """The layer in ``flax.linen``: a module without weights, which are bound to it by ``layer.bind``."""
    return written(spec, layout, dtype, LINEN)
