"""Write the corpus ``quantised``: quantised layers of every kind of kernel, types and scales.

.venv/bin/python scripts/cover_quantised.py > convspec/corpora/quantised.jsonl
"""

from __future__ import annotations

import sys

from convspec.corpora import QUANTIZED_KINDS, Case
from convspec.spec import ConvSpec

LAYERS = {
    "3 × 3": (ConvSpec(5, 13, 3, padding=1), (2, 14, 13)),
    "pointwise": (ConvSpec(24, 17, 1), (2, 13, 11)),
    "strided, asymmetric pads": (ConvSpec(3, 20, (3, 5), (2, 1), ((1, 2), (0, 3))), (2, 21, 12)),
    "same, strided": (ConvSpec(4, 11, (4, 3), (2, 1), "same"), (2, 19, 14)),
    "dilated": (ConvSpec(3, 9, (3, 2), dilation=(2, 3)), (2, 19, 17)),
    "2,304 products": (ConvSpec(256, 10, 3, padding=1), (1, 14, 13)),
    "no bias": (ConvSpec(6, 14, (2, 3), bias=False), (2, 13, 15)),
    "reflecting": (ConvSpec(4, 10, 3, padding=1, padding_mode="reflect"), (2, 13, 14)),
    "channels as many as pixels": (ConvSpec(12, 12, 3, padding=1), (12, 12, 12)),
    "grouped": (ConvSpec(8, 12, 3, padding=1, groups=4), (2, 14, 13)),
    "grouped, many filters": (ConvSpec(6, 42, (3, 1), (1, 2), groups=2), (2, 13, 18)),
    "depthwise": (ConvSpec(13, 13, 3, padding=1, groups=13), (2, 14, 13)),
    "depthwise, strided": (ConvSpec(16, 16, (5, 3), 2, "same", groups=16), (2, 26, 23)),
    "depthwise with multiplier": (ConvSpec(6, 18, 3, padding=1, groups=6), (2, 13, 12)),
    "transposed": (ConvSpec(5, 13, 3, stride=2, padding="same", transposed=True), (2, 8, 7)),
    "transposed, cropped": (ConvSpec(6, 10, (3, 4), (1, 2), ((1, 0), (1, 2)), transposed=True), (2, 14, 9)),
    "transposed, output padding": (ConvSpec(4, 16, 2, 3, transposed=True, output_padding=1), (2, 6, 5)),
    "transposed, grouped": (ConvSpec(6, 12, 3, 2, groups=2, transposed=True), (2, 8, 6)),
    "1-D": (ConvSpec(7, 15, 5, padding=2, ndim=1), (3, 97)),
    "1-D, causal": (ConvSpec(4, 12, 3, 1, "causal", 2, ndim=1), (3, 101)),
    "3-D": (ConvSpec(3, 10, (2, 3, 2), padding=((0, 1), (1, 1), (1, 0))), (1, 8, 7, 9)),
}  # fmt: skip
SEEDS = (0, 1, 2, 3)  # an even one has scales whose products meet ties


def main() -> None:
    for name, (spec, (batch, *spatial)) in LAYERS.items():
        for kind in QUANTIZED_KINDS:
            for seed in SEEDS:
                case = Case(spec, (batch, spec.in_channels, *spatial), data=kind, seed=seed, name=name)
                sys.stdout.write(case.to_json() + "\n")


if __name__ == "__main__":
    main()
