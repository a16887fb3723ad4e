"""MLX: layers built, run, read and ported."""

import numpy as np
import pytest

pytest.importorskip("mlx")

import mlx.core as mx
from convspec_mlx import ADAPTER
from hypothesis import given, settings
from mlx import nn

import convspec
from convspec import ConvParams, ConvSpec, reference, strategies
from convspec.corpora.cases import Case
from convspec.errors import CallError, SpecError, UnsupportedError
from convspec.models import match_weights
from convspec.spec import layouts
from tests.adapters import round_trip
from tests.adapters.suite import AdapterSuite, sized

pytestmark = pytest.mark.mlx

LAYERS = {
    "conv": ConvSpec(3, 4, (3, 5), stride=(2, 1), padding=((1, 1), (2, 2)), dilation=(1, 2)),
    "one side": ConvSpec(3, 4, (3, 5), stride=(2, 1), padding=((1, 0), (2, 3))),
    "same lower": ConvSpec(4, 6, (3,), stride=2, padding="same_lower", groups=2, bias=False),
    "replicate": ConvSpec(2, 3, (1, 2, 3), padding=(0, 1, 1), padding_mode="replicate"),
    "transposed": ConvSpec(4, 6, (3, 2), stride=(2, 3), padding=1, output_padding=(1, 0), transposed=True),
    "transposed groups": ConvSpec(
        4, 6, (3, 2), stride=(2, 3), padding=((1, 0), (0, 1)), output_padding=(0, 1), groups=2, transposed=True
    ),
    "transposed beyond": ConvSpec(2, 3, (1, 3), stride=(2, 1), padding=(2, 1), transposed=True),
}
NATIVE = ("conv", "transposed")


class TestLayers(AdapterSuite):
    runners = {"mlx": ADAPTER}
    layers = sized(LAYERS, composed=[name for name in LAYERS if name not in NATIVE])
    other_layout_reason = "channel axis"
    packages = (("mlx", "mlx"),)
    goldens = {
        f"mlx/{name.replace(' ', '-')}-{layout}.py": ("mlx", name, layout, "float32")
        for name in ("conv", "transposed groups", "same lower") for layout in layouts.LAYOUTS
    }  # fmt: skip
    dtype_runs = tuple(("mlx", name, layout, dtype) for name in LAYERS for layout in layouts.LAYOUTS
                       for dtype in ("float16", "bfloat16"))  # fmt: skip
    wrong_tensors = (
        ("NHWC", "NCHW", (1, 3, 9, 9), "channels-last"),
        ("NHWC", "NHWC", (1, 3, 9, 9), "looks like the other layout"),
    )
    gap_examples = {
        "mlx-transposed-nothing": [Case(ConvSpec(1, 1, (2,), padding=1, transposed=True), (1, 1, 1), "NHWC")],
        "mlx-kernel-beyond-input": [Case(ConvSpec(1, 1, (2,), stride=3), (1, 1, 1), "NHWC")],
        "mlx-crop-beyond-output": [Case(ConvSpec(1, 1, (1,), padding=2, transposed=True), (1, 1, 2), "NHWC")],
    }


@settings(max_examples=40, deadline=None)
@given(strategies.cases(layers=strategies.specs(max_kernel=3, padding_modes=("zeros", "replicate"))))
def test_what_is_built_is_read_back(case):
    for layout in layouts.LAYOUTS:
        if ADAPTER.support(case.spec, layout) != "unsupported" and 0 not in case.spec.output_shape(case.input_shape):
            round_trip.check(ADAPTER, case, layout, "bfloat16")


def test_a_users_own_layers_are_found_by_the_paths_of_their_weights():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(1, 4, 3, stride=2, padding=1)
            self.rest = [nn.Linear(4, 4), nn.ConvTranspose2d(4, 2, 2, stride=2, bias=False)]

    found = convspec.convs(Net())
    assert [one.path for one in found] == ["stem", "rest.1"]
    assert found[0].reading.spec == ConvSpec(1, 4, 3, stride=2, padding=1)
    assert found[1].reading.spec == ConvSpec(4, 2, 2, stride=2, bias=False, transposed=True)
    with pytest.raises(UnsupportedError, match="no convolutions; its layers: Linear"):
        convspec.convs(nn.Sequential(nn.Linear(2, 3)))


def test_a_layer_that_crops_more_than_the_kernel_reaches_is_not_read_as_its_formula():
    with pytest.raises(UnsupportedError, match="padding=1 crops more than the kernel reaches"):
        ADAPTER.read(nn.ConvTranspose1d(1, 1, 1, stride=2, padding=1))


def test_constructors_are_read():
    assert ADAPTER.parse("nn.Conv2d(3, 8, (3, 5), 2, 1, 2, 1, False)") == ConvSpec(
        3, 8, (3, 5), stride=2, padding=1, dilation=2, bias=False
    )
    # output_padding comes after dilation; groups only in 1-D and 2-D
    assert ADAPTER.parse("mlx.nn.ConvTranspose1d(3, 8, 3, 2, 1, 1, 1)") == ConvSpec(
        3, 8, (3,), stride=2, padding=1, output_padding=1, transposed=True
    )
    for text, words in (
        ("nn.Conv4d(3, 8, 3)", "MLX has no convolution"), ("nn.Conv3d(4, 8, 3, groups=2)", "no argument 'groups'"),
        ("nn.Conv2d(3, 8, 3, padding='same')", "padding must be numbers"),
    ):  # fmt: skip
        with pytest.raises(CallError, match=words):
            ADAPTER.parse(text)
    with pytest.raises(SpecError, match="groups"):
        ADAPTER.parse("nn.Conv2d(3, 8, 3, groups=2)")


@pytest.mark.parametrize(("spec", "words"), [
    (ConvSpec(4, 4, (2, 2, 2), groups=2), "groups in 1-D and 2-D"),
    (ConvSpec(4, 4, 2, padding=1, padding_mode="reflect"), "no reflect padding"),
])  # fmt: skip
def test_what_mlx_lacks_is_said(spec, words):
    with pytest.raises(UnsupportedError, match=words):
        ADAPTER.source(spec)


def test_gradients_leave_the_layer_as_it_was():
    spec = LAYERS["conv"]
    params = ConvParams.random(spec, seed=1)
    layer = ADAPTER.build(spec, params)
    x = np.random.default_rng(1).standard_normal((2, 9, 11, 3)).astype(np.float32)
    y = ADAPTER.apply(layer, x)
    ADAPTER.gradients(layer, x, np.ones_like(y))
    assert isinstance(layer.weight, mx.array)
    assert np.array_equal(ADAPTER.apply(layer, x), y)


def test_the_layout_of_a_file_of_mlx_is_told(tmp_path):
    path = tmp_path / "model.safetensors"
    model = nn.Sequential(nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Conv2d(32, 24, 5))
    model.save_weights(str(path))
    text = " ".join(match_weights(str(path)).layout)
    assert "the taps are the axes between the channels, as in MLX: 2 of 2 kernels say so" in text
    assert "the output channels are axis 0" in text
    torch_order = {name: np.moveaxis(np.array(a), -1, 1) if a.ndim == 4 else np.array(a)
                   for name, a in dict(mx.load(str(path))).items()}  # fmt: skip
    assert match_weights(str(path), torch_order).complete


def test_a_layer_of_another_framework_is_ported():
    spec = LAYERS["transposed groups"]
    params = ConvParams.random(spec, seed=4)
    layer = ADAPTER.build(spec, params)
    x = np.random.default_rng(2).integers(-3, 4, (2, 4, 5, 6)).astype(np.float32)
    y = ADAPTER.apply(layer, np.ascontiguousarray(np.moveaxis(x, 1, -1)))
    assert np.allclose(np.moveaxis(y, -1, 1), reference.conv(spec, params, x), atol=1e-4)
