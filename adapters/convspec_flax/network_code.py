"""How users of Flax write a step, and a network: with nnx, and with linen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from convspec_jax.network_code import pool_pads, write_function

from convspec.contract import ConvSpec
from convspec.contract.network_code import Code, Program, Reads, Target, call, native_layer
from convspec.contract.network_words import NotKnown
from convspec.spec import steps
from convspec.spec.steps import Step
from convspec_flax.linen.plan import plan as linen_plan
from convspec_flax.plan import plan as nnx_plan

_NAME = "'parameter'"  # in the place of the name of a parameter of linen


class _Writer:
    """The code of steps in nnx or linen: their layers differ by the input's size and ``rngs``."""

    def __init__(self, *, nnx: bool) -> None:
        self.nnx = nnx

    def write(self, step: ConvSpec | Step, reads: Reads) -> Code | Sequence[Code]:
        """Return the code of a step. Raises NotKnown where Flax has no counterpart."""
        if isinstance(step, ConvSpec):
            plan = (nnx_plan if self.nnx else linen_plan)(step, "NHWC", "float32")
            return Code(layer=native_layer(plan, rngs="rngs") if self.nnx else native_layer(plan))
        make = next((make for kinds, make in self._kinds if isinstance(step, kinds)), None)
        return make(self, step, reads) if make else write_function(step, reads)

    def _layer(self, name: str, size: int | None, **more: tuple[Any, Any]) -> Code:
        """Return a layer; nnx is told the size of its input, and gets ``rngs``."""
        text = call(f"{'nnx' if self.nnx else 'nn'}.{name}", *([size] if self.nnx and size else []), **more)
        if not self.nnx:
            return Code(layer=text)
        text = text.removesuffix(")")
        return Code(layer=f"{text}{'' if text.endswith('(') else ', '}rngs=rngs)")

    def _function(self, name: str) -> str:
        return f"{'nnx' if self.nnx else 'nn'}.{name}"

    def pool(self, step: Any, reads: Reads) -> Code:
        if isinstance(step, steps.LpPool) or set(step.dilation) != {1} or getattr(step, "divisor", None):
            raise NotKnown(f"Flax has no {step}")
        mean, pads = isinstance(step, steps.AveragePool), pool_pads(step, reads.sizes)
        padding = f", padding={pads}" if any(map(any, pads)) else ""
        counted = ", count_include_pad=False" if mean and padding and not step.count_include_pad else ""
        name = self._function("avg_pool" if mean else "max_pool")
        return Code(f"{name}({{x}}, {tuple(step.kernel_size)}, strides={tuple(step.strides)}{padding}{counted})")

    def adaptive(self, step: Any, reads: Reads) -> Code:
        sizes = reads.shapes[0][1:-1]
        outs = step.output_spatial(sizes)
        if any(out == 0 or n % out for n, out in zip(sizes, outs, strict=True)):
            raise NotKnown(f"Flax has no {step} of {sizes}")
        window = tuple(n // out for n, out in zip(sizes, outs, strict=True))
        name = self._function("max_pool" if step.reduction == "max" else "avg_pool")
        return Code(f"{name}({{x}}, {window}, strides={window})")

    def norm(self, step: Any, reads: Reads) -> Code:
        more = {"epsilon": (step.epsilon, 1e-5 if isinstance(step, steps.BatchNorm) else 1e-6),
                "use_bias": (step.bias, True), "use_scale": (step.scale, True)}  # fmt: skip
        if isinstance(step, steps.BatchNorm):
            if not self.nnx:
                return self._layer("BatchNorm", None, use_running_average=(True, None), **more)
            return self._layer("BatchNorm", step.channels, **more)
        if isinstance(step, steps.GroupNorm):
            return self._layer("GroupNorm", step.channels, num_groups=(step.groups, 32), **more)
        if isinstance(step, steps.InstanceNorm):
            return self._layer("InstanceNorm", step.channels, **more)
        rank = len(reads.shapes[0])
        if [a % rank for a in step.axes] != [rank - 1] or step.parameter_axes not in ((), tuple(step.axes)):
            raise NotKnown(f"Flax's layer norm here is over the last axis, not {step.axes}")
        if isinstance(step, steps.RMSNorm):
            if step.bias:
                raise NotKnown("Flax's RMS norm has no bias")
            return self._layer("RMSNorm", step.shape[0], epsilon=more["epsilon"], use_scale=more["use_scale"])
        return self._layer("LayerNorm", step.shape[0], **more)

    def linear(self, step: Any, reads: Reads) -> Code:
        args = [step.in_features, step.out_features] if self.nnx else [step.out_features]
        text = call("nnx.Linear" if self.nnx else "nn.Dense", *args, use_bias=(step.bias, True))
        layer = f"{text.removesuffix(')')}, rngs=rngs)" if self.nnx else text
        rank = len(reads.shapes[0])
        if step.axis % rank == rank - 1:
            return Code(layer=layer)
        return Code(f"jnp.moveaxis({{layer}}(jnp.moveaxis({{x}}, {step.axis}, -1)), -1, {step.axis})", layer)

    def dropout(self, step: Any, reads: Reads) -> Code:
        dims = tuple(range(1, len(reads.shapes[0]) - 1)) if step.unit == "channel" else ()
        if self.nnx:
            text = call("nnx.Dropout", step.rate, broadcast_dims=(dims, ()))
            return Code(layer=f"{text.removesuffix(')')}, rngs=rngs)")
        return Code(layer=call("nn.Dropout", step.rate, broadcast_dims=(dims, ()), deterministic=(True, None)))

    def embedding(self, step: Any, _: Reads) -> Code:
        name = self._function("Embed")
        rngs = ", rngs=rngs" if self.nnx else ""
        return Code(layer=f"{name}({step.num_embeddings}, {step.features}{rngs})")

    def prelu(self, step: Any, reads: Reads) -> Code:
        if max(step.shape) == 1:
            return Code(layer=f"{self._function('PReLU')}()")
        slope = self.parameter(
            steps.Parameter((*step.shape, *[1] * (len(reads.shapes[0]) - 1 - len(step.shape)))), reads
        )
        return Code(f"jax.nn.leaky_relu({{x}}, {slope.call})", slope.layer)

    def parameter(self, step: Any, _: Reads) -> Code:
        shape = tuple(step.shape)
        if self.nnx:
            return Code("{layer}[...]", f"nnx.Param(jnp.zeros({shape}))")
        return Code("{layer}", f"self.param({_NAME}, nn.initializers.zeros, {shape})")

    _kinds: tuple[tuple[Any, Callable[[_Writer, Any, Reads], Code]], ...] = (
        (steps.WindowPool, pool), (steps.AdaptivePool, adaptive), (steps.Norm, norm), (steps.Linear, linear),
        (steps.Dropout, dropout), (steps.Embedding, embedding), (steps.PReLU, prelu), (steps.Parameter, parameter),
    )  # fmt: skip


def assemble_nnx(program: Program) -> str:
    """Return the text of a program as an nnx module."""
    init = "".join(f"        self.{name} = {text}\n" for name, text in program.layers) or "        pass\n"
    body = "".join(f"        {line.statement(f'self.{line.layer}')}\n" for line in program.lines)
    names = ", ".join(name for name, _ in program.inputs)
    return (
        "import jax\nimport jax.numpy as jnp\nfrom flax import nnx\n\n\n"
        f"class {program.name}(nnx.Module):\n    def __init__(self, *, rngs: nnx.Rngs):\n{init}\n"
        f"    def __call__(self, {names}):\n{body}        return {', '.join(program.results)}\n\n\n"
        f"model = {program.name}(rngs=nnx.Rngs(0))\nmodel.eval()\n"
    )


def assemble_linen(program: Program) -> str:
    """Return the text of a program as a linen module with its variables."""
    layers = [(name, text.replace(_NAME, repr(name))) for name, text in program.layers]
    init = "".join(f"        self.{name} = {text}\n" for name, text in layers) or "        pass\n"
    body = "".join(f"        {line.statement(f'self.{line.layer}')}\n" for line in program.lines)
    names = ", ".join(name for name, _ in program.inputs)
    zeros = ", ".join(f"jnp.zeros({shape})" for _, shape in program.inputs)
    return (
        "import jax\nimport jax.numpy as jnp\nfrom flax import linen as nn\n\n\n"
        f"class {program.name}(nn.Module):\n    def setup(self):\n{init}\n"
        f"    def __call__(self, {names}):\n{body}        return {', '.join(program.results)}\n\n\n"
        f"module = {program.name}()\nmodel = module, module.init(jax.random.key(0), {zeros})\n"
    )


TARGET = Target("Flax nnx", "NHWC", _Writer(nnx=True).write, assemble_nnx)
LINEN = Target("Flax linen", "NHWC", _Writer(nnx=False).write, assemble_linen)
