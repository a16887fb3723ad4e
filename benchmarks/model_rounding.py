"""How far is a right model from itself in float64, in units of the movement that ``compare`` measures?

One row per model: the median and the largest of some inputs. ``compare`` allows twice the sum of both movements.
Run: ``python benchmarks/model_rounding.py``; needs PyTorch.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from convspec.models.comparison.temporary_weights import measure
from convspec.models.run_model import open_model
from convspec.reference import Spread

INPUTS = 6


class Transformer(nn.Module):
    """Six encoder layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True) for _ in range(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def conv(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def positive(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    return model


def models() -> Iterator[tuple[str, nn.Module, tuple[int, ...]]]:
    yield "one convolution, K = 27", conv(3, 8), (1, 3, 16, 16)
    yield "one convolution, K = 4608", conv(512, 32), (1, 512, 8, 8)
    yield "the same, positive", positive(conv(512, 32)), (1, 512, 8, 8)
    yield "a linear layer, K = 16384, positive", positive(nn.Linear(16384, 4)), (1, 16384)
    yield "a linear layer, one result", nn.Linear(16384, 1), (1, 16384)
    blocks = [m for _ in range(30) for m in (conv(16, 16), nn.BatchNorm2d(16), nn.ReLU())]
    yield "30 × (convolution, batch norm, ReLU)", nn.Sequential(*blocks), (1, 16, 16, 16)
    blocks = [m for _ in range(8) for m in (conv(16, 16), nn.GELU(), nn.GroupNorm(4, 16))]
    yield "8 × (convolution, GELU, group norm)", nn.Sequential(*blocks), (1, 16, 16, 16)
    yield "six transformer layers", Transformer(), (2, 20, 64)
    pooled = nn.Sequential(conv(3, 16), nn.Softplus(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    yield "softplus, global pool, linear, positive", positive(pooled), (1, 3, 64, 64)


def ratio(model: nn.Module, shape: tuple[int, ...], seed: int, *, one_sign: bool) -> float:
    """Return the distance from the results in float64 in units of the measured movement."""
    x = np.random.default_rng(seed).standard_normal(shape, np.float32)
    x = np.abs(x) if one_sign else x
    with torch.no_grad():
        exact = copy.deepcopy(model).double()(torch.from_numpy(x).double()).numpy()
    opened = open_model(model, [x])
    spread = Spread.of(opened.outputs)
    measure(opened, [[x]], [spread], seed)
    return float(np.abs(opened.outputs[0] - exact).max() / spread.moved[0].max())


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print("| model | median | largest |\n|---|---|---|")
    for name, model, shape in models():
        model.eval()
        ratios = [ratio(model, shape, seed, one_sign="positive" in name) for seed in range(INPUTS)]
        print(f"| {name} | {np.median(ratios):.2f} | {max(ratios):.2f} |", flush=True)


if __name__ == "__main__":
    main()
