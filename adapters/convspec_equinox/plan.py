"""Write the text of an Equinox layer from a spec. It takes one sample, ``(C, *spatial)``: vmap it for a batch."""

from __future__ import annotations

from collections.abc import Sequence

from convspec.contract import CHANNELS_LAST, ConvSpec, Pads, Plan
from convspec.contract import xla_precision as compute_precision

__all__ = ["compute_precision", "plan"]

_MODULE = """\
class {name}(eqx.Module):
    conv: eqx.nn.{kind}

    def __init__(self, key):
        self.conv = {conv}

    def __call__(self, x):
{statements}


layer = {name}(key=jax.random.key(0))
"""


def plan(spec: ConvSpec, layout: str, dtype: str) -> Plan:
    """The program: one constructor, or a module with a crop or moves of the channel axis around ``conv``."""
    kind = f"Conv{'Transpose' if spec.transposed else ''}{spec.ndim}d"
    arguments, cuts = _arguments(spec)
    if dtype != "float32":
        arguments.append(f"dtype=jnp.{dtype}")
    before, after, reasons = [], [], []
    if cuts:
        slices = [f"{lo or ''}:{-hi or ''}" for lo, hi in cuts]
        after.append(f"x = x[:, {', '.join(slices)}]")
        reasons.append("the crop is wider than the kernel reaches, which Equinox would ask of JAX as a negative pad")
    if layout == CHANNELS_LAST:
        before, after = ["x = jnp.moveaxis(x, -1, 0)"], [*after, "x = jnp.moveaxis(x, 0, -1)"]
        reasons.append("Equinox's convolutions are channels-first: the channel axis is moved")
    head = "import equinox as eqx\nimport jax\n"
    if dtype != "float32" or layout == CHANNELS_LAST:
        head += "import jax.numpy as jnp\n"
    if not reasons:
        call = _call(kind, [*arguments, "key=jax.random.key(0)"], 0)
        return Plan(spec, layout, dtype, f"{head}\nlayer = {call}\n")
    name = ("ChannelsLast" if before else "") + ("Cropped" if cuts else "") + kind
    steps = [*before, "x = self.conv(x)", *after, "return x"]
    text = _MODULE.format(
        name=name, kind=kind, conv=_call(kind, [*arguments, "key=key"], 8),
        statements="\n".join(f"        {step}" for step in steps),
    )  # fmt: skip
    return Plan(spec, layout, dtype, f"{head}\n\n{text}", convs=("conv",), reasons=tuple(reasons))


def _arguments(spec: ConvSpec) -> tuple[list[str], Pads]:
    """Return the constructor's arguments that differ from its defaults, and the crop that follows it."""
    padding, extra, cuts = _padding(spec)
    given = [
        ("stride", _one(spec.stride), "1"),
        ("padding", padding, "0"),
        ("output_padding", _one(extra), "0"),
        ("dilation", _one(spec.dilation), "1"),
        ("groups", str(spec.groups), "1"),
        ("use_bias", str(spec.bias), "True"),
        ("padding_mode", f'"{spec.padding_mode.upper()}"', '"ZEROS"'),
    ]
    out = [str(spec.in_channels), str(spec.out_channels), _one(spec.kernel_size)]
    return out + [f"{name}={value}" for name, value, default in given if value != default], cuts


def _padding(spec: ConvSpec) -> tuple[str, tuple[int, ...], Pads]:
    """Return ``padding`` as text, ``output_padding``, and the crop of the output that remains.

    Equinox turns the pads (lo, hi) of a transposed layer into (ke - 1 - lo, ke - 1 - hi + output_padding) around the
    dilated input, which equals ConvSpec's crop. It needs output_padding < stride: the excess goes into hi.
    """
    if isinstance(spec.padding, str):
        return f'"{spec.padding.upper()}"', (0,) * spec.ndim, ()
    if not spec.transposed:
        return _pairs(spec.padding), (0,) * spec.ndim, ()
    pads, extra, cuts = [], [], []
    for (lo, hi), op, stride, ke in zip(
        spec.padding, spec.output_padding, spec.stride, spec.effective_kernel, strict=True
    ):
        inside = op if op < stride else 0
        wanted = lo, hi - (op - inside)
        kept = min(wanted[0], ke - 1), min(wanted[1], ke - 1 + inside)
        pads.append(kept)
        extra.append(inside)
        cuts.append((wanted[0] - kept[0], wanted[1] - kept[1]))
    return _pairs(tuple(pads)), tuple(extra), tuple(cuts) if any(map(any, cuts)) else ()


def _pairs(pads: Pads) -> str:
    """Return pads as users write them: one number, one per axis, or pairs."""
    if all(lo == hi for lo, hi in pads):
        return _one(tuple(lo for lo, _ in pads))
    return str(tuple(pads))


def _one(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else str(tuple(values))


def _call(kind: str, arguments: Sequence[str], indent: int) -> str:
    line = f"eqx.nn.{kind}({', '.join(arguments)})"
    if indent + len("self.conv = ") + len(line) <= 88:
        return line
    inner, outer = " " * (indent + 4), " " * indent
    return f"eqx.nn.{kind}(\n" + "".join(f"{inner}{argument},\n" for argument in arguments) + f"{outer})"
