"""OpenVINO: models built, run and read."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("convspec_openvino.importing")

import openvino as ov
from convspec_openvino import ADAPTER
from hypothesis import given, settings
from openvino import opset13 as ops

import convspec
from convspec import ConvParams, ConvSpec, strategies
from convspec.conformance.environment import cores
from convspec.corpora.cases import Case
from convspec.errors import CallError, UnsupportedError
from convspec.spec import layouts
from tests.adapters.suite import AdapterSuite, sized

pytestmark = pytest.mark.openvino

ADAPTER.configure(threads=1)
LAYERS = {
    "conv": ConvSpec(3, 4, (3, 5), stride=(2, 1), padding=((1, 0), (2, 3)), dilation=(1, 2)),
    "same lower": ConvSpec(4, 6, (3,), stride=2, padding="same_lower", groups=2, bias=False),
    "reflect": ConvSpec(2, 3, (1, 2, 3), padding=(0, 1, 1), padding_mode="reflect"),
    "transposed": ConvSpec(
        4, 6, (3, 2), stride=(2, 3), padding=((1, 0), (0, 1)), output_padding=(1, 2), groups=2, transposed=True
    ),
    "transposed same": ConvSpec(2, 3, (2,), stride=3, padding="same", transposed=True),
}


class TestLayers(AdapterSuite):
    runners = {"openvino": ADAPTER}
    layers = sized(LAYERS, composed=["reflect"])
    other_layout_reason = "channels-first"
    packages = (("openvino", "openvino"),)
    goldens = {
        f"openvino/{name}-{layout}.py": ("openvino", name, layout, "float32")
        for name in ("conv", "transposed") for layout in layouts.LAYOUTS
    }  # fmt: skip
    differentiable = False
    gradient_layers = ("conv",)
    dtype_runs = (("openvino", "conv", "NHWC", "float32"),)  # it has no other
    wrong_tensors = (
        ("NCHW", "NHWC", (1, 9, 9, 3), "layout 'NHWC'"),
        ("NCHW", "NCHW", (1, 9, 9, 3), "looks like the other layout"),
    )
    gap_examples = {"openvino-kernel-beyond-input": [Case(ConvSpec(2, 3, (2, 5), padding=(0, 1)), (1, 2, 4, 2))]}


@settings(max_examples=40, deadline=None)
@given(strategies.specs(max_kernel=3, padding_modes=("zeros",)))
def test_what_is_built_is_read_back(spec):
    params = ConvParams.random(spec, seed=2)
    reading = ADAPTER.read(ADAPTER.build(spec, params))
    shape = (2, spec.in_channels, *(11 + axis for axis in range(spec.ndim)))
    same = spec if not (spec.transposed and isinstance(spec.padding, str)) else spec.explicit(shape)
    assert reading.spec == same
    assert np.array_equal(reading.params.kernel, params.kernel)
    assert (reading.params.bias is None) == (params.bias is None)


def test_pads_and_moved_axes_are_read_by_running():
    spec = ConvSpec(3, 4, (3, 2), stride=(1, 2), padding=(1, 1), padding_mode="replicate")
    params = ConvParams.random(spec, seed=2)
    reading = ADAPTER.read(ADAPTER.build(spec, params, "NHWC"), (2, 9, 12, 3))
    assert (reading.spec, reading.layout) == (spec, "NHWC")
    assert np.array_equal(reading.params.kernel, params.kernel)


def test_a_users_model_is_listed_and_ported():
    x = ops.parameter([-1, 3, -1, -1], np.float32)
    kernel = np.random.default_rng(1).standard_normal((4, 3, 2, 3)).astype(np.float32)
    conv = ops.convolution(x, ops.constant(kernel), [1, 2], [0, 1], [1, 0], [1, 1])
    conv.set_friendly_name("stem")
    model = ov.Model([ops.relu(conv)], [x])
    [found] = convspec.convs(model)
    assert found.path == "stem"
    assert found.reading.spec == ConvSpec(3, 4, (2, 3), stride=(1, 2), padding=((0, 1), (1, 0)), bias=False)
    with pytest.raises(UnsupportedError, match="no convolutions; its operations: Parameter, Relu, Result"):
        convspec.convs(ov.Model([ops.relu(x)], [x]))


@pytest.mark.parametrize("shape", [(2, 1, 2, 5), (0, 1, 2, 5), (2, 1, 2, 2)])
def test_one_channel_is_moved_where_there_are_no_cells(shape):
    """The outputs are (…, 0, 6), (0, …) and (…, 0, 0) in size."""
    spec = ConvSpec(1, 1, (2, 3), padding=((1, 2), (1, 0) if shape[-1] > 2 else (2, 2)), transposed=True)
    x = np.ones((shape[0], *shape[2:], 1), np.float32)
    y = ADAPTER.apply(ADAPTER.build(spec, ConvParams.random(spec, seed=1), "NHWC"), x, "NHWC")
    assert np.moveaxis(y, -1, 1).shape == spec.output_shape(shape)


@pytest.mark.skipif(cores() < 2, reason="on one core OpenVINO has one thread, and loses errors")
def test_a_wrong_shape_is_refused_though_one_thread_was_asked_for():
    spec = ConvSpec(2, 3, (3, 3), padding=2, padding_mode="reflect")
    layer = ADAPTER.build(spec, ConvParams.random(spec, seed=1))
    ADAPTER.apply(layer, np.ones((1, 2, 5, 5), np.float32), "NCHW")
    with pytest.raises(RuntimeError, match="REFLECT"):
        ADAPTER.apply(layer, np.ones((1, 2, 2, 5), np.float32), "NCHW")


def test_errors_name_what_is_wrong():
    with pytest.raises(CallError, match="takes weights, not channels"):
        ADAPTER.parse("ops.convolution(1, 2)")
    with pytest.raises(UnsupportedError, match="has no circular padding"):
        ADAPTER.source(ConvSpec(3, 4, 3, padding=1, padding_mode="circular"))


def test_its_import_tells_nobody():
    code = (
        "import os, sys\n"
        "os.register_at_fork(before=lambda: print('forked'))\n"
        "import convspec\n"
        "print(convspec.adapter('openvino').devices())\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry')], 'openvino' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["('cpu',)", "[] True"]
