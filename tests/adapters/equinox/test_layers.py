"""Equinox: layers built, run, read and ported."""

import numpy as np
import pytest

pytest.importorskip("equinox")

from convspec_equinox import ADAPTER

ADAPTER.configure(threads=1)

import equinox as eqx  # noqa: E402
import jax  # noqa: E402
from hypothesis import example, given, settings  # noqa: E402

import convspec  # noqa: E402
from convspec import ConvParams, ConvSpec, corpora, reference, strategies  # noqa: E402
from convspec.corpora.cases import arrays  # noqa: E402
from convspec.errors import CallError, ShapeError, SpecError, UnsupportedError  # noqa: E402
from convspec.spec import layouts  # noqa: E402
from tests.adapters.jax_gaps import JAX_GAPS  # noqa: E402
from tests.adapters.round_trip import meaning  # noqa: E402
from tests.adapters.suite import AdapterSuite, sized  # noqa: E402

pytestmark = pytest.mark.equinox

KEY = jax.random.key(1)
LAYERS = {
    "conv": ConvSpec(3, 4, (3, 5), stride=(2, 1), padding=((1, 0), (2, 3)), dilation=(1, 2)),
    "same lower": ConvSpec(4, 6, (3,), stride=2, padding="same_lower", groups=2, bias=False),
    "reflect": ConvSpec(2, 3, (1, 2, 3), padding=(0, 1, 1), padding_mode="reflect"),
    "transposed": ConvSpec(
        4, 6, (3, 2), stride=(2, 3), padding=((1, 0), (0, 1)), output_padding=(1, 2), groups=2, transposed=True
    ),
    "transposed same": ConvSpec(2, 3, (2,), stride=3, padding="same", transposed=True),
    "transposed beyond": ConvSpec(2, 3, (2, 3), dilation=(1, 2), output_padding=(0, 1), transposed=True),
}


class TestLayers(AdapterSuite):
    runners = {"equinox": ADAPTER}
    layers = sized(LAYERS)
    other_layout_reason = "channel axis"
    packages = (("equinox", "jax"), ("equinox", "equinox"))
    goldens = {
        f"equinox/{name}-{layout}.py": ("equinox", name, layout, "float32")
        for name in ("conv", "transposed") for layout in layouts.LAYOUTS
    }  # fmt: skip
    dtype_runs = tuple(("equinox", name, "NHWC", dtype) for name in LAYERS for dtype in ("float16", "bfloat16"))
    wrong_tensors = (
        ("NCHW", "NHWC", (1, 9, 9, 3), "channels-first"),
        ("NCHW", "NCHW", (1, 9, 9, 3), "looks like the other layout"),
    )
    examples, sizes = 15, {"max_size": 6}
    gap_examples = {name: [case.varied(layout="NCHW") for case in cases] for name, cases in JAX_GAPS.items()}


@settings(max_examples=40, deadline=None)
@given(strategies.specs(max_kernel=3))
@example(ConvSpec(1, 1, (1,), padding=1, dilation=2, bias=False, transposed=True, output_padding=1))
def test_what_is_built_is_read_back(spec):
    params = ConvParams.random(spec, seed=2)
    reading = ADAPTER.read(ADAPTER.build(spec, params)) if ADAPTER.support(spec) == "native" else None
    if reading is None:  # a crop beyond the kernel's reach: read by running
        shape = (2, spec.in_channels, *(11 + axis for axis in range(spec.ndim)))
        reading = ADAPTER.read(ADAPTER.build(spec, params), shape)
        spec = spec.explicit(shape)
    assert np.array_equal(reading.params.kernel, params.kernel)
    assert meaning(reading.spec) == meaning(spec)
    if all(op < s for op, s in zip(spec.output_padding, spec.stride, strict=True)):
        assert reading.spec == spec or ADAPTER.support(spec) == "composed"
    assert reading.layout == "NCHW"


def test_rows_beyond_the_stride_are_read_as_a_smaller_crop():
    spec = ConvSpec(2, 3, (3, 3), stride=(1, 2), padding=1, dilation=(1, 3), transposed=True, output_padding=(0, 2))
    read = ADAPTER.read(ADAPTER.build(spec, ConvParams.random(spec))).spec
    assert (read.padding, read.output_padding) == (((1, 1), (1, 0)), (0, 1))
    assert read.output_shape((1, 2, 5, 7)) == spec.output_shape((1, 2, 5, 7))


def test_a_channels_last_layer_is_read_by_running_it():
    spec = LAYERS["conv"]
    params = ConvParams.random(spec, seed=2)
    reading = ADAPTER.read(ADAPTER.build(spec, params, "NHWC"), (2, 9, 11, 3))
    assert (reading.spec, reading.layout) == (spec, "NHWC")
    assert np.array_equal(reading.params.kernel, params.kernel)


def test_a_users_own_layers_are_found_by_their_paths():
    class Net(eqx.Module):
        first: eqx.nn.Conv2d
        rest: list

        def __init__(self):
            self.first = eqx.nn.Conv2d(1, 4, 3, padding="SAME", key=KEY)
            self.rest = [eqx.nn.Linear(4, 4, key=KEY), eqx.nn.ConvTranspose2d(4, 2, 2, stride=2, key=KEY)]

    found = convspec.convs(Net())
    assert [one.path for one in found] == ["first", "rest[1]"]
    assert found[1].reading.spec == ConvSpec(4, 2, 2, stride=2, transposed=True)
    with pytest.raises(UnsupportedError, match="no convolutions; its layers: Linear"):
        convspec.convs(eqx.nn.Sequential([eqx.nn.Linear(2, 3, key=KEY)]))


def test_constructors_are_read_and_their_odd_order_is_known():
    assert ADAPTER.parse("eqx.nn.Conv2d(3, 8, 3, 2, 1)") == ConvSpec(3, 8, 3, stride=2, padding=1)
    # ConvTranspose2d takes output_padding before padding, ConvTranspose the other way round
    right = ConvSpec(3, 8, 3, stride=2, padding=1, output_padding=0, transposed=True)
    assert ADAPTER.parse("eqx.nn.ConvTranspose2d(3, 8, 3, 2, 0, 1, key=key)") == right
    assert ADAPTER.parse("eqx.nn.ConvTranspose(2, 3, 8, 3, 2, 1, 0, key=key)") == right
    with pytest.raises(CallError, match="Equinox has no convolution 'Conv4d'"):
        ADAPTER.parse("eqx.nn.Conv4d(3, 8, 3)")
    with pytest.raises(SpecError, match="groups"):
        ADAPTER.parse("eqx.nn.Conv2d(3, 8, 3, groups=2)")


def test_the_positional_order_is_equinox_own():
    made = eqx.nn.ConvTranspose2d(3, 8, 3, 2, 1, 0, key=KEY)
    assert (made.output_padding, made.padding) == ((1, 1), ((0, 0), (0, 0)))


def test_one_case_of_every_kind_of_the_corpus():
    for each in corpora.sample(corpora.load("features"), 24, seed=5):
        params, x = arrays(each)
        try:
            right = reference.conv(each.spec, params, x)
        except ShapeError:
            continue
        if 0 in x.shape:
            continue
        y = ADAPTER.apply(ADAPTER.build(each.spec, params), x)
        assert np.array_equal(y, right), each
