"""The source model: PyTorch, with modules for what PyTorch has modules for."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tests.pairs.network import INPUT, Net, Op, Shape, Weights

ACTIVATIONS = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "silu": nn.SiLU, "gelu": nn.GELU, "hard_swish": nn.Hardswish, "tanh": nn.Tanh,
    "elu": nn.ELU, "sigmoid": nn.Sigmoid, "hard_sigmoid": nn.Hardsigmoid,
}  # fmt: skip


class Scale(nn.Module):
    """A layer scale."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x):
        return x * self.gamma


class ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of images, as ConvNeXt has it."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Network(nn.Module):
    """The modules of a network, and the calls of the description in order."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net, shapes = net, net.shapes()
        for op in net.ops:
            if not op.of and (module := _module(op, shapes[op.reads[0]])) is not None:
                self.add_module(op.name, module)

    def forward(self, x):
        values = {INPUT: x}
        for op in self.net.ops:
            values[op.name] = self._call(op, *(values[read] for read in op.reads))
        results = [values[name] for name in self.net.results]
        return results[0] if len(results) == 1 else tuple(results)

    def _call(self, op: Op, *xs):
        x = xs[0]
        if hasattr(self, op.of or op.name):
            if op.kind in ("conv", "avg_pool", "max_pool") and any(lo != hi for lo, hi in op["pads"]):
                (top, bottom), (left, right) = op["pads"]
                x = F.pad(x, (left, right, top, bottom))
            return getattr(self, op.of or op.name)(x)
        match op.kind:
            case "global_pool":
                return x.amax((2, 3)) if op.get("max") else x.mean((2, 3))
            case "spread":
                return x[:, :, None, None]
            case "resize":
                align = op["align"] if op["mode"] == "bilinear" else None
                return F.interpolate(x, scale_factor=2, mode=op["mode"], align_corners=align)
            case "concat":
                return torch.cat(xs, 1)
            case "add":
                return xs[0] + xs[1]
            case "multiply":
                return xs[0] * xs[1]
            case "flatten":
                return x.flatten(1)
            case "unflatten":
                return x.view(-1, *op["shape"])
            case "softmax":
                return x.softmax(1)
        raise ValueError(op.kind)


def _module(op: Op, reads: Shape) -> nn.Module | None:
    c = reads[0]
    match op.kind:
        case "conv":
            lows = tuple(lo if lo == hi else 0 for lo, hi in op["pads"])
            if any(lo != hi for lo, hi in op["pads"]):
                lows = (0, 0)
            return nn.Conv2d(c, op["out"], op["kernel"], op["stride"], lows, op["dilation"], op["groups"], op["bias"],
                             op.get("mode", "zeros"))  # fmt: skip
        case "deconv":
            return nn.ConvTranspose2d(c, op["out"], op["kernel"], op["stride"], tuple(lo for lo, _ in op["pads"]),
                                      op["output_padding"], bias=op["bias"])  # fmt: skip
        case "linear":
            return nn.Linear(c, op["out"])
        case "batch_norm":
            return nn.BatchNorm2d(c, op["epsilon"])
        case "group_norm":
            return nn.GroupNorm(op["groups"], c, op["epsilon"])
        case "instance_norm":
            return nn.InstanceNorm2d(c, op["epsilon"], affine=op["affine"])
        case "layer_norm":
            return ChannelNorm(c, op["epsilon"])
        case "act":
            if op["function"] == "leaky_relu":
                return nn.LeakyReLU(op["slope"])
            return nn.GELU("tanh") if op["function"] == "gelu_tanh" else ACTIVATIONS[op["function"]]()
        case "prelu":
            return nn.PReLU(1 if op["shared"] else c)
        case "scale":
            return Scale(c)
        case "max_pool":
            return nn.MaxPool2d(
                op["kernel"], op["stride"], [lo for lo, _ in op["pads"]], ceil_mode=op.get("ceil", False)
            )
        case "avg_pool":
            return nn.AvgPool2d(op["kernel"], op["stride"], [lo for lo, _ in op["pads"]], op.get("ceil", False),
                                op.get("counted", True))  # fmt: skip
        case "pixel_shuffle":
            return nn.PixelShuffle(2)
        case "channel_shuffle":
            return nn.ChannelShuffle(op["groups"])
        case "dropout":
            return nn.Dropout(op["rate"])
    return None


NAMES = {"kernel": "weight", "bias": "bias", "gain": "weight", "shift": "bias", "mean": "running_mean",
         "variance": "running_var", "slope": "weight", "gamma": "gamma"}  # fmt: skip


def build(net: Net, weights: Weights) -> nn.Module:
    """Return the model in evaluation."""
    model = Network(net)
    with torch.no_grad():
        for path, own in weights.items():
            module = getattr(model, path)
            for name, array in own.items():
                target = getattr(module, NAMES[name])
                swapped = name == "kernel" and isinstance(module, nn.ConvTranspose2d)
                native = np.ascontiguousarray(array.swapaxes(0, 1) if swapped else array)
                target.copy_(torch.from_numpy(native).reshape(target.shape))
    return model.eval()


def run(model: nn.Module, x: np.ndarray) -> list[np.ndarray]:
    """Return the results."""
    with torch.no_grad():
        found = model(torch.from_numpy(x))
    return [y.numpy() for y in (found if isinstance(found, tuple) else (found,))]
