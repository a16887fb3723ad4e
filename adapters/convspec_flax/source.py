"""Write Flax code in the dialects of nnx and linen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convspec.contract import ConvSpec

_WIDTH = 88


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


def constructor(dialect: Dialect, spec: ConvSpec, padding: str, dtype: str) -> tuple[str, list[str]]:
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


def layer_text(dialect: Dialect, spec: ConvSpec, conv: tuple[str, list[str]], dtype: str) -> str:
    """Code whose ``layer`` is the framework's own layer."""
    name, arguments = conv
    call = _call("layer = ", name, [*arguments, dialect.rngs] if dialect.rngs else arguments, 0)
    return "\n".join([*_numpy_import(call), dialect.imports, "", *_remarks(spec, dtype), *call, ""])


def class_text(
    dialect: Dialect,
    spec: ConvSpec,
    conv: tuple[str, list[str]],
    dtype: str,
    before: Sequence[str],
    after: Sequence[str],
) -> str:
    """Return code whose ``layer`` is a module with the framework's layer as ``conv``."""
    name, arguments = conv
    call = _call("self.conv = ", name, [*arguments, "rngs=rngs"] if dialect.rngs else arguments, 8)
    steps = [*before, "x = self.conv(x)", *after]
    steps[-1] = steps[-1].replace("x = ", "return ", 1)
    lines = [
        *_numpy_import((*before, *after, *call)),
        dialect.imports,
        "",
        "",
        f"class Layer({dialect.module}.Module):",
        f"    {dialect.setup}",
        *(f"        {line}" for line in _remarks(spec, dtype)),
        *call,
        "",
        "    def __call__(self, x):",
        *(f"        {step}" for step in steps),
        "",
        "",
        f"layer = Layer({dialect.rngs})",
        "",
    ]
    return "\n".join(lines)


def _numpy_import(lines: Sequence[str]) -> list[str]:
    return ["import jax.numpy as jnp"] if any("jnp." in line for line in lines) else []


def _remarks(spec: ConvSpec, dtype: str) -> list[str]:
    remarks = []
    if dtype == "float64":
        remarks.append('# float64 needs jax.config.update("jax_enable_x64", True) before this')
    if spec.transposed and spec.groups > 1:
        remarks.append("# a transposed convolution with groups: the input is dilated by the stride, the kernel flipped")
    return remarks


def _call(target: str, name: str, arguments: Sequence[str], indent: int) -> list[str]:
    """A call in as few lines as fit, broken as the usual formatters break it."""
    space = " " * indent
    line = f"{space}{target}{name}({', '.join(arguments)})"
    if len(line) <= _WIDTH:
        return [line]
    inner = f"{space}    {', '.join(arguments)}"
    body = [inner] if len(inner) <= _WIDTH else [f"{space}    {argument}," for argument in arguments]
    return [f"{space}{target}{name}(", *body, f"{space})"]
