"""Generated layers as a corpus, to count how often correct frameworks are called wrong.

Write N cases of any seed as JSON Lines, and check them::

    python benchmarks/false_alarms.py 20000 --seed 1 | convspec check --corpus - --adapters torch,onnx --json a.json

Every layer is legal and has an output; the sizes are small, as faults do not depend on them. ``--sizes large`` draws
wider channels and images instead, so that the statistical bound applies to most layers.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from typing import Any

from convspec import Case, ConvSpec
from convspec.errors import ConvspecError
from convspec.spec import product

MODES = ("zeros", "zeros", "reflect", "replicate", "circular")
SIZES = {"small": (4, 9, 3), "large": (24, 24, 5)}  # channels of a group, cells of an axis, taps of an axis
MACS = 2_000_000


def layers(dice: random.Random, sizes: str) -> Iterator[Case]:
    """Layers without end, each drawn by itself."""
    while True:
        try:
            case = _case(dice, *SIZES[sizes])
            outputs = case.spec.output_shape(case.input_shape)
        except ConvspecError:  # no such layer, or no output: drawn again
            continue
        if product(outputs) and case.spec.macs(case.input_shape) <= MACS:
            yield case


def _case(dice: random.Random, channels: int, cells: int, taps: int) -> Case:
    ndim = dice.choice((1, 2, 2, 2, 3))
    transposed = dice.random() < 0.3
    groups = dice.choice((1, 1, 1, 2, 3, channels))
    per_group = 1 if groups == channels else dice.randint(1, channels)
    stride, dilation = _some(dice, ndim, 3), _some(dice, ndim, 3)
    padding = _padding(dice, ndim, transposed)
    limits = [max(s, d) - 1 for s, d in zip(stride, dilation, strict=True)]
    extra = transposed and padding != "same" and dice.random() < 0.3
    spec = ConvSpec(
        groups * per_group,
        groups * dice.randint(1, channels if per_group > 1 else 2),
        tuple(dice.randint(1, taps if ndim < 3 else 3) for _ in range(ndim)),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=dice.random() < 0.7,
        padding_mode="zeros" if transposed else dice.choice(MODES),
        transposed=transposed,
        output_padding=tuple(dice.randint(0, limit) for limit in limits) if extra else 0,
        ndim=ndim,
    )
    spatial = (dice.randint(1, cells if ndim < 3 else max(cells // 2, 5)) for _ in range(ndim))
    return Case(spec, (dice.randint(1, 3), spec.in_channels, *spatial), seed=dice.randrange(1 << 16))


def _some(dice: random.Random, ndim: int, most: int) -> tuple[int, ...]:
    """1 on every axis half of the time."""
    return (1,) * ndim if dice.random() < 0.5 else tuple(dice.randint(1, most) for _ in range(ndim))


def _padding(dice: random.Random, ndim: int, transposed: bool) -> Any:
    words = ["valid", "same"] if transposed else ["valid", "same", "same_lower", *["causal"] * (ndim == 1)]
    pairs = tuple((dice.randint(0, 3), dice.randint(0, 3)) for _ in range(ndim))
    return dice.choice([0, 1, 2, tuple(lo for lo, _ in pairs), pairs, dice.choice(words)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("number", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sizes", choices=SIZES, default="small")
    options = parser.parse_args()
    dice = random.Random(options.seed)
    seen: set[Case] = set()
    for case in layers(dice, options.sizes):
        if len(seen) == options.number:
            return
        if case not in seen:
            seen.add(case)
            sys.stdout.write(case.to_json() + "\n")


if __name__ == "__main__":
    main()
