"""LiteRT: models built, run and read, and the program that its users write for them."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from convspec_litert import ADAPTER
from convspec_litert.files import load
from convspec_litert.flatbuffer import Graph
from hypothesis import given, settings

import convspec
from convspec import ConvParams, ConvSpec, reference, strategies
from convspec.corpora.cases import Case
from convspec.errors import CallError, UnsupportedError
from tests.adapters.suite import AdapterSuite, covering, outcome, sized

pytestmark = pytest.mark.litert

EVERY = {ADAPTER.name if v == ADAPTER.variant else f"litert:{v}": ADAPTER.with_variant(v) for v in ADAPTER.variants}
LAYERS = {
    "conv": ConvSpec(3, 4, (3, 5), stride=(2, 1), dilation=(1, 2)),
    "same": ConvSpec(3, 4, (3, 5), stride=(2, 3), padding="same", bias=False),
    "padded": ConvSpec(4, 6, (3, 2), stride=(2, 1), padding=((1, 0), (2, 3)), groups=2),
    "depthwise": ConvSpec(4, 8, (3, 2), stride=2, padding="same", groups=4, dilation=2, bias=False),
    "1-D": ConvSpec(4, 6, (3,), stride=2, padding=((2, 0),)),
    "reflect": ConvSpec(2, 3, (1, 2, 3), padding=(0, 1, 1), padding_mode="reflect"),
    "3-D": ConvSpec(2, 3, (1, 2, 3), stride=(1, 2, 1), dilation=(1, 2, 1), bias=False),
    "transposed": ConvSpec(3, 4, (2, 3), stride=(2, 3), transposed=True),
    "transposed same": ConvSpec(2, 3, (3, 2, 2), stride=(2, 1, 2), padding="same", bias=False, transposed=True),
    "cropped": ConvSpec(2, 3, (3, 4), stride=(2, 3), padding=((1, 0), (0, 1)), output_padding=(1, 2), transposed=True),
    "transposed 1-D": ConvSpec(2, 3, (3,), stride=2, padding=1, output_padding=1, transposed=True),
}  # fmt: skip
COMPOSED = ("padded", "1-D", "reflect", "cropped", "transposed 1-D")


class TestLayers(AdapterSuite):
    runners = EVERY
    layers = sized(LAYERS, composed=COMPOSED)
    tensor_layouts = ("NHWC",)
    other_layout_reason = ""
    packages = (("litert", "ai_edge_litert"),)
    goldens = {
        f"litert/{name}.py": ("litert", name, "NHWC", "float32") for name in ("padded", "cropped", "conv")
    }  # fmt: skip
    differentiable = False
    gradient_layers = ("conv",)
    dtype_runs = (("litert", "same", "NHWC", "float16"), ("litert", "depthwise", "NHWC", "float16"))
    dtypes = ("float32", "float16")
    wrong_tensors = (("NHWC", "NHWC", (1, 3, 9, 9), "looks like the other layout"),)
    gap_examples = {
        "litert-kernel-beyond-input": [Case(ConvSpec(2, 3, (2, 5), padding=(0, 1)), (1, 2, 4, 2), "NHWC")],
        "litert-crop-beyond-output": [Case(ConvSpec(3, 2, (2,), padding=2, transposed=True), (1, 3, 2), "NHWC")],
        "litert-transposed-nothing": [Case(LAYERS["transposed"], (1, 3, 4, 0), "NHWC")],
        "litert-reflect-nothing": [Case(LAYERS["reflect"], (0, 2, 4, 5, 6), "NHWC")],
    }

    def test_four_spatial_axes_are_unsupported(self, runner):
        spec = ConvSpec(1, 1, (1, 1, 1, 1))
        assert "4 spatial axes" in self.runners[runner].support(spec, "NHWC").reason


def test_float16_runs_on_nothing_but_xnnpack():
    case = Case(LAYERS["same"], (0, 3, 7, 9), "NHWC", "float16")
    (gap,) = covering(ADAPTER, case)
    assert gap.covers(*outcome(ADAPTER, case))
    spec = LAYERS["same"]
    assert [str(one.support(spec, "NHWC", "float16")) for one in EVERY.values()] == ["native", *2 * ["unsupported"]]
    for name in ("padded", "1-D", "3-D", "transposed", "reflect"):
        assert "float16" in ADAPTER.support(LAYERS[name], "NHWC", "float16").reason


@settings(max_examples=40, deadline=None)
@given(strategies.specs(max_kernel=3, padding_modes=("zeros",)))
def test_what_is_built_is_read_back(spec):
    if (support := ADAPTER.support(spec, "NHWC")) == "unsupported":
        return
    params = ConvParams.random(spec, seed=2)
    shape = (2, *(11 + axis for axis in range(spec.ndim)), spec.in_channels)
    reading = ADAPTER.read(ADAPTER.build(spec, params), None if support == "native" else shape)
    canonical = (2, spec.in_channels, *shape[1:-1])
    x = np.random.default_rng(1).integers(-4, 5, canonical)
    assert reading.layout == "NHWC"
    assert np.array_equal(reading.params.kernel, params.kernel)
    if support == "native" or not spec.transposed:
        assert reading.spec in (spec, spec.explicit(canonical))
    expected = reference.conv(spec, params, x)
    np.testing.assert_array_equal(reference.conv(reading.spec, reading.params, x), expected)


@pytest.mark.keras
def test_the_programs_that_are_shown_give_the_same_layers(tmp_path):
    """Keras and the converter run in a process of their own, with weights of integers."""
    texts = {name: ADAPTER.source(spec, "NHWC") for name, spec in LAYERS.items()}
    texts = {name: text for name, text in texts.items() if "keras" in text}
    # Keras refuses strides with dilation, and has no such pad
    assert set(LAYERS) - set(texts) == {"conv", "depthwise", "3-D", "reflect"}
    code = "import numpy as np\nrng = np.random.default_rng(3)\n"
    for name, text in texts.items():
        model, _, convert = text.partition("layer = ")
        code += f"{model}model.set_weights([rng.integers(-3, 4, w.shape) for w in model.get_weights()])\n"
        code += f"layer = {convert}open('{name}.tflite', 'wb').write(layer)\n"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in texts:
        spec, converted = LAYERS[name], load(str(tmp_path / f"{name}.tflite"))
        graph = Graph(converted)
        shape = graph.signature(graph.inputs[0])
        [found] = ADAPTER.convs(converted)
        kernel = found.reading.params.kernel
        bias = ADAPTER.apply(converted, np.zeros(shape, np.float32)).reshape(-1, spec.out_channels)[0]
        params = ConvParams(kernel[:, :, 0] if spec.ndim == 1 else kernel, bias if spec.bias else None)
        x = np.random.default_rng(5).integers(-4, 5, shape).astype(np.float32)
        own = ADAPTER.apply(ADAPTER.build(spec, params), x)
        np.testing.assert_array_equal(ADAPTER.apply(converted, x), own, err_msg=name)
        assert np.any(own)


def test_errors_name_what_is_wrong():
    with pytest.raises(CallError, match="reads no constructors"):
        ADAPTER.parse("tfl.Conv2DOptionsT(1, 2)")
    for spec, words in (
        (ConvSpec(3, 4, 3, padding=1, padding_mode="circular"), "has no circular padding"),
        (ConvSpec(3, 4, 3, stride=2, padding="same_lower"), "for SAME only"),
        (ConvSpec(4, 4, 3, groups=2, transposed=True), "no groups and no dilation"),
        (ConvSpec(4, 4, (3, 3, 3), groups=2), "CONV_3D has no groups"),
    ):
        with pytest.raises(UnsupportedError, match=words):
            ADAPTER.source(spec, "NHWC")
    with pytest.raises(UnsupportedError, match="channels-last only"):
        ADAPTER.source(ConvSpec(3, 4, 3))


def test_an_operator_of_more_is_read_by_running():
    """The pad and the moved axis of a 1-D layer around it; a model of two is refused."""
    spec = LAYERS["1-D"]
    layer = ADAPTER.build(spec, ConvParams.random(spec, seed=1))
    assert ADAPTER.read(layer, (2, 9, 4)).spec == spec
    with pytest.raises(UnsupportedError, match="pass input_shape"):
        ADAPTER.read(layer)
    assert convspec.adapter("litert").owns(type(layer))
