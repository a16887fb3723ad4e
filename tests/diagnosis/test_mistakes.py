"""What each mistake makes of a layer: pinned numbers, and laws of the mistakes that undo themselves."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from convspec import ConvParams, ConvSpec, reference
from convspec.diagnosis import catalogue
from convspec.diagnosis.faulty_layer import IMPOSSIBLE, Layer, right_layer
from convspec.errors import SpecError

STORE = Path(__file__).parents[1] / "golden" / "mistakes.json"
LAYERS = {  # sizes, kernels and pads that differ on every axis; and the coincidences that some mistakes need
    "strided": (ConvSpec(2, 3, (3, 4), (2, 3), ((1, 2), (0, 1)), (2, 1)), (2, 2, 9, 8)),
    "same": (ConvSpec(2, 3, (4, 3), (2, 1), "same", bias=False), (1, 2, 7, 6)),
    "same, odd before": (ConvSpec(3, 2, (4, 3), (3, 2), "same_lower"), (2, 3, 7, 6)),
    "symmetric": (ConvSpec(3, 3, 3, 2, 1), (2, 3, 6, 6)),
    "grouped": (ConvSpec(4, 6, (2, 3), padding=(0, 1), groups=2), (2, 4, 5, 6)),
    "depthwise": (ConvSpec(3, 6, 3, padding=1, groups=3), (1, 3, 6, 5)),
    "reflecting": (ConvSpec(2, 2, (3, 2), (1, 2), ((2, 1), (0, 2)), padding_mode="reflect"), (1, 2, 5, 7)),
    "circular": (ConvSpec(2, 2, (3, 2), (1, 2), ((2, 1), (1, 2)), padding_mode="circular"), (1, 2, 5, 7)),
    "causal": (ConvSpec(2, 3, 3, 1, "causal", 2, ndim=1), (2, 2, 9)),
    "symmetric, one axis": (ConvSpec(2, 3, 5, padding=2, ndim=1), (2, 2, 9)),
    "transposed": (
        ConvSpec(2, 3, (3, 4), (2, 3), ((1, 0), (1, 2)), (2, 1), transposed=True, output_padding=(1, 2)), (2, 2, 4, 5),
    ),
    "transposed, groups": (ConvSpec(4, 6, (2, 3), (1, 2), groups=2, transposed=True), (2, 4, 3, 4)),
    "transposed same": (ConvSpec(2, 2, (3, 4), 2, "same", transposed=True), (1, 2, 4, 3)),
    "transposed, long stride": (ConvSpec(2, 2, (1, 2), (2, 4), transposed=True), (1, 2, 3, 3)),
    "coinciding": (ConvSpec(4, 4, 3, padding=1), (4, 4, 4, 4)),
    "three axes": (ConvSpec(2, 2, (1, 2, 3), (1, 2, 1), ((0, 0), (1, 0), (1, 2))), (1, 2, 3, 4, 5)),
    "flattened": (ConvSpec(2, 3, 2), (2, 2, 3, 4)),
}  # fmt: skip


def layer(name):
    spec, shape = LAYERS[name]
    rng = np.random.default_rng(3)
    x = rng.integers(-9, 10, shape) + rng.choice([0.0, 0.25, 2.0**-14, 1e-40], shape)
    return right_layer(spec, ConvParams.random(spec, 1), x, flat=name == "flattened")


def number(values):
    """One number of an array, that depends on the place of each element."""
    with np.errstate(all="ignore"):
        return f"{float(np.dot(values.reshape(-1), np.cos(np.arange(1.0, values.size + 1)))):.7g}"


def variants(kind, right):
    yield from kind.apply(right)
    rng, output = np.random.default_rng(5), right.output()
    yield from kind.fit(right, output, output * rng.uniform(0.5, 2, (output.shape[1], *(1,) * right.spec.ndim)) + 1)


def content(name):
    """What every mistake makes of a layer: how many variants, how many of them impossible, and one number of all."""
    right, made = layer(name), {}
    for kind in catalogue():
        outputs, impossible = [np.zeros(0)], 0
        for _, wrong in variants(kind, right):
            try:
                output = wrong.output()
                outputs += [np.array(output.shape, np.float64), output.reshape(-1)]
            except IMPOSSIBLE:
                impossible += 1
        if len(outputs) + impossible > 1:
            made[kind.id] = f"{len(outputs) // 2} {impossible} {number(np.concatenate(outputs))}"
    return made


@pytest.mark.parametrize("name", LAYERS)
def test_each_mistake_makes_the_numbers_that_are_pinned(name):
    """A change here changes which wrong numbers get which name: python -m tests.diagnosis.test_mistakes writes them."""
    assert content(name) == json.loads(STORE.read_text("utf-8"))[name]


def test_every_mistake_is_made_in_some_layer():
    pinned = json.loads(STORE.read_text("utf-8"))
    long = {"coarse-accumulation"}  # seen in the statistics of many elements
    assert {kind.id for kind in catalogue()} - long == {name for made in pinned.values() for name in made}


UNDO_THEMSELVES = (
    "kernel-flipped", "kernel-height-and-width-exchanged", "input-height-and-width-exchanged", "input-flipped",
    "output-height-and-width-exchanged", "pads-mirrored", "stride-axes-exchanged", "dilation-axes-exchanged",
    "input-channels-reversed", "pads-of-another-axis", "height-and-width-exchanged-around-the-layer",
    "odd-cell-on-the-wrong-side", "kernel-flipped-along-one-axis",
)  # fmt: skip


@pytest.mark.parametrize("name", UNDO_THEMSELVES)
def test_made_twice_it_is_undone(name):
    (kind,) = (kind for kind in catalogue() if kind.id == name)
    seen = 0
    for chosen in LAYERS:
        right = layer(chosen)
        for phrase, wrong in kind.apply(right):
            again = [twice.output() for _, twice in kind.apply(wrong)]
            if again:
                seen += 1
                assert any(np.array_equal(output, right.output()) for output in again), (chosen, phrase)
    assert seen


def test_the_right_layer_of_the_pins_is_the_oracles():
    for name in LAYERS:
        right = layer(name)
        assert np.array_equal(right.output(), reference.conv(right.spec, right.params, right.x))


def test_a_mistake_stops_where_a_spec_cannot_be_so():
    (kind,) = (kind for kind in catalogue() if kind.id == "kernel-flipped")
    assert isinstance(next(iter(kind.apply(layer("strided"))))[1], Layer)
    assert [k.id for k in catalogue() if k.fitted and list(k.apply(layer("strided")))] == []
    with pytest.raises(SpecError):
        layer("strided").respec(stride=0)


if __name__ == "__main__":
    STORE.write_text(json.dumps({name: content(name) for name in LAYERS}, indent=0) + "\n", "utf-8")
    sys.stdout.write(f"{STORE}: {STORE.stat().st_size} bytes\n")
