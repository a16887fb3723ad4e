"""How users of Equinox write a step, and a network: a module of one sample, with its state where norms have some."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

from convspec_jax.network_code import pool_pads, write_function

from convspec.contract import ConvSpec
from convspec.contract.network_code import Code, Line, Program, Reads, Target, call, native_layer, one
from convspec.contract.network_words import NotKnown
from convspec.spec import steps
from convspec.spec.steps import Step
from convspec_equinox.plan import plan

_KEY = "key=next(keys)"
_STATE = "{layer}({x}, state)"


def write(step: ConvSpec | Step, reads: Reads) -> Code:
    """Return the code of a step. Raises NotKnown where Equinox has no counterpart."""
    if isinstance(step, ConvSpec):
        return Code(layer=native_layer(plan(step, "NCHW", "float32"), key="next(keys)"))
    make = next((make for kinds, make in _KINDS if isinstance(step, kinds)), None)
    return make(step, reads) if make else write_function(step, reads)


def _mapped(layer: str, axes: int) -> Code:
    """Return a layer that is mapped over the first axes of what it reads."""
    return Code(f"{'jax.vmap(' * axes}{{layer}}{')' * axes}({{x}})", layer)


def _pool(step: Any, reads: Reads) -> Code:
    mean, size = isinstance(step, steps.AveragePool), tuple(step.kernel_size)
    if isinstance(step, steps.LpPool) or set(step.dilation) != {1}:
        raise NotKnown(f"Equinox has no {step}")
    pads = pool_pads(step, reads.sizes)
    if mean and (step.divisor not in (None, prod(size)) or (
            any(map(any, pads)) and step.divisor is None and not step.count_include_pad)):  # fmt: skip
        raise NotKnown("Equinox' average pools count their pads")
    if any(max(pair) > k for pair, k in zip(pads, size, strict=True)):
        raise NotKnown("Equinox' pools have pads no wider than the window")
    given: tuple[Any, ...] = ([one(pair) for pair in pads], tuple(step.strides), size)
    padding, stride, window = map(one, given)
    more = {"stride": (stride, 1), "padding": (padding if isinstance(padding, int) else pads, 0)}
    return Code(layer=call(f"eqx.nn.{'Avg' if mean else 'Max'}Pool{len(size)}d", window, **more))


def _adaptive(step: Any, reads: Reads) -> Code:
    outs = step.output_spatial(reads.sizes)
    if step.bins != "disjoint" and any(out == 0 or n % out for n, out in zip(reads.sizes, outs, strict=True)):
        raise NotKnown("Equinox' adaptive pools have bins that do not overlap")
    return Code(layer=f"eqx.nn.Adaptive{'Max' if step.reduction == 'max' else 'Avg'}Pool{len(outs)}d({outs})")


def _channel_norm(step: Any, _: Reads) -> Code:
    if step.scale != step.bias:
        raise NotKnown("a norm of Equinox has a scale and a bias, or none")
    more = {"eps": (step.epsilon, 1e-5), "channelwise_affine": (step.scale, True)}
    if isinstance(step, steps.BatchNorm):
        return Code(_STATE, call("eqx.nn.BatchNorm", step.channels, "batch", mode=("batch", None), **more))
    groups = step.channels if isinstance(step, steps.InstanceNorm) else step.groups
    return Code(layer=call("eqx.nn.GroupNorm", groups, step.channels, **more))


def _layer_norm(step: Any, reads: Reads) -> Code:
    rank, count = len(reads.shapes[0]), len(step.axes)
    axes = [axis % rank for axis in step.axes]
    shape = step.shape[0] if count == 1 else tuple(step.shape)
    more = {"eps": (step.epsilon, 1e-5), "use_weight": (step.scale, True), "use_bias": (step.bias, True)}
    layer = call(f"eqx.nn.{'RMS' if isinstance(step, steps.RMSNorm) else 'Layer'}Norm", shape, **more)
    if step.parameter_axes not in ((), tuple(step.axes)):
        raise NotKnown("Equinox' layer norm has its scale on the axes that it normalises")
    if axes == list(range(rank - count, rank)):
        return _mapped(layer, rank - count)
    if count == 1:
        return Code(f"jnp.apply_along_axis({{layer}}, {axes[0]}, {{x}})", layer)
    raise NotKnown(f"Equinox' layer norm is over the last axes, not {step.axes}")


def _linear(step: Any, reads: Reads) -> Code:
    layer = call("eqx.nn.Linear", step.in_features, step.out_features, use_bias=(step.bias, True))
    layer, rank = f"{layer.removesuffix(')')}, {_KEY})", len(reads.shapes[0])
    if step.axis % rank == rank - 1:
        return _mapped(layer, rank - 1)
    return Code(f"jnp.apply_along_axis({{layer}}, {step.axis}, {{x}})", layer)


def _prelu(step: Any, reads: Reads) -> Code:
    rank = len(reads.shapes[0]) - (not reads.samples)
    slopes = (*step.shape, *[1] * (rank - len(step.shape)))
    return Code(layer=f"eqx.nn.PReLU({'' if prod(slopes) == 1 else f'jnp.full({slopes}, 0.25)'})")


def _dropout(step: Any, _: Reads) -> Code:
    if step.unit != "element":
        raise NotKnown(f"Equinox has no dropout of a whole {step.unit}")
    return Code(layer=f"eqx.nn.Dropout({step.rate!r})")


_KINDS: tuple[tuple[Any, Callable[[Any, Reads], Code]], ...] = (
    (steps.WindowPool, _pool), (steps.AdaptivePool, _adaptive),
    (steps.BatchNorm | steps.GroupNorm | steps.InstanceNorm, _channel_norm),
    (steps.LayerNorm, _layer_norm), (steps.Linear, _linear), (steps.PReLU, _prelu), (steps.Dropout, _dropout),
    (steps.Embedding, lambda s, r: _mapped(f"eqx.nn.Embedding({s.num_embeddings}, {s.features}, {_KEY})",
                                           len(r.shapes[0]))),
    (steps.Parameter, lambda s, _: Code("{layer}", f"jnp.zeros({tuple(s.shape)})")),
)  # fmt: skip


def assemble(program: Program) -> str:
    """Return the text of a program as a module; with batch norms ``model`` is the module with its state."""
    keys = sum(_KEY in text for _, text in program.layers)
    state = any(line.code.call == _STATE for line in program.lines)
    fields = "".join(f"    {name}: {_annotation(text)}\n" for name, text in program.layers)
    init = f"        keys = iter(jax.random.split(key, {keys}))\n" if keys else ""
    init += "".join(f"        self.{name} = {text}\n" for name, text in program.layers) or "        pass\n"
    body = "".join(f"        {_stated(line).statement(f'self.{line.layer}')}\n" for line in program.lines)
    names = ", ".join([name for name, _ in program.inputs] + ["state"] * state)
    results = ", ".join(program.results)
    if state and len(program.results) > 1:
        results = f"({results})"
    maker = f"eqx.nn.make_with_state({program.name})" if state else program.name
    made = f"model{', state' * state} = {maker}(key=jax.random.key(0))\n"
    if state or any("eqx.nn.Dropout" in text for _, text in program.layers):
        made += f"model = eqx.nn.inference_mode(model){', state' * state}\n"
    return (
        "import equinox as eqx\nimport jax\nimport jax.numpy as jnp\n\n\n"
        f"class {program.name}(eqx.Module):\n{fields}\n    def __init__(self, key):\n{init}\n"
        f"    def __call__(self, {names}):\n{body}        return {results}{', state' * state}\n\n\n{made}"
    )


def _annotation(text: str) -> str:
    """Return the class of a layer, or that of an array."""
    return text.partition("(")[0] if text.startswith("eqx.nn.") else "jax.Array"


def _stated(line: Line) -> Line:
    return replace(line, writes=(*line.writes, "state")) if line.code.call == _STATE else line


TARGET = Target("Equinox", "NCHW", write, assemble, samples=True)
