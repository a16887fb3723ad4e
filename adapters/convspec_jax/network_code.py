"""How users of JAX write the steps that need no layer of a framework: functions of jax.nn, jax.numpy and jax.image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from convspec.contract.network_code import Code, Reads, literal, number, write_slice
from convspec.contract.network_words import NotKnown
from convspec.spec import steps


def write_function(step: Any, reads: Reads) -> Code:
    """Return the code of a step as a function. Raises NotKnown where JAX has none."""
    make = next((make for kinds, make in _KINDS if isinstance(step, kinds)), None)
    if make is None:
        raise NotKnown(f"JAX has no function for {step}")
    return make(step, reads)


_ACTIVATIONS: dict[type, Callable[[Any], str | None]] = {
    steps.ReLU: lambda _: "jax.nn.relu({x})", steps.SELU: lambda _: "jax.nn.selu({x})",
    steps.Tanh: lambda _: "jnp.tanh({x})", steps.Mish: lambda _: "jax.nn.mish({x})",
    steps.SiLU: lambda s: "jax.nn.silu({x})" if s.beta == 1 else f"{{x}} * jax.nn.sigmoid({s.beta!r} * {{x}})",
    steps.Sigmoid: lambda s: f"jax.nn.{'log_' if s.log else ''}sigmoid({{x}})",
    steps.Softsign: lambda _: "jax.nn.soft_sign({x})", steps.TanhShrink: lambda _: "{x} - jnp.tanh({x})",
    steps.LeakyReLU: lambda s: f"jax.nn.leaky_relu({{x}}, {s.slope!r})",
    steps.ELU: lambda s: f"jax.nn.elu({{x}}, {s.alpha!r})", steps.CELU: lambda s: f"jax.nn.celu({{x}}, {s.alpha!r})",
    steps.GELU: lambda s: {
        "none": "jax.nn.gelu({x}, approximate=False)", "tanh": "jax.nn.gelu({x})",
    }.get(s.approximation, "{x} * jax.nn.sigmoid(1.702 * {x})"),
    steps.HardSigmoid: lambda s: f"jnp.clip({s.slope!r} * {{x}} + {s.offset!r}, 0, 1)",
    steps.HardSwish: lambda s: f"{{x}} * jnp.clip({s.slope!r} * {{x}} + {s.offset!r}, 0, 1)",
    steps.Softplus: lambda s: "jax.nn.softplus({x})" if s.beta == 1 else
        f"jax.nn.softplus({s.beta!r} * {{x}}) / {s.beta!r}",
    steps.Squareplus: lambda s: f"jax.nn.squareplus({{x}}, {s.b!r})",
    steps.HardShrink: lambda s: f"jnp.where(jnp.abs({{x}}) > {s.threshold!r}, {{x}}, 0)",
    steps.SoftShrink: lambda s: f"jnp.sign({{x}}) * jnp.maximum(jnp.abs({{x}}) - {s.threshold!r}, 0)",
    steps.Clip: lambda s: f"jnp.clip({{x}}, {s.minimum!r}, {s.maximum!r})",
    steps.Pointwise: lambda s: f"jnp.{s.function}({{x}})", steps.Power: lambda s: f"{{x}} ** {number(s.exponent)}",
}  # fmt: skip


def _activation(step: Any, _: Reads) -> Code:
    text = _ACTIVATIONS[type(step)](step) if type(step) in _ACTIVATIONS else None
    if text is None:
        raise NotKnown(f"JAX has no {step}")
    return Code(text)


_SIGNS = {steps.Add: "+", steps.Subtract: "-", steps.Multiply: "*", steps.Divide: "/"}


def _elementwise(step: Any, reads: Reads) -> Code:
    sign = _SIGNS.get(type(step))
    if sign is None:
        name = "maximum" if isinstance(step, steps.Maximum) else "minimum"
        return Code(f"jnp.{name}({{x}}, {'{y}' if step.constant is None else repr(step.constant)})")
    if step.constant is None:
        if len(reads.shapes) > 2:
            return Code("{sum}" if sign == "+" else "{product}")
        return Code(f"{{x}} {sign} {{y}}")
    sides = ("{x}", number(step.constant))
    return Code(f" {sign} ".join(sides[::-1] if getattr(step, "reflected", False) else sides))


def _pad(step: Any, reads: Reads) -> Code:
    rank = len(reads.shapes[0])
    pads = [(0, 0)] * (rank - len(step.padding)) + [tuple(pair) for pair in step.padding]
    if any(n < 0 for pair in pads for n in pair):
        if any(n > 0 for pair in pads for n in pair):
            raise NotKnown("a pad and a crop in one step")
        cuts = (f"{-lo or ''}:{n + hi if hi else ''}" for n, (lo, hi) in zip(reads.shapes[0], pads, strict=True))
        return Code(f"{{x}}[{', '.join(cuts)}]")
    mode = {"replicate": "edge", "circular": "wrap"}.get(step.mode, step.mode)
    word = "" if mode == "constant" else f", mode={mode!r}"
    value = f", constant_values={literal(step.value)}" if step.value else ""
    return Code(f"jnp.pad({{x}}, {tuple(pads)}{word}{value})")


def _global(step: Any, reads: Reads) -> Code:
    if step.reduction == "lp":
        raise NotKnown("there is no global Lp pool")
    name = "max" if step.reduction == "max" else "mean"
    return Code(f"jnp.{name}({{x}}, axis={tuple(reads.spatial)}{', keepdims=True' if step.keepdims else ''})")


def _resize(step: Any, reads: Reads) -> Code:
    shape = dict(enumerate(map(str, reads.shapes[0])))
    outs = step.output_spatial(reads.sizes)
    shape |= zip(reads.spatial, map(str, outs), strict=True)
    new = ", ".join(([] if reads.samples else ["{x}.shape[0]"]) + [*shape.values()][not reads.samples :])
    whole = all(out % n == 0 for n, out in zip(reads.sizes, outs, strict=True))
    if step.mode == "nearest" and whole and step.coordinates in ("half_pixel", "asymmetric"):
        return Code(f"jax.image.resize({{x}}, ({new}), 'nearest')")
    if step.mode == "linear" and step.coordinates == "half_pixel":
        alias = "" if step.antialias else ", antialias=False"
        return Code(f"jax.image.resize({{x}}, ({new}), 'linear'{alias})")
    raise NotKnown(f"JAX has no {step}")


def _list(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def _reshape(step: Any, reads: Reads) -> Code:
    shape = reads.shapes[0]
    sizes = [shape[i] if n == 0 and i else n for i, n in enumerate(step.shape)]
    if not reads.samples and sizes[:1] in ([0], [shape[0]]):
        return Code(f"{{x}}.reshape({{x}}.shape[0], {_list(sizes[1:])})")
    return Code(f"{{x}}.reshape({_list(sizes)})")


def _flatten(step: Any, reads: Reads) -> Code:
    shape = reads.shapes[0]
    start, end = step.bounds(shape)
    if (start, end) == (int(not reads.samples), len(shape)):
        return Code("{x}.reshape(-1)" if reads.samples else "{x}.reshape({x}.shape[0], -1)")
    sizes = (*shape[:start], prod(shape[start:end]), *shape[end:])
    return Code(f"{{x}}.reshape({_list(sizes)})")


def _split(step: Any, _: Reads) -> Code:
    ends = [sum(step.sizes[: i + 1]) for i in range(len(step.sizes) - 1)]
    return Code(f"jnp.split({{x}}, {ends}, axis={step.axis})")


def _shuffle(step: Any, reads: Reads) -> Code:
    """Return a pixel shuffle as its reshape and transpose, in either order of channels, in two dimensions."""
    if len(reads.sizes) != 2 or not isinstance(step, steps.PixelShuffle):
        raise NotKnown(f"there is no {step} here")
    r, first, crd = step.factor, reads.first, step.order == "CRD"
    h, w = reads.sizes
    out = reads.shapes[0][reads.spatial.start - 1 if first else -1] // r**2
    parts = (out, r, r) if crd else (r, r, out)
    if first:
        split, axes = (*parts, h, w), (0, 3, 1, 4, 2) if crd else (2, 3, 0, 4, 1)
        new: tuple[int, ...] = (out, h * r, w * r)
    else:
        split, axes = (h, w, *parts), (0, 3, 1, 4, 2) if crd else (0, 2, 1, 3, 4)
        new = (h * r, w * r, out)
    if reads.samples:
        return Code(f"{{x}}.reshape({_list(split)}).transpose({_list(axes)}).reshape({_list(new)})")
    moved = (0, *(axis + 1 for axis in axes))
    return Code(f"{{x}}.reshape(-1, {_list(split)}).transpose({_list(moved)}).reshape(-1, {_list(new)})")


def _channel_shuffle(step: Any, reads: Reads) -> Code:
    groups, batch = step.groups, "" if reads.samples else "-1, "
    shape = reads.shapes[0][not reads.samples :]
    if reads.first:
        split, axes = (groups, shape[0] // groups, *shape[1:]), "0, 1" if reads.samples else "1, 2"
    else:
        split, axes = (*shape[:-1], groups, shape[-1] // groups), "-1, -2"
    return Code(f"{{x}}.reshape({batch}{_list(split)}).swapaxes({axes}).reshape({batch}{_list(shape)})")


def pool_pads(step: Any, sizes: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return the pads of a pool with what its windows reach beyond them. Raises NotKnown for means that count these."""
    axes = list(zip(sizes, step.kernel_size, step.strides, step.pads(sizes), strict=True))
    over = [max((out - 1) * s + k - (n + lo + hi), 0)
            for out, (n, k, s, (lo, hi)) in zip(step.output_spatial(sizes), axes, strict=True)]  # fmt: skip
    if isinstance(step, steps.AveragePool) and step.count_include_pad and step.divisor is None and any(over):
        raise NotKnown("average pools of JAX' frameworks count what overhangs")
    return tuple((lo, hi + extra) for (*_, (lo, hi)), extra in zip(axes, over, strict=True))


def _axes(step: Any) -> str:
    return f"axis={tuple(step.axes) if step.axes else None}"


_KINDS: tuple[tuple[Any, Callable[[Any, Reads], Code]], ...] = (
    (steps.Elementwise, _elementwise), (steps.Activation, _activation),
    (steps.Pad, _pad), (steps.GlobalPool, _global), (steps.Resize, _resize), (steps.Reshape, _reshape),
    (steps.Flatten, _flatten), (steps.Slice, write_slice), (steps.Split, _split), (steps.PixelShuffle, _shuffle),
    (steps.ChannelShuffle, _channel_shuffle), (steps.Identity, lambda *_: Code("{x}")),
    (steps.Softmax, lambda s, _: Code(f"jax.nn.{'log_' if s.log else ''}softmax({{x}}, axis={s.axis})")),
    (steps.GLU, lambda s, _: Code(f"jax.nn.glu({{x}}, axis={s.axis})")),
    (steps.Permute, lambda s, _: Code(f"{{x}}.transpose({_list(s.axes)})")),
    (steps.Concat, lambda s, _: Code(f"jnp.concatenate([{{all}}], axis={s.axis})")),
    (steps.MatMul, lambda *_: Code("{x} @ {y}")),
    (steps.Reduce, lambda s, _: Code(f"jnp.{s.reduction}({{x}}, {_axes(s)}{', keepdims=True' if s.keepdims else ''})")),
    (steps.Squeeze, lambda s, _: Code(f"jnp.squeeze({{x}}, {_axes(s)})")),
    (steps.Unsqueeze, lambda s, _: Code(f"jnp.expand_dims({{x}}, {_axes(s)})")),
    (steps.Select, lambda s, _: Code(f"{{x}}[{s.index}]" if s.axis == 0 else
                                     f"jnp.take({{x}}, {s.index}, axis={s.axis})")),
    (steps.Expand, lambda s, r: Code(f"jnp.broadcast_to({{x}}, {s.output_shape(*r.shapes)})")),
)  # fmt: skip
