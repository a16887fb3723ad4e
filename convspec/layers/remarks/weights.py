"""Weights: the order of the kernel, and when there is one at all."""

from __future__ import annotations

from convspec.layers import kernel_orders
from convspec.layers.remarks.port import Port, Remark, Remarks


def kernel_order(port: Port) -> Remarks:
    """The kernel lies in another order, and may be flipped."""
    if not port.text:
        return
    spec, (before, after) = port.spec, port.stored
    code = kernel_orders.moves(spec, before, after)
    if not code:
        return
    text = (
        f"The kernel is {before.shape(spec)}, which is {before.axes(spec)}, there and {after.shape(spec)}, "
        f"{after.axes(spec)}, here"
    )
    if before.shape(spec) == after.shape(spec):
        text += ", so no shape tells a wrong order"
    yield Remark("kernel-order", f"{text}.{_special(before, after)}", "\n".join(code))


def _special(before: kernel_orders.Stored, after: kernel_orders.Stored) -> str:
    words = ""
    if "depthwise" in (before.kind, after.kind):
        words += " Filter m of channel c is output channel c·M + m."
    if "split" in (before.kind, after.kind):
        words += " The kernels are a list, one for each group."
    if before.flipped != after.flipped:
        words += " It is flipped along every spatial axis as well."
    return words


def transpose_kernel(port: Port) -> Remarks:
    """The argument of Flax' ConvTranspose that decides what its kernel means."""
    if port.of == "flax" and port.function == "ConvTranspose" and not port.arguments.get("transpose_kernel", False):
        text = "transpose_kernel=False, Flax' default, keeps the kernel flipped and its channels as (I, O)"
        yield Remark("transpose-kernel", f"{text}; the other frameworks keep neither so.")
    elif port.to == "flax" and port.of != "flax" and "transpose_kernel=True" in port.text:
        text = "transpose_kernel=True must be written: by default Flax expects a flipped kernel, its channels as (I, O)"
        yield Remark("transpose-kernel", f"{text}.")


def built_late(port: Port) -> Remarks:
    """Layers that have no weights before they know their input."""
    if not port.text:
        return
    if port.to == "keras" and port.of != "keras":
        text = "The layer has no weights before it has been built or called, on inputs of"
        text += f" {port.spec.in_channels} channels."
        yield Remark("built-late", text)
    elif port.target.startswith("flax-linen") and port.source != port.target:
        text = "linen keeps no weights in the layer: layer.init gives them, for an input of"
        text += f" {port.spec.in_channels} channels."
        yield Remark("built-late", text)


REMARKS = (kernel_order, transpose_kernel)
NOTES = (built_late,)
