"""Remarks: where the naive translation of a layer from one framework to another would be wrong."""

from __future__ import annotations

from convspec.layers.remarks import defaults, layout, padding, support, transposed, weights
from convspec.layers.remarks.port import Port, Remark

__all__ = ["Port", "Remark", "remarks_on"]

_ALL = (*support.REMARKS, *padding.REMARKS, *transposed.REMARKS, *layout.REMARKS, *weights.REMARKS, *defaults.REMARKS)


def remarks_on(port: Port) -> tuple[Remark, ...]:
    """All remarks that this port calls for, the weightiest first."""
    return tuple(remark for look in _ALL for remark in look(port))
