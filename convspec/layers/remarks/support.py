"""What the target lacks."""

from __future__ import annotations

from convspec.layers.remarks.port import Port, Remark, Remarks


def composed(port: Port) -> Remarks:
    """Why the target needs steps around its own layer, one remark for each reason."""
    if port.support == "composed":
        for reason in port.support.reason.split("; "):
            yield Remark("composed", f"{reason}.")


def unsupported(port: Port) -> Remarks:
    if port.support == "unsupported":
        yield Remark("unsupported", f"{port.support.reason}.")


REMARKS = (unsupported, composed)
