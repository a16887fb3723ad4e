"""Layers that a mistake can be planted in: random, but such that each kind of mistake changes something often."""

from __future__ import annotations

import numpy as np

from convspec import ConvParams, ConvSpec
from convspec.diagnosis import catalogue
from convspec.diagnosis.faulty_layer import IMPOSSIBLE, right_layer
from convspec.errors import ShapeError, SpecError


def _for(names, needs):
    return dict.fromkeys(names, needs)


# What a layer must be for a mistake to be possible, beyond what chance brings about.
NEEDS = {
    "keras-output-padding-zero-for-none": {"transposed": True, "padding": "same", "stride": (2, 3)},
    "flax-circular-for-same": {"mode": True, "transposed": False, "padding": "pairs"},
    "transposed-valid-length": {"transposed": True, "kernel": (1, 2), "stride": (2, 4)},
    "same-as-symmetric": {"padding": "same", "transposed": False, "stride": (1, 3)},
    "symmetric-as-same": {"padding": "equal", "transposed": False, "stride": (2, 3)},
    "same-without-the-input-size": {"padding": "same", "transposed": False, "stride": (2, 3)},
    "odd-cell-on-the-wrong-side": {"padding": "same", "transposed": False, "stride": (1, 3)},
    "pads-without-dilation": {"padding": "equal", "transposed": False, "dilation": (2, 3)},
    "output-size-rounded-otherwise": {"transposed": False, "stride": (2, 3)},
    "depthwise-multiplier-order": {"depthwise": True},
    "batch-and-channels-exchanged": {"coincide": True, "batch": (2, 3)},
    "input-permuted-the-wrong-way": {"coincide": True},
    "bias-along-another-axis": {"coincide": True, "bias": True},
    "flatten-order": {"flat": True},
    "kernel-in-and-out-exchanged": {"square": True},
    "first-sample-for-all": {"batch": (2, 3)},
    "circular-padding-halved": {"mode": True, "transposed": False, "padding": "pairs"},
    "padding-mode-lost": {"mode": True, "transposed": False, "padding": "pairs"},
    "reflection-repeats-the-edge": {"mode": True, "transposed": False, "padding": "pairs"},
    **_for(("causal-as-symmetric", "causal-reversed"), {"causal": True}),
    "causal-without-dilation": {"causal": True, "dilation": (2, 3)},
    "symmetric-as-causal": {"ndim": 1, "transposed": False, "padding": "equal"},
    "subnormals-flushed": {"tiny": True},
    **_for(
        ("output-padding-on-the-wrong-side", "output-padding-dropped", "output-padding-as-zeros",
         "output-padding-on-the-input", "transposed-same-against-numbers"),
        {"transposed": True, "stride": (2, 3), "kernel": (2, 4)},
    ),
    **_for(
        ("transposed-crop-on-the-wrong-side", "transposed-padding-on-the-input",
         "transposed-padding-of-the-dilated-input", "transposed-rows-shifted"),
        {"transposed": True, "kernel": (2, 4)},
    ),
    **_for(
        ("groups-ignored", "groups-permuted", "channels-shuffled", "grouped-kernel-layout", "bias-per-group"),
        {"groups": (2, 3), "bias": True},
    ),
    **_for(
        ("stride-axes-exchanged", "dilation-axes-exchanged", "pads-of-another-axis", "pads-in-another-order",
         "kernel-flipped-along-one-axis", "kernel-height-and-width-exchanged", "one-value-for-all-axes",
         "input-height-and-width-exchanged", "output-height-and-width-exchanged",
         "height-and-width-exchanged-around-the-layer"),
        {"ndim": 2},
    ),
}  # fmt: skip


def draw(rng, needs):
    """A random layer and an input shape; None where they do not fit."""
    ndim = 1 if needs.get("causal") else needs.get("ndim") or int(rng.choice([1, 2, 2, 2, 3]))
    transposed = False if needs.get("causal") else needs.get("transposed", bool(rng.random() < 0.3))

    def axes(low, high):
        return tuple(int(n) for n in rng.integers(low, high + 1, ndim))

    groups = int(rng.integers(*np.add(needs["groups"], (0, 1)))) if "groups" in needs else int(rng.choice([1, 1, 1, 2]))
    per_in, per_out = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    if needs.get("depthwise"):
        groups, per_in, per_out = int(rng.integers(2, 4)), 1, int(rng.integers(2, 4))
    if needs.get("square"):
        per_in = per_out = int(rng.integers(2, 4))
    kernel = axes(*needs.get("kernel", (1, 4 if ndim < 3 else 2)))
    stride, dilation = axes(*needs.get("stride", (1, 3))), axes(*needs.get("dilation", (1, 2)))
    style = needs.get("padding") or str(rng.choice(["same", "pairs", "equal"]))
    padding = {"same": "same", "equal": axes(0, 2), "pairs": tuple(axes(0, 2)[:1] + axes(0, 2)[-1:] for _ in stride)}[
        style
    ]
    extra = tuple(int(rng.integers(0, max(pair))) for pair in zip(stride, dilation, strict=True))
    spatial, batch = axes(4, 9 if ndim < 3 else 6), int(rng.integers(*np.add(needs.get("batch", (1, 2)), (0, 1))))
    if needs.get("coincide"):
        groups, size = 1, int(rng.integers(4, 6))
        per_in = per_out = size
        spatial, batch = (size,) * ndim, size if "batch" in needs else batch
        kernel, stride, padding, dilation, extra = axes(1, 3), (1,) * ndim, "same", (1,) * ndim, 0
    try:
        spec = ConvSpec(
            groups * per_in, groups * per_out, kernel, stride,
            "causal" if needs.get("causal") else padding,
            dilation, groups, needs.get("bias", bool(rng.random() < 0.7)),
            "zeros" if transposed else str(rng.choice(["reflect", "replicate", "circular"] if needs.get("mode")
                                                      else ["zeros", "zeros", "zeros", "reflect", "circular"])),
            transposed, extra if transposed and padding != "same" else 0, ndim=ndim,
        )  # fmt: skip
        shape = (batch, spec.in_channels, *spatial)
        return (spec, shape) if np.prod(spec.output_shape(shape)) else None
    except (SpecError, ShapeError):
        return None


def arrays(rng, spec, shape, *, tiny=False):
    params = ConvParams.random(spec, int(rng.integers(1 << 30)))
    x = rng.standard_normal(shape).astype(np.float32)
    if tiny:  # half the numbers below float16's smallest normal one
        x = np.where(rng.random(shape) < 0.5, x * np.float32(1e-5), x).astype(np.float32)
    return params, x


def planted(kind, wanted, seed=0):
    """``wanted`` times: a layer with its numbers and the output ``(N, O, *out)`` with the mistake made in it.

    The numbers are the mistake's, correctly rounded to float32, and other than the right ones.
    """
    needs = NEEDS.get(kind.id, {})
    rng = np.random.default_rng([seed, *kind.id.encode()])
    found = 0
    for _ in range(200 * wanted):
        drawn = draw(rng, needs)
        if drawn is None:
            continue
        spec, shape = drawn
        params, x = arrays(rng, spec, shape, tiny=needs.get("tiny", False))
        layer = right_layer(spec, params, x, flat=needs.get("flat", False))
        wrong = list(kind.apply(layer))
        if not wrong:
            continue
        what, other = wrong[int(rng.integers(len(wrong)))]
        try:
            actual = other.output().astype(np.float32)
        except IMPOSSIBLE:
            continue
        expected = layer.output().astype(np.float32)
        if actual.size and not np.array_equal(actual, expected):
            yield spec, params, x, actual.reshape(len(actual), -1) if layer.flat else actual, what
            found += 1
            if found == wanted:
                return


SIMULATED = [kind for kind in catalogue() if not kind.fitted]
