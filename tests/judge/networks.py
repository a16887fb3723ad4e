"""Random networks for judgements: a source of PyTorch as text, and ports as text in PyTorch's and Flax' words.

A network is a list of operations; a mistake changes the operations or the weights that a port is written from.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ACTIVATIONS = {
    "relu": ("torch.relu(x)", "nnx.relu(x)"),
    "leaky": ("nn.functional.leaky_relu(x, 0.2)", "nnx.leaky_relu(x, 0.2)"),
    "leaky 0.01": ("nn.functional.leaky_relu(x, 0.01)", "nnx.leaky_relu(x, 0.01)"),
    "gelu": ("nn.functional.gelu(x)", "nnx.gelu(x, approximate=False)"),
    "gelu tanh": ("nn.functional.gelu(x, approximate='tanh')", "nnx.gelu(x, approximate=True)"),
    "silu": ("nn.functional.silu(x)", "nnx.silu(x)"),
    "hardswish": ("nn.functional.hardswish(x)", "nnx.hard_swish(x)"),
    "relu6": ("nn.functional.relu6(x)", "nnx.relu6(x)"),
    "sigmoid": ("torch.sigmoid(x)", "nnx.sigmoid(x)"),
    "none": ("x", "x"),
}
POOLS = {
    "max": ("nn.functional.max_pool2d(x, 2)", "nnx.max_pool(x, (2, 2), (2, 2))"),
    "mean": ("nn.functional.avg_pool2d(x, 2)", "nnx.avg_pool(x, (2, 2), (2, 2))"),
    "stride 1": ("nn.functional.max_pool2d(x, 2, 1)", "nnx.max_pool(x, (2, 2), (1, 1))"),
}
HEADS = {
    "mean": ("x.mean((2, 3))", "x.mean((1, 2))"),
    "max": ("x.amax((2, 3))", "x.max((1, 2))"),
    "sum": ("x.sum((2, 3))", "x.sum((1, 2))"),
}
ENDS = {
    "plain": ("x", "x"),
    "softmax": ("torch.softmax(x, 1)", "nnx.softmax(x, 1)"),
    "softmax of the batch": ("torch.softmax(x, 0)", "nnx.softmax(x, 0)"),
    "sigmoid": ("torch.sigmoid(x)", "nnx.sigmoid(x)"),
}
PLAIN = {"act": ACTIVATIONS, "pool": POOLS, "head": HEADS, "end": ENDS}


@dataclass
class Op:
    """One operation: its kind, the name of its layer if it has weights, and its settings."""

    kind: str
    name: str = ""
    set: dict[str, Any] = field(default_factory=dict)


@dataclass
class Net:
    """Operations in sequence, with the weights of each by its name."""

    ops: list[Op]
    weights: dict[str, dict[str, np.ndarray]]

    def copy(self) -> Net:
        return copy.deepcopy(self)


def _conv(rng: random.Random, name: str, inputs: int, outputs: int, **own: Any) -> Op:
    kernel = rng.choice([(3, 3), (3, 5), (1, 3)])
    pads = tuple((n // 2, n // 2) for n in kernel)
    groups = 2 if inputs % 2 == outputs % 2 == 0 and rng.random() < 0.4 else 1
    settings = {"in": inputs, "out": outputs, "kernel": kernel, "stride": (1, 1), "pads": pads, "dilation": (1, 1),
                "groups": groups, "bias": rng.random() < 0.7, "mode": "zeros", "skip": 0.0}  # fmt: skip
    return Op("conv", name, settings | own)


def _act(rng: random.Random) -> Op:
    return Op("act", "", {"word": rng.choice(["relu", "leaky", "gelu", "silu"])})


def draw(seed: int) -> Net:
    """Return a random network that takes images of three channels and any size from about ten pixels on."""
    rng = random.Random(seed)
    width, ops = rng.choice([4, 6, 8]), []
    ops.append(_conv(rng, "stem", 3, width, stride=rng.choice([(1, 1), (2, 2), (2, 1)]), groups=1))
    ops += [Op("norm", "stem_norm", {"epsilon": 1e-5})]
    ops.append(_act(rng))
    for place in range(rng.choice([1, 2])):
        ops.append(_conv(rng, f"block{place}", width, width, kernel=(3, 3), pads=((1, 1), (1, 1)), skip=1.0))
        ops.append(_act(rng))
    ops.append(Op("pool", "", {"word": rng.choice(["max", "mean"])}))
    wide = width + rng.choice([1, 2, 4])
    ops.append(_conv(rng, "neck", width, wide, dilation=rng.choice([(1, 1), (1, 1), (2, 2)])))
    if rng.random() < 0.5:
        ops.append(Op("norm", "neck_norm", {"epsilon": 1e-5}))
    ops += [Op("act", "", {"word": rng.choice(["relu", "silu"])}), Op("head", "", {"word": "mean"})]
    ops.append(Op("linear", "classes", {"in": wide, "out": 5}))
    ops.append(Op("end", "", {"word": rng.choice(["plain", "softmax", "sigmoid"])}))
    weights = {op.name: _weights(op, np.random.default_rng([seed, i])) for i, op in enumerate(ops) if op.name}
    return _with_norms(Net(ops, weights), seed)


def _weights(op: Op, rng: np.random.Generator) -> dict[str, np.ndarray]:
    own = op.set
    if op.kind == "norm":
        return {}
    if op.kind == "linear":
        arrays = {"weight": rng.standard_normal((own["out"], own["in"])), "bias": rng.standard_normal(own["out"])}
    else:
        shape = (own["out"], own["in"] // own["groups"], *own["kernel"])
        arrays = {"weight": rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))}
        if own["bias"]:
            arrays["bias"] = rng.standard_normal(own["out"]) / 2
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def _with_norms(net: Net, seed: int) -> Net:
    """Return the network with the weights of its norms, which need the channels before them."""
    rng, channels = np.random.default_rng([seed, 99]), 3
    for op in net.ops:
        if op.kind == "conv":
            channels = op.set["out"]
        elif op.kind == "norm":
            op.set["channels"] = channels
            net.weights[op.name] = {
                "weight": (0.5 + rng.random(channels)).astype(np.float32),
                "bias": (rng.standard_normal(channels) / 2).astype(np.float32),
                "running_mean": (rng.standard_normal(channels) / 2).astype(np.float32),
                "running_var": (0.3 + rng.random(channels)).astype(np.float32),
            }
    return net


# -- text --------------------------------------------------------------------------------------------------------------

TORCH = """\
from pathlib import Path

import numpy as np
import torch
from torch import nn


class {name}(nn.Module):
    def __init__(self):
        super().__init__()
{layers}
        arrays = np.load(Path(__file__).with_name("{weights}"))
        self.load_state_dict({{key: torch.from_numpy(arrays[key]) for key in arrays}}, strict=False)

    def forward(self, x):
{steps}
        return x
"""
FLAX = """\
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx


class {name}(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
{layers}
        arrays = np.load(Path(__file__).with_name("{weights}"))
        for key in arrays:
            layer, array = key.split(".")
            getattr(getattr(self, layer), array).set_value(jnp.asarray(arrays[key]))

    def __call__(self, x):
{steps}
        return x
"""


def write(net: Net, path: Path, *, name: str, flax: bool = False, prefix: str = "") -> None:
    """Write the network as a file of code, with its weights beside it; ``prefix`` begins the names of its layers."""
    lines = {op.name: (_flax_layer if flax else _torch_layer)(op) for op in net.ops if op.name}
    layers = "\n".join(f"        self.{prefix}{own} = {text}" for own, text in lines.items())
    steps = "\n".join(f"        {line}" for op in net.ops for line in _steps(op, prefix, flax=flax))
    weights = f"{path.stem}.npz"
    arrays = {f"{prefix}{own}.{key}": array for own, all_ in net.weights.items() for key, array in all_.items()}
    if flax:
        kinds = {op.name: op.kind for op in net.ops}
        arrays = dict(_flax_array(prefix, own, kinds[own], key, array) for own, all_ in net.weights.items()
                      for key, array in all_.items() if own in kinds)  # fmt: skip
    np.savez(path.with_name(weights), **arrays)
    path.write_text((FLAX if flax else TORCH).format(name=name, layers=layers, steps=steps, weights=weights))


def _torch_layer(op: Op) -> str:
    own = op.set
    if op.kind == "norm":
        return f"nn.BatchNorm2d({own['channels']}, eps={own['epsilon']})"
    if op.kind == "linear":
        return f"nn.Linear({own['in']}, {own['out']})"
    even = all(a == b for a, b in own["pads"])
    padding = f", padding={tuple(a for a, _ in own['pads'])}, padding_mode={own['mode']!r}" if even else ""
    return (f"nn.Conv2d({own['in']}, {own['out']}, {own['kernel']}, {own['stride']}{padding}, "
            f"dilation={own['dilation']}, groups={own['groups']}, bias={own['bias']})")  # fmt: skip


def _flax_layer(op: Op) -> str:
    own = op.set
    if op.kind == "norm":
        return f"nnx.BatchNorm({own['channels']}, use_running_average=True, epsilon={own['epsilon']}, rngs=rngs)"
    if op.kind == "linear":
        return f"nnx.Linear({own['in']}, {own['out']}, rngs=rngs)"
    padding = "'REFLECT'" if own["mode"] == "reflect" else list(own["pads"])
    return (f"nnx.Conv({own['in']}, {own['out']}, {own['kernel']}, {own['stride']}, padding={padding}, "
            f"kernel_dilation={own['dilation']}, feature_group_count={own['groups']}, use_bias={own['bias']}, "
            f"rngs=rngs)")  # fmt: skip


def _flax_array(prefix: str, own: str, kind: str, key: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    names = {"norm": {"weight": "scale", "running_mean": "mean", "running_var": "var"}}.get(kind, {"weight": "kernel"})
    if kind != "norm" and key == "weight":
        array = array.T if array.ndim == 2 else array.transpose(2, 3, 1, 0)
    return f"{prefix}{own}.{names.get(key, key)}", np.ascontiguousarray(array)


def _steps(op: Op, prefix: str, *, flax: bool) -> list[str]:
    if op.kind in PLAIN:
        return [f"x = {PLAIN[op.kind][op.set['word']][flax]}"]
    if op.kind == "code":
        return [op.set["flax" if flax else "torch"]]
    own = "x"
    if op.kind == "conv" and not flax and any(a != b for a, b in op.set["pads"]):
        (top, bottom), (left, right) = op.set["pads"]
        own = f"nn.functional.pad(x, ({left}, {right}, {top}, {bottom}))"
    call, skip = f"self.{prefix}{op.name}({own})", op.set.get("skip", 0.0)
    return [f"x = {call}" if not skip else f"x = x + {call}" if skip == 1 else f"x = {skip} * x + {call}"]
