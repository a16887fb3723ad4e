"""The Keras adapters against the oracle, on integers: every comparison is exact."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("keras")
pytest.importorskip("tensorflow")

import keras
from convspec_keras import ADAPTER, JAX, TORCH
from convspec_keras.backends import running
from convspec_keras.plan import compute_precision, sums_halves_on_tensorflow_cpu

from convspec import ConvSpec, reference
from convspec.contract import LayerRequest, known_gaps
from convspec.corpora.cases import Case, arrays, gradient_arrays
from convspec.errors import RequestError, ShapeError, UnsupportedError
from convspec.spec import layouts
from convspec.spec.parameters import ConvParams
from tests.adapters.suite import UNSUPPORTED, AdapterSuite, assert_exact, run, run_python, to_canonical, to_layout

pytestmark = pytest.mark.keras


# name: (layer, input shape, support in NHWC)
LAYERS = {
    "conv": (ConvSpec(3, 4, (3, 5), (2, 3), bias=False), (2, 3, 9, 11), "native"),
    "conv-same": (ConvSpec(3, 4, (3, 4), (2, 3), padding="same"), (2, 3, 9, 13), "native"),
    "conv-same-unit": (ConvSpec(3, 4, (3, 4), padding=((1, 1), (1, 2))), (2, 3, 6, 7), "native"),
    "conv-1d-causal": (ConvSpec(2, 3, 3, padding="causal", dilation=2, ndim=1), (2, 2, 7), "native"),
    "conv-3d": (ConvSpec(2, 3, (1, 2, 3), (1, 2, 1)), (2, 2, 3, 4, 6), "native"),
    "conv-groups": (ConvSpec(4, 6, (3, 2), groups=2, dilation=(1, 3)), (2, 4, 5, 7), "native"),
    "conv-depthwise": (ConvSpec(3, 6, (3, 5), 2, padding="same", groups=3), (2, 3, 7, 8), "native"),
    "conv-depthwise-1d": (ConvSpec(3, 3, (4,), groups=3, dilation=2), (2, 3, 10), "native"),
    "conv-depthwise-stride": (ConvSpec(3, 6, (3, 5), (2, 1), groups=3), (2, 3, 7, 8), "native"),
    "conv-depthwise-3d": (ConvSpec(2, 4, (1, 3, 2), groups=2, bias=False), (1, 2, 3, 4, 5), "native"),
    "conv-depthwise-causal": (ConvSpec(2, 4, (3,), 2, padding="causal", groups=2), (2, 2, 10), "native"),
    "conv-padding": (ConvSpec(3, 4, (3, 5), (2, 3), padding=((0, 3), (2, 1))), (2, 3, 6, 8), "composed"),
    "conv-padding-1d": (ConvSpec(2, 3, (4,), 3, padding=((1, 2),)), (1, 2, 11), "composed"),
    "conv-same-lower": (ConvSpec(3, 4, (3, 4), (2, 3), padding="same_lower"), (2, 3, 9, 13), "composed"),
    "conv-strided-dilation": (ConvSpec(3, 5, (3, 2), (2, 1), dilation=(1, 2)), (1, 3, 8, 6), "composed"),
    "conv-same-dilation": (ConvSpec(3, 4, (3, 4), (2, 3), "same", dilation=(1, 2)), (2, 3, 9, 10), "composed"),
    "conv-reflect": (
        ConvSpec(3, 4, (3, 2), padding=((2, 1), (0, 3)), padding_mode="reflect"),
        (2, 3, 5, 6),
        "composed",
    ),
    "conv-replicate": (ConvSpec(2, 3, (4,), padding=((3, 5),), padding_mode="replicate"), (2, 2, 3), "composed"),
    "conv-circular": (
        ConvSpec(3, 4, (3, 2), (1, 2), padding=((2, 1), (5, 0)), padding_mode="circular"),
        (2, 3, 4, 5),
        "composed",
    ),
    "conv-same-circular": (
        ConvSpec(2, 3, (2, 1, 3), (2, 1, 3), padding="same", padding_mode="circular"),
        (1, 2, 3, 4, 5),
        "composed",
    ),
    "transpose": (ConvSpec(3, 4, (3, 5), (2, 3), transposed=True), (2, 3, 4, 5), "native"),
    "transpose-same": (ConvSpec(3, 2, (3, 4), (2, 3), padding="same", transposed=True), (2, 3, 4, 5), "native"),
    "transpose-dcgan": (ConvSpec(3, 2, 4, 2, padding=1, transposed=True), (2, 3, 4, 5), "native"),
    "transpose-same-extra": (ConvSpec(3, 2, 3, 2, padding=1, transposed=True), (2, 3, 4, 5), "native"),
    "transpose-gaps": (ConvSpec(2, 3, (2, 1), (3, 4), transposed=True), (1, 2, 3, 4), "native"),
    "transpose-extra": (ConvSpec(2, 3, (4,), 3, output_padding=2, transposed=True), (2, 2, 5), "native"),
    "transpose-3d": (ConvSpec(2, 3, (1, 2, 3), (1, 2, 3), transposed=True, bias=False), (1, 2, 2, 3, 4), "native"),
    "transpose-dilation": (ConvSpec(2, 3, (2, 3), dilation=(3, 1), transposed=True), (1, 2, 3, 4), "native"),
    "transpose-crop": (
        ConvSpec(3, 4, (3, 5), (2, 3), padding=((1, 0), (0, 2)), output_padding=(1, 0), transposed=True),
        (2, 3, 4, 5),
        "composed",
    ),
    "transpose-crop-all-but-extra": (
        ConvSpec(2, 3, (1, 2), (2, 3), padding=((1, 0), (0, 0)), output_padding=(1, 0), transposed=True),
        (1, 2, 1, 3),
        "composed",
    ),
    "transpose-groups": (ConvSpec(4, 6, (3, 2), (2, 1), groups=2, transposed=True), (2, 4, 3, 5), "composed"),
    "transpose-depthwise": (ConvSpec(3, 3, (3, 2), 2, groups=3, transposed=True, bias=False), (2, 3, 3, 5), "composed"),
    "transpose-strided-dilation": (
        ConvSpec(2, 3, (2, 3), (2, 3), dilation=(3, 2), padding=(1, 2), output_padding=(2, 1), transposed=True),
        (1, 2, 3, 4),
        "composed",
    ),
    "transpose-beyond": (
        ConvSpec(3, 2, (2, 3), (1, 2), dilation=(3, 1), padding=(0, 1), output_padding=(2, 1), transposed=True),
        (2, 3, 4, 5),
        "composed",
    ),
    "transpose-beyond-unit": (
        ConvSpec(2, 3, 2, dilation=3, output_padding=(2, 0), transposed=True),
        (1, 2, 4, 5),
        "composed",
    ),
}
OTHER_DTYPES = ("float64", "float16", "bfloat16")

GAPS = {
    "keras-bias-along-width": [
        (ConvSpec(3, 5, 1), (1, 3, 6, 5), "NCHW"),
        (ConvSpec(3, 5, (2,), padding=((1, 0),)), (2, 3, 5), "NCHW"),
        (ConvSpec(3, 6, 3, padding="same", groups=3), (1, 3, 4, 6), "NCHW"),
        (ConvSpec(2, 4, 2, 2, transposed=True), (1, 2, 3, 2), "NCHW"),
        (ConvSpec(2, 3, 1, ndim=3), (1, 2, 2, 4, 3), "NCHW"),
    ],
    "keras-empty-batch": [
        (ConvSpec(3, 4, 1), (0, 3, 5, 6), "NHWC"),
        (ConvSpec(3, 3, (2,), bias=False), (0, 3, 5), "NCHW"),
        (ConvSpec(3, 3, 3, 2, padding=((1, 0), (1, 1)), groups=3), (0, 3, 5, 6), "NHWC"),
        (ConvSpec(2, 2, 3, padding="causal", ndim=1), (0, 2, 5), "NHWC"),
        (ConvSpec(2, 2, (2, 3), (2, 2), dilation=(1, 2)), (0, 2, 7, 8), "NHWC"),
    ],
    "keras-one-column": [
        (ConvSpec(1, 2, (1, 2), (1, 3)), (2, 1, 5, 4), "NHWC"),
        (ConvSpec(1, 1, (2, 3), (1, 2), bias=False), (3, 1, 6, 3), "NCHW"),
        (ConvSpec(1, 1, (1, 2, 3), (2, 1, 2)), (2, 1, 5, 6, 3), "NHWC"),
    ],
    "keras-same-of-nothing": [
        (ConvSpec(3, 3, (2, 3), 2, padding="same"), (1, 3, 0, 5), "NHWC"),
        (ConvSpec(4, 6, (3,), 2, padding="same", groups=2), (1, 4, 0), "NCHW"),
    ],
    "keras-crop-beyond-the-result": [(ConvSpec(2, 3, 2, padding=2, transposed=True), (1, 2, 2, 5), "NHWC")],
}


class TestLayers(AdapterSuite):
    runners = {"tensorflow": ADAPTER}
    layers = LAYERS
    other_layout_reason = ""  # data_format says it
    packages = (("keras", "tensorflow"), ("keras", "keras"))
    goldens = {
        f"keras/{name}-{layout}.py": ("tensorflow", name, layout, "float32")
        for name in LAYERS for layout in layouts.LAYOUTS
    }  # fmt: skip
    dtype_runs = tuple(
        ("tensorflow", name, layout, dtype)
        for name, (spec, _, _) in LAYERS.items() for layout in layouts.LAYOUTS for dtype in OTHER_DTYPES
        if spec.ndim < 3 and ADAPTER.support(spec, layout, dtype) != UNSUPPORTED
    )  # fmt: skip
    wrong_tensors = (
        ("NHWC", "NHWC", (2, 3, 8, 9), "looks like the other layout"),
        ("NHWC", "NCHW", (2, 3, 8, 9), "data_format"),
        ("NHWC", "NHWC", (8, 9, 3), "expects 4"),  # TensorFlow would end the process
        ("NCHW", "NCHW", (2, 8, 9, 3), "looks like the other layout"),
        ("NCHW", "NHWC", (2, 8, 9, 3), "data_format"),
        ("NCHW", "NCHW", (3, 8, 9), "expects 4"),
    )
    examples = 120  # sixty for each layout
    gap_examples = {name: [Case(*entry) for entry in entries] for name, entries in GAPS.items()}


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
@pytest.mark.parametrize("dtype", OTHER_DTYPES)
@pytest.mark.parametrize("name", [name for name, (spec, _, _) in LAYERS.items() if spec.ndim < 3])
def test_a_dtype_is_unsupported_only_where_tensorflow_lacks_kernels(name: str, dtype: str, layout: str) -> None:
    """TensorFlow's own kernels compute what oneDNN does not: bfloat16 on processors without AVX-512."""
    spec, shape, _ = LAYERS[name]
    support = ADAPTER.support(spec, layout, dtype)
    if support == UNSUPPORTED:
        dilated = "dilation rates larger than 1" in support.reason
        assert dilated or "no channels_first convolution in bfloat16" in support.reason
        assert spec.transposed or not dilated
        assert dtype != "bfloat16" or "avx512f" not in known_gaps.processor_features()
        with pytest.raises(Exception, match=r"dilation rates larger than 1|only supports (the )?NHWC"):
            run(ADAPTER, Case(spec, shape, layout, dtype))


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
@pytest.mark.parametrize("name", LAYERS)
def test_the_source_runs_on_its_own(name: str, layout: str) -> None:
    """As a user has it: the printed code, run, called once, and given weights in Keras's order."""
    spec, shape, _ = LAYERS[name]
    case = Case(spec, shape, layout)
    params, x = arrays(case)
    scope: dict = {}
    exec(ADAPTER.source(spec, layout), scope)
    layer = scope["layer"]
    x = to_layout(x, layout)
    layer(x)
    layer.set_weights(ADAPTER.build(spec, params, layout).get_weights())
    np.testing.assert_array_equal(
        to_canonical(np.asarray(layer(x)), layout), reference.conv(spec, params, arrays(case)[1])
    )


def test_plans_are_what_an_expert_writes() -> None:
    strided = ConvSpec(3, 16, 3, stride=2, padding="same")
    call = 'keras.layers.Conv2D(16, 3, strides=2, padding="same")'
    assert ADAPTER.source(strided, "NHWC") == f"import keras\n\nlayer = {call}\n"
    dcgan = ConvSpec(3, 8, 4, stride=2, padding=1, transposed=True)
    assert 'Conv2DTranspose(8, 4, strides=2, padding="same")' in ADAPTER.source(dcgan, "NHWC")


def test_composed_layers_say_why() -> None:
    reasons = {
        "conv-padding": "an explicit pad is added first",
        "conv-strided-dilation": "strides > 1 together with dilation_rate > 1",
        "transpose-groups": "no groups in a transposed convolution",
        "transpose-crop": "its result is cropped",
        "transpose-beyond": "output_padding >= strides",
    }
    for name, reason in reasons.items():
        assert reason in ADAPTER.support(LAYERS[name][0], "NHWC").reason
    moved = ADAPTER.support(ConvSpec(3, 4, 3), "NCHW", "float64")
    assert moved == "composed"
    assert "the channels are moved to the end" in moved.reason


def test_what_cannot_be_is_unsupported() -> None:
    assert ADAPTER.support(ConvSpec(1, 1, (1, 1, 1, 1))) == "unsupported"
    with pytest.raises(UnsupportedError, match="4 spatial axes"):
        ADAPTER.plan(ConvSpec(1, 1, (1, 1, 1, 1)))
    dilated = ConvSpec(2, 3, (2,), dilation=2, transposed=True)
    assert ADAPTER.support(dilated, dtype="float16") == "unsupported"
    assert ADAPTER.support(dilated, dtype="float16", device="cuda") != "unsupported"
    assert JAX.support(dilated, dtype="float16") != "unsupported"


@pytest.mark.parametrize(
    ("spec", "accumulator"),
    [
        (ConvSpec(101, 1, 1), "float32"),
        (ConvSpec(101, 1, (1, 1, 1)), "float16"),
        (ConvSpec(101, 1, (1,), transposed=True), "float16"),
        (ConvSpec(2, 2, (1, 101), groups=2), "float16"),
        (ConvSpec(2, 2, (1, 1, 101), groups=2), "float32"),
    ],
)
def test_sums_of_halves_are_what_is_declared(spec: ConvSpec, accumulator: str) -> None:
    """2048 and a hundred ones: 2148, or, where no sum has more than eleven bits, less.

    With AVX512-FP16 TensorFlow computes float16 in oneDNN, whose sums are float32: more than is declared for all.
    """
    assert ADAPTER.compute_precision(spec, LayerRequest(dtype="float16")).accumulator == accumulator
    params = ConvParams(np.ones(spec.kernel_shape, np.float16), np.zeros(spec.out_channels, np.float16))
    x = np.ones((1, spec.in_channels, *spec.kernel_size), np.float16)
    x[(0, 0 if spec.groups == 1 else slice(None)) + (0,) * spec.ndim] = 2048
    layer = ADAPTER.build(spec, params, "NHWC", "float16")
    y = ADAPTER.apply(layer, to_layout(x, "NHWC"), "NHWC")
    in_onednn = "avx512_fp16" in known_gaps.processor_features()
    assert np.all(y == 2148) == (accumulator == "float32" or in_onednn)


def test_layers_are_keras_own() -> None:
    import keras

    for name, (spec, shape, support) in LAYERS.items():
        layer = ADAPTER.build(spec, arrays(Case(spec, shape))[0], "NHWC")
        assert isinstance(layer, keras.layers.Layer)
        assert layer.built
        own = type(layer).__module__.startswith("keras.")
        assert own == (support == "native" or isinstance(layer, keras.Sequential)), name
        assert isinstance(layer, keras.Sequential) == (name in ("conv-padding", "conv-padding-1d")), name
        assert layer.count_params() == spec.num_parameters


def test_building_leaves_the_layer_as_written() -> None:
    """Neither the random initialisers nor the caller's arrays are touched."""
    import keras

    spec = ConvSpec(3, 4, 3)
    params = ConvParams.random(spec)
    layer = ADAPTER.build(spec, params, "NHWC")
    assert isinstance(layer.kernel_initializer, keras.initializers.GlorotUniform)
    kept = params.kernel.copy()
    layer.kernel.assign(layer.kernel * 2)
    np.testing.assert_array_equal(params.kernel, kept)


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
@pytest.mark.parametrize("missing", [1, 2])
@pytest.mark.parametrize("name", ["conv", "conv-padding", "conv-strided-dilation", "conv-1d-causal", "conv-3d"])
def test_an_input_that_is_too_small_is_refused(name: str, missing: int, layout: str) -> None:
    spec, _, _ = LAYERS[name]
    pads = spec.padding if name != "conv-1d-causal" else ((0, 0),)
    sizes = [max(ke - sum(p) - missing, 1) for ke, p in zip(spec.effective_kernel, pads, strict=True)]
    if name == "conv-1d-causal":
        spec, sizes = ConvSpec(2, 3, (3,), dilation=2), [5 - missing]
    layer = ADAPTER.build(spec, ConvParams.random(spec), layout)
    with pytest.raises(ShapeError):
        spec.output_shape((2, spec.in_channels, *sizes))
    with pytest.raises(ValueError, match=r"zero or negative|[Nn]egative dimension|empty output|would be negative"):
        ADAPTER.apply(layer, to_layout(np.zeros((2, spec.in_channels, *sizes), np.float32), layout), layout)


def test_pads_that_the_input_cannot_fill_are_refused() -> None:
    for mode, size in {"circular": 3, "reflect": 4, "replicate": 0}.items():
        spec = ConvSpec(2, 3, (3,), padding=4, padding_mode=mode)
        with pytest.raises(ShapeError):
            spec.output_shape((1, 2, size))
        layer = ADAPTER.build(spec, ConvParams.random(spec), "NHWC")
        with pytest.raises(ValueError, match=rf"{mode} padding \(4, 4\) of {size} elements"):
            ADAPTER.apply(layer, np.zeros((1, size, 2), np.float32), "NHWC")


def test_backends_exclude_one_another() -> None:
    for adapter in (JAX, TORCH):
        with pytest.raises(RequestError, match=f"KERAS_BACKEND={adapter.backend}"):
            adapter.build(ConvSpec(3, 4, 3), ConvParams.random(ConvSpec(3, 4, 3)))


def test_a_worker_is_silent() -> None:
    code = (
        "from convspec import ConvSpec, ConvParams\nfrom convspec_keras import ADAPTER\nimport numpy as np\n"
        "ADAPTER.configure(threads=1)\nspec = ConvSpec(4, 4, 3, groups=2)\n"
        "layer = ADAPTER.build(spec, ConvParams.random(spec))\n"
        "for _ in range(6): ADAPTER.apply(layer, np.ones((1, 5, 5, 4), 'float32'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


OTHER_BACKEND = """
import os
from convspec.spec import layouts
from convspec.corpora.cases import Case
from convspec.contract.registry import adapter
os.environ["KERAS_BACKEND"] = "kept"
found = adapter({name!r})
found.configure(dtype={dtype!r}, threads=1)
assert os.environ["KERAS_BACKEND"] == "kept"
from tests.adapters.keras import test_layers
from tests.adapters.suite import assert_exact
for key in {names}:
    spec, shape, _ = test_layers.LAYERS[key]
    for layout in layouts.LAYOUTS:
        assert_exact(found, Case(spec, shape, layout, {dtype!r}))
print("done")
"""


@pytest.mark.parametrize(("name", "dtype"), [("keras-jax", "float64"), ("keras-torch", "bfloat16")])
def test_other_backends_are_exact(name: str, dtype: str) -> None:
    few = ["conv-depthwise", "conv-same-lower", "conv-reflect", "transpose-strided-dilation", "transpose-groups"]
    code = OTHER_BACKEND.format(name=name, dtype=dtype, names=few)
    assert run_python(code).strip() == "done"


def test_jax_says_how_to_get_float64() -> None:
    out = run_python(
        "from convspec import ConvSpec, ConvParams\nfrom convspec.errors import PlacementError\n"
        "from convspec_keras import JAX\nspec = ConvSpec(2, 3, 1)\n"
        "try: JAX.build(spec, ConvParams.random(spec, dtype='float64'), dtype='float64')\n"
        "except PlacementError as error: print(error)"
    )
    assert "jax_enable_x64" in out


# -- how it computes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "roundings"), [("zeros", 1), ("replicate", 9)])
def test_the_input_gradient_of_a_padded_element_is_rounded_once_for_each_of_its_copies(mode, roundings):
    spec = ConvSpec(2, 3, 3, padding=((2, 0), (0, 2)), padding_mode=mode)  # the corner is copied to three rows of three
    request = LayerRequest(direction="input", input_shape=(1, 2, 6, 7))
    assert compute_precision(spec, request).output_roundings == roundings
    assert compute_precision(spec, LayerRequest(direction="kernel")).output_roundings == 1
    assert compute_precision(spec, LayerRequest()).output_roundings == 2  # the sums, and the bias


@pytest.mark.parametrize(("dtype", "layout", "spec", "halves"), [
    ("bfloat16", "NHWC", ConvSpec(2, 3, 3), True), ("bfloat16", "NCHW", ConvSpec(2, 3, 3), True),
    ("float16", "NCHW", ConvSpec(2, 4, 3, groups=2), True), ("float16", "NHWC", ConvSpec(2, 4, 3, groups=2), False),
    ("float16", "NCHW", ConvSpec(2, 3, 3), False),
])  # fmt: skip
def test_where_tensorflow_sums_a_biass_gradient_in_half_precision(dtype, layout, spec, halves):
    assert sums_halves_on_tensorflow_cpu(spec, dtype, "bias", layout) is halves


ONEDNN = """
import numpy as np
from convspec_keras import ADAPTER
from convspec import ConvSpec

from convspec.spec.parameters import ConvParams
spec = ConvSpec(2, 3, 2)
print(ADAPTER.support(spec, "NCHW").reason)
ADAPTER.configure(device="cpu")
layer = ADAPTER.build(spec, ConvParams.random(spec, seed=0), "NCHW")
print(ADAPTER.apply(layer, np.ones((1, 2, 4, 5), "float32"), "NCHW").shape)
"""


@pytest.mark.parametrize("switch", [None, "0"])
def test_tensorflow_uses_onednn_unless_the_user_switches_it_off(monkeypatch, switch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    if switch is None:
        assert run_python(ONEDNN).splitlines() == ["", "(1, 3, 3, 4)"]
        return
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", switch)
    done = subprocess.run([sys.executable, "-c", ONEDNN], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "in float32 on the CPU without oneDNN, which TF_ENABLE_ONEDNN_OPTS=0 turns off" in done.stdout
    assert "only supports the NHWC" in done.stderr


@pytest.mark.parametrize(
    ("spec", "shape", "damages"),
    [
        (ConvSpec(3, 5, 1, 2), (1, 3, 8, 6), True),
        (ConvSpec(9, 7, 1, (1, 2), "same", transposed=True), (2, 9, 4, 3), True),
        (ConvSpec(8, 5, 1, 2), (2, 8, 8, 6), False),
        (ConvSpec(3, 5, (1, 2), 2), (2, 3, 8, 6), False),
        (ConvSpec(3, 5, 1), (2, 3, 8, 6), False),
    ],
)
@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_a_kernels_gradient_that_would_damage_the_process_is_not_computed(spec, shape, damages, layout):
    """Where oneDNN has no AVX-512, channels-last; all other gradients are right."""
    params, x, dy = gradient_arrays(Case(spec, shape, layout, seed=3))
    tensors = to_layout(x, layout), to_layout(dy, layout)
    layer, features = ADAPTER.build(spec, params, layout), known_gaps.processor_features()
    if damages and layout == "NHWC" and "avx2" in features and "avx512f" not in features:
        with pytest.raises(UnsupportedError, match="writes beyond its buffer"):
            ADAPTER.gradients(layer, *tensors, layout)
        assert running().no_gradients(layer, "float32", x.shape, "cuda") == ""
        return
    expected = reference.gradients(spec, params, x, dy)
    np.testing.assert_array_equal(ADAPTER.gradients(layer, *tensors, layout).kernel, expected.kernel)


# -- the declared gaps are there ----------------------------------------------------------------------------------


def test_the_bias_is_right_beside_the_gap() -> None:
    for shape in [(1, 3, 6, 4), (1, 3, 5, 6)]:
        assert_exact(ADAPTER, Case(ConvSpec(3, 5, 1), shape, "NCHW"))
    assert_exact(ADAPTER, Case(ConvSpec(3, 5, 1), (1, 3, 6, 5), "NHWC"))


PADDED = ConvSpec(3, 4, 3, 2, padding=1)


def test_a_padded_layer_is_a_sequential_that_is_saved_without_a_class_of_its_own(tmp_path):
    params, x = ConvParams.random(PADDED, seed=0), np.ones((1, 6, 7, 3), "float32")
    layer = ADAPTER.build(PADDED, params)
    assert isinstance(layer, keras.Sequential)
    assert [type(one).__name__ for one in layer.layers] == ["ZeroPadding2D", "Conv2D"]
    layer.save(tmp_path / "layer.keras")
    again = keras.models.load_model(tmp_path / "layer.keras")
    np.testing.assert_array_equal(again(x), layer(x))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_layer_of_its_own_class_is_made_again_from_its_configuration(dtype):
    spec = replace(PADDED, padding_mode="circular")
    layer = ADAPTER.build(spec, ConvParams.random(spec, seed=0), dtype=dtype)
    again = type(layer).from_config(layer.get_config())
    assert (again.name, again.compute_dtype) == (layer.name, dtype)
    assert again.conv.get_config() == layer.conv.get_config() | {"name": again.conv.name}
