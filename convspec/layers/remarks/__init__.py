"""Remarks: differences between two frameworks that make the naive translation of a layer wrong."""

from __future__ import annotations

from convspec.layers.remarks import conventions, padding
from convspec.layers.remarks.port import Port, Remark

__all__ = ["Port", "Remark", "remarks_on"]


def remarks_on(port: Port) -> tuple[Remark, ...]:
    """Return all remarks on this port, the most important first."""
    checks = (conventions.support, *padding.REMARKS, *conventions.ORDERS, *conventions.NOTES)
    return tuple(remark for check in checks for remark in check(port))
