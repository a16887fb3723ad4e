"""Write the nnx code of a layer from a spec; :mod:`convspec_flax.linen.plan` writes linen's.

Flax's layers are channels-last. ``Conv`` has everything that a regular layer needs but the padding modes and
channels-first tensors; ``ConvTranspose`` pads the dilated input where ConvSpec crops the output, and has no groups.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from convspec.contract import CHANNELS_FIRST, ConvSpec, Pads, Plan, call_text
from convspec.contract import xla_precision as compute_precision

__all__ = ["LINEN", "compute_precision", "plan", "written"]

_PAD_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
_FLAX_MODES = {"reflect": "REFLECT", "circular": "CIRCULAR"}
_CLASS = """\
{imports}


class Layer({module}.Module):
    {setup}
{made}

    def __call__(self, x):
{steps}


layer = Layer({rngs})
"""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One of Flax's two APIs.

    Attributes:
        module: the name that its layers are found under.
        imports: the statement that brings this name.
        rngs: argument that gives a layer its random keys; empty where initialisation comes later.
        setup: head of the method that makes a module's layers.
        takes_inputs: whether a constructor takes the number of input channels.
    """

    module: str
    imports: str
    rngs: str
    setup: str
    takes_inputs: bool


NNX = Dialect("nnx", "from flax import nnx", "rngs=nnx.Rngs(0)", "def __init__(self, *, rngs: nnx.Rngs):", True)
LINEN = Dialect("nn", "from flax import linen as nn", "", "def setup(self):", False)


def plan(spec: ConvSpec, layout: str, dtype: str) -> Plan:
    """The layer in ``flax.nnx``."""
    return written(spec, layout, dtype, NNX)


def written(spec: ConvSpec, layout: str, dtype: str, dialect: Dialect) -> Plan:
    """The layer in a dialect: one constructor, or a module around ``conv``."""
    padding, before, after, reasons = _transposed(spec) if spec.transposed else _regular(spec)
    if layout == CHANNELS_FIRST:
        before = ["x = jnp.moveaxis(x, 1, -1)  # channels last, as Flax wants them", *before]
        after = [*after, "x = jnp.moveaxis(x, -1, 1)"]
        reasons = ["Flax's convolutions are channels-last", *reasons]
    target, indent, rngs = ("self.conv", 8, "rngs=rngs") if reasons else ("layer", 0, dialect.rngs)
    function, arguments = _constructor(dialect, spec, padding, dtype)
    call = call_text(function, [*arguments, rngs] if dialect.rngs else arguments, target, indent)
    made = [*_remarks(spec, dtype), f"{target} = {call}"]
    steps = [*before, "x = self.conv(x)", *after]
    steps[-1] = steps[-1].replace("x = ", "return ", 1)
    numpy = any("jnp." in line for line in (*steps, call))
    imports = f"import jax.numpy as jnp\n{dialect.imports}" if numpy else dialect.imports
    if not reasons:
        return Plan(spec, layout, dtype, "\n".join([imports, "", *made, ""]))
    text = _CLASS.format(
        imports=imports, module=dialect.module, setup=dialect.setup, rngs=dialect.rngs,
        **{name: "\n".join(f"        {line}" for line in lines) for name, lines in (("made", made), ("steps", steps))},
    )  # fmt: skip
    return Plan(spec, layout, dtype, text, convs=("conv",), reasons=tuple(reasons))


def _regular(spec: ConvSpec) -> tuple[str, list[str], list[str], list[str]]:
    """The padding argument, the statements before and after the convolution, and the reasons for them."""
    if spec.padding_mode == "zeros":
        return _zero_padding(spec), [], [], []
    if not isinstance(spec.padding, str):
        if not any(map(any, spec.padding)):
            return '"VALID"', [], [], []
        if spec.padding == _halves(spec.effective_kernel) and spec.padding_mode in _FLAX_MODES:
            return f'"{_FLAX_MODES[spec.padding_mode]}"', [], [], []
        pads = ", ".join(map(str, ((0, 0), *spec.padding, (0, 0))))
        steps = [f'x = jnp.pad(x, ({pads}), mode="{_PAD_MODES[spec.padding_mode]}")']
        return '"VALID"', steps, [], [_mode_reason(spec)]
    return '"VALID"', _same_steps(spec), [], [_mode_reason(spec)]


def _mode_reason(spec: ConvSpec) -> str:
    if spec.padding_mode not in _FLAX_MODES:
        return f"Flax has no padding mode {spec.padding_mode!r}"
    return f"Flax's {_FLAX_MODES[spec.padding_mode]!r} padding has no pads but its own"


def _same_steps(spec: ConvSpec) -> list[str]:
    """Pads of ``"same"`` in another mode than zeros, from the input's size."""
    halves = "(p - p // 2, p // 2)" if spec.padding == "same_lower" else "(p // 2, p - p // 2)"
    return [
        f"sizes = zip(x.shape[1:-1], {spec.effective_kernel}, {spec.stride})  # size, kernel, stride",
        "pads = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in sizes]",
        f'x = jnp.pad(x, ((0, 0), *({halves} for p in pads), (0, 0)), mode="{_PAD_MODES[spec.padding_mode]}")',
    ]


def _zero_padding(spec: ConvSpec) -> str:
    """The ``padding`` argument of a regular layer that pads with zeros."""
    if isinstance(spec.padding, str):
        return f'"{spec.padding.upper()}"'
    if not any(map(any, spec.padding)):
        return '"VALID"'
    kernel = spec.effective_kernel
    if spec.padding == _halves(kernel) and set(spec.stride) == {1}:
        return '"SAME"'
    if spec.ndim == 1 and spec.padding == ((kernel[0] - 1, 0),):
        return '"CAUSAL"'
    return _pads_text(spec.padding)


def _halves(kernel: Iterable[int]) -> Pads:
    """The pads of ``"same"`` at stride 1, which are also those of Flax's ``"CIRCULAR"`` and ``"REFLECT"``."""
    return tuple(((k - 1) // 2, k // 2) for k in kernel)


def _pads_text(pads: Pads) -> str:
    """Pads as an expert writes them: one int, one per axis, or pairs."""
    if len(set(pads)) == 1 and pads[0][0] == pads[0][1]:
        return str(pads[0][0])
    if len(pads) > 1 and all(lo == hi for lo, hi in pads):
        return str(tuple(lo for lo, _ in pads))
    return str(pads)


def _transposed(spec: ConvSpec) -> tuple[str, list[str], list[str], list[str]]:
    """As :func:`_regular`. Crops (lo, hi) of the output are pads (ke-1-lo, ke-1-hi+op) of the dilated input."""
    kernel = spec.effective_kernel
    if isinstance(spec.padding, str):
        if spec.groups == 1:
            return '"SAME"', [], [], []
        totals = [k - s for k, s in zip(kernel, spec.stride, strict=True)]
        crops: Pads = tuple((max(t, 0) // 2, t - max(t, 0) // 2) for t in totals)
    else:
        crops = tuple((lo, hi - op) for (lo, hi), op in zip(spec.padding, spec.output_padding, strict=True))
    if spec.groups == 1 and (word := _transposed_word(spec, crops)):
        return word, [], [], []
    pads = tuple((k - 1 - lo, k - 1 - hi) for k, (lo, hi) in zip(kernel, crops, strict=True))
    if min(map(min, pads)) >= 0:
        return _pads_text(pads), [], [], []
    cuts = [f"{-min(a, 0) or ''}:{min(b, 0) or ''}" for a, b in pads]
    positive: Pads = tuple((max(a, 0), max(b, 0)) for a, b in pads)
    reason = "padding crops more than the kernel's reach, which would be a negative padding in Flax"
    return _pads_text(positive), [], [f"x = x[:, {', '.join(cuts)}]"], [reason]


def _transposed_word(spec: ConvSpec, crops: Pads) -> str | None:
    """Return Flax's word for these crops, if any: ``"VALID"`` gives at least ``stride`` outputs per input element."""
    kernel = spec.effective_kernel
    if crops == tuple((0, min(k - s, 0)) for k, s in zip(kernel, spec.stride, strict=True)):
        return '"VALID"'
    if set(spec.stride) == {1} and crops == _halves(kernel):
        return '"SAME"'
    return None


# -- code in a dialect -------------------------------------------------------------------------------------------------


def _constructor(dialect: Dialect, spec: ConvSpec, padding: str, dtype: str) -> tuple[str, list[str]]:
    """Name and arguments of the layer, without those that have their default value (``padding`` is always written).

    Flax's transposed layer has no groups: the same layer is a convolution of the input dilated by the stride. Its
    ``input_dilation`` is written even where it is 1: it marks a transposed layer with a flipped kernel.
    """
    dilated_input = spec.transposed and spec.groups > 1
    name = "ConvTranspose" if spec.transposed and not dilated_input else "Conv"
    arguments = [str(spec.in_channels)] if dialect.takes_inputs else []
    arguments += [str(spec.out_channels), f"kernel_size={spec.kernel_size}"]
    if dilated_input:
        arguments.append(f"input_dilation={spec.stride}")
    elif set(spec.stride) != {1}:
        arguments.append(f"strides={spec.stride}")
    arguments.append(f"padding={padding}")
    if set(spec.dilation) != {1}:
        arguments.append(f"kernel_dilation={spec.dilation}")
    if spec.groups > 1:
        arguments.append(f"feature_group_count={spec.groups}")
    if not spec.bias:
        arguments.append("use_bias=False")
    if name == "ConvTranspose":
        arguments.append("transpose_kernel=True")
    if dtype != "float32":
        arguments += [f"dtype=jnp.{dtype}", f"param_dtype=jnp.{dtype}"]
    return f"{dialect.module}.{name}", arguments


def _remarks(spec: ConvSpec, dtype: str) -> list[str]:
    remarks = []
    if dtype == "float64":
        remarks.append('# float64 needs jax.config.update("jax_enable_x64", True) before this')
    if spec.transposed and spec.groups > 1:
        remarks.append("# a transposed convolution with groups: the input is dilated by the stride, the kernel flipped")
    return remarks
