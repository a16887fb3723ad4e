"""What `convspec.compare` costs on whole models, beside running both models once.

ResNet-18 and ResNet-50 with random weights are compared with copies of themselves that hold their tensors channels
last, so that they compute the same in another order. Each model has a process of its own, on one core; `compare` has
been called before on a small model. Measured are processor time, and the memory that the process takes beyond that
before the models: of both models and one run, and of the comparison.

    python benchmarks/compare.py [--size 224] [--repeats 3]
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
MOST, MOST_MEMORY = 6.0, 3.0  # times running both models once, times the memory of both with their activations
BLOCKS = {"ResNet-18": (False, (2, 2, 2, 2)), "ResNet-50": (True, (3, 4, 6, 3))}


def network(bottleneck: bool, blocks: tuple[int, ...], width: int = 64):
    """ResNet of the published widths; its norms have numbers as after training."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, i: int, o: int, stride: int) -> None:
            super().__init__()
            inner = o // 4 if bottleneck else o
            sizes = [(i, inner, 1, 1), (inner, inner, 3, stride), (inner, o, 1, 1)]
            sizes = sizes if bottleneck else [(i, o, 3, stride), (o, o, 3, 1)]
            self.layers = nn.ModuleList(conv(*size) for size in sizes)
            self.shortcut = conv(i, o, 1, stride) if stride > 1 or i != o else nn.Identity()

        def forward(self, x):
            y = x
            for layer in self.layers[:-1]:
                y = torch.relu(layer(y))
            return torch.relu(self.layers[-1](y) + self.shortcut(x))

    def conv(i: int, o: int, k: int, stride: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(i, o, k, stride, k // 2, bias=False), nn.BatchNorm2d(o))

    layers, channels = [conv(3, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], width
    for stage, number in enumerate(blocks):
        out = width * 2**stage * (4 if bottleneck else 1)
        for block in range(number):
            layers.append(Block(channels, out, 2 if stage and not block else 1))
            channels = out
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model


def job(name: str, size: int) -> None:
    """Measure one model in this process."""
    import numpy as np
    import torch

    import convspec

    torch.manual_seed(0)
    torch.set_num_threads(1)
    draw = np.random.default_rng(0).standard_normal
    small = network(BLOCKS[name][0], (1,), 8)
    convspec.compare(small, copy.deepcopy(small).to(memory_format=torch.channels_last), draw((1, 3, 20, 20), "f4"))
    before = _memory("VmRSS")
    x = draw((1, 3, size, size), "f4")
    a = network(*BLOCKS[name])
    b = copy.deepcopy(a).to(memory_format=torch.channels_last)

    def run() -> float:
        began = time.process_time()
        with torch.no_grad():
            for model in (a, b):
                model(torch.from_numpy(x))
        return time.process_time() - began

    run()
    once = statistics.median(run() for _ in range(5))
    kept = [y.numel() * y.element_size() for y in _activations(a, torch.from_numpy(x))]
    models = _memory("VmRSS") - before + 2 * sum(kept) / 2**20
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # the largest memory from here on
    began = time.process_time()
    found = convspec.compare(a, b, x)
    cost = time.process_time() - began
    if not found.agrees:
        raise SystemExit(f"unexpected: {found}")
    print(json.dumps([once, cost, models, _memory("VmHWM") - before, found.evidence]))


def _activations(model, x):
    """The results of all layers of one run."""
    import torch

    found = []
    hooks = [
        m.register_forward_hook(lambda *args: found.append(args[2])) for m in model.modules() if not [*m.children()]
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return found


def _memory(name: str) -> float:
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def measured(name: str, size: int) -> list:
    command = [sys.executable, __file__, "--job", name, "--size", str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **ONE_THREAD})
    if done.returncode:
        raise SystemExit(done.stderr or done.stdout)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--job", choices=BLOCKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        job(options.job, options.size)
        return
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    print(f"one input of 1×3×{options.size}×{options.size}, one core, medians of {options.repeats}")
    print(f"{'':10} {'both once, s':>12} {'compare, s':>11} {'both, MiB':>10} {'compare, MiB':>13} evidence")
    lines = []
    for name in BLOCKS:
        turns = [measured(name, options.size) for _ in range(options.repeats)]
        once, cost, models, memory = (statistics.median(c) for c in list(zip(*turns, strict=True))[:4])
        print(f"{name:10} {once:12.3f} {cost:11.3f} {models:10.0f} {memory:13.0f} {turns[0][4]}")
        ratios = [turn[1] / turn[0] for turn in turns]
        met = [
            "met" if one <= most else "not met" for one, most in ((cost / once, MOST), (memory / models, MOST_MEMORY))
        ]
        spread = f"{cost / once:.1f} ({min(ratios):.1f}–{max(ratios):.1f})"
        lines.append(f"= compare / both models run once, {name} | {spread} | ≤ {MOST:g} | {met[0]}")
        its = f"= its memory / both models and their activations, {name}"
        lines.append(f"{its} | {memory / models:.1f} | ≤ {MOST_MEMORY:g} | {met[1]}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
