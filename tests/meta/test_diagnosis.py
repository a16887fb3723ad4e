"""Every mistake of the catalogue is planted, and named; right numbers are left in peace."""

import numpy as np
import pytest

from convspec import ConvParams, ConvSpec, diagnose, reference
from convspec.diagnosis import catalogue
from convspec.diagnosis.faulty_layer import right_layer
from convspec.reference import error_bounds
from convspec.reference.verdict import judge
from convspec.spec.dtypes import ComputePrecision, rounded
from tests.meta.emulated import layer as emulated
from tests.meta.planted import SIMULATED, arrays, draw, planted

SPECS = 20


def within_rounding(spec, params, x, actual):
    """Whether the verdict on these numbers is that rounding explains them."""
    expected, magnitude = (f(spec, params, x) for f in (reference.conv, reference.magnitude))
    if actual.ndim == 2:
        actual = actual.reshape(expected.shape)
    found = judge(
        actual, expected, magnitude, dtype="float32", data="wide", products=error_bounds.products(spec),
        arithmetic=ComputePrecision("float32", 2, flushes_subnormals=True),
    )  # fmt: skip
    return found.verdict == "agree"


@pytest.mark.slow
@pytest.mark.parametrize("kind", SIMULATED, ids=lambda kind: kind.id)
def test_each_mistake_is_caught_whenever_it_changes_the_numbers_and_named_first(kind):
    cases, first = 0, 0
    for spec, params, x, actual, what in planted(kind, SPECS):
        found = diagnose(spec, params, x, actual, seconds=0)
        cases += 1
        if found.agrees:
            assert within_rounding(spec, params, x, actual), (spec, x.shape, what)
            first += 1  # no mistake that could be seen
            continue
        named = [finding.id for finding in found]
        assert kind.id in named, (spec, x.shape, what, named)
        # where another one is named first it gives the same numbers, to the last bit
        first += named[0] == kind.id or found[0].exact
    assert cases >= SPECS
    assert first >= 0.95 * cases


def test_most_plants_can_be_seen():
    """The twin of the test above: its plants are no rounding errors."""
    seen = [
        not diagnose(spec, params, x, actual, seconds=0).agrees
        for kind in SIMULATED[::5]
        for spec, params, x, actual, _ in planted(kind, 3, seed=1)
    ]
    assert len(seen) >= 40
    assert np.mean(seen) > 0.9


def specs(count, seed, **needs):
    rng = np.random.default_rng(seed)
    while count:
        drawn = draw(rng, needs)
        if drawn:
            count -= 1
            yield (drawn[0], *arrays(rng, *drawn), rng)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_right_numbers_have_no_finding(dtype):
    for spec, params, x, _ in specs(60, 5):
        carried = ConvParams(
            rounded(params.kernel, dtype), None if params.bias is None else rounded(params.bias, dtype)
        )
        x = rounded(x, dtype)  # noqa: PLW2901
        y = reference.conv(spec, carried, x)
        wide = "float64" if dtype == "float64" else "float32"
        for actual in (rounded(y, dtype), emulated(spec, carried, x, dtype, wide)):
            assert diagnose(spec, carried, x, actual).agrees
            assert diagnose(spec, carried, x, actual, dtype=dtype).agrees


@pytest.mark.parametrize("data", ["zeros", "integers", "huge", "tiny", "nan"])
def test_right_numbers_of_odd_data_have_no_finding(data):
    for spec, params, x, rng in specs(15, 6):
        x = {  # noqa: PLW2901
            "zeros": lambda x=x: np.zeros_like(x),
            "integers": lambda x=x: np.rint(4 * x),
            "huge": lambda x=x: x * np.float32(1e30),
            "tiny": lambda x=x: x * np.float32(1e-42),
            "nan": lambda x=x, rng=rng: np.where(rng.random(x.shape) < 0.02, np.float32(np.nan), x),
        }[data]()
        assert diagnose(spec, params, x, emulated(spec, params, x)).agrees


def test_right_numbers_in_the_other_layout_and_flattened_have_no_finding():
    for spec, params, x, _ in specs(20, 7):
        y = reference.conv(spec, params, x).astype(np.float32)
        last = [np.moveaxis(a, 1, -1) for a in (x, y)]
        assert diagnose(spec, params, *last, layout="NHWC").agrees
        assert diagnose(spec, params, x, y.reshape(len(y), -1)).agrees
        assert diagnose(spec, params, last[0], last[1].reshape(len(y), -1), layout="NHWC").agrees


def test_a_coarse_accumulator_is_recognised():
    spec = ConvSpec(8, 8, 3, bias=False)
    rng = np.random.default_rng(0)
    params, x = arrays(rng, spec, (2, 8, 12, 12))
    for name in ("float16", "bfloat16"):
        actual = emulated(spec, params, x, "float32", name)
        assert diagnose(spec, params, x, actual, seconds=0)[0].id == "coarse-accumulation"


FITTED = {
    "batch-norm-on-one-side": lambda y, bias, rng: (
        y * rng.uniform(0.5, 2, (y.shape[1], 1, 1)) + rng.normal(size=(y.shape[1], 1, 1))
    ),
    "bias-of-another-value": lambda y, bias, rng: y + rng.normal(size=(y.shape[1], 1, 1)),
    "convolution-scaled": lambda y, bias, rng: (y - bias) * rng.uniform(0.3, 3) + bias,
}


@pytest.mark.parametrize("name", FITTED)
@pytest.mark.parametrize("transposed", [False, True])
def test_scales_and_shifts_are_fitted(name, transposed):
    for spec, params, x, rng in specs(SPECS, 8, ndim=2, transposed=transposed, bias=True, batch=(2, 3), stride=(1, 1)):
        y = reference.conv(spec, params, x)
        if y[:, 0].size < 8:
            continue
        actual = FITTED[name](y, params.bias.reshape(-1, 1, 1), rng).astype(np.float32)
        found = diagnose(spec, params, x, actual, seconds=0)
        # with one weight per output a factor is another weight, and no sign of a norm
        named = name != "batch-norm-on-one-side" or reference.products(spec) > 1
        assert (name in [finding.id for finding in found]) == named, (spec, x.shape, str(found))


PAIRS = [
    ("kernel-flipped", "bias-dropped"),
    ("bias-added-twice", "same-as-symmetric"),
    ("kernel-reshaped", "input-reshaped"),
    ("input-channels-reversed", "padding-mode-lost"),
    ("output-padding-dropped", "kernel-flipped"),
    ("kernel-height-and-width-exchanged", "padding-dropped"),
    ("groups-permuted", "bias-dropped"),
    ("dilation-ignored", "tf32-inputs"),
    ("causal-as-symmetric", "kernel-flipped"),
    ("depthwise-multiplier-order", "output-reshaped"),
]


def made_twice(first, second):
    """One layer in which both mistakes were made and show."""
    by_id = {kind.id: kind for kind in catalogue()}
    for spec, params, x, _, what in planted(by_id[first], 40, seed=2):
        layer = right_layer(spec, params, x)
        half = next(wrong for phrase, wrong in by_id[first].apply(layer) if phrase == what)
        for _, both in by_id[second].apply(half):
            actual = both.output().astype(np.float32)
            found = diagnose(spec, params, x, actual, seconds=0)
            if not found.agrees and not found.findings:
                return spec, params, x, actual
    raise AssertionError("the pair cannot be made")


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_two_mistakes_at_once_are_named(pair):
    found = diagnose(*made_twice(*pair), seconds=120)
    assert found.findings
    assert all(len(finding.mistakes) == 2 for finding in found)
    assert any({kind.id for kind in finding.mistakes} == set(pair) for finding in found), [f.id for f in found]
    assert found[0].exact
