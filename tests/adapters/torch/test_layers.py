"""The torch adapter: every way it composes a layer against the oracle, and what it promises besides numbers."""

from __future__ import annotations

import copy
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch
from convspec_torch import ADAPTER

from convspec import ConvParams, ConvSpec, reference
from convspec.contract import LayerRequest, known_gaps
from convspec.corpora.cases import Case, arrays, gradient_arrays
from convspec.errors import FrameworkAbsent, ParamsError, PlacementError, ShapeError, UnsupportedError
from convspec.reference.error_bounds import products
from convspec.reference.verdict import judge
from convspec.spec import layouts
from convspec.spec.dtypes import rounded
from tests.adapters.suite import COMPOSED, NATIVE, UNSUPPORTED, AdapterSuite, covering, run, to_canonical, to_layout

pytestmark = pytest.mark.torch
ADAPTER.configure(threads=1)  # with more, oneDNN has a fault of its own in bfloat16: grouped, strided, one column wide

# name: (spec, spatial sizes of the input, support in NCHW)
_SPATIAL = {
    "plain": (ConvSpec(3, 4, (3, 5)), (7, 9), NATIVE),
    "no bias": (ConvSpec(3, 4, (2, 3), bias=False), (5, 6), NATIVE),
    "stride, pads, dilation": (ConvSpec(3, 4, (3, 2), (2, 3), (1, 2), (2, 1)), (8, 9), NATIVE),
    "groups": (ConvSpec(4, 6, (3, 2), groups=2), (5, 6), NATIVE),
    "depthwise": (ConvSpec(3, 6, (3, 2), (1, 2), (2, 0), groups=3), (5, 6), NATIVE),
    "1-D causal": (ConvSpec(2, 3, 3, padding="causal", dilation=2, ndim=1), (6,), COMPOSED),
    "one side": (ConvSpec(2, 3, (3, 2), (2, 1), ((0, 1), (2, 0))), (6, 5), COMPOSED),
    "one side, 3-D": (ConvSpec(2, 3, (2, 3, 1), (1, 2, 3), ((1, 0), (0, 2), (1, 1))), (4, 5, 3), COMPOSED),
    "same, odd kernel": (ConvSpec(2, 3, (3, 5), padding="same"), (6, 5), NATIVE),
    "same, even kernel": (ConvSpec(2, 3, (2, 4), padding="same"), (6, 5), COMPOSED),
    "same with stride": (ConvSpec(2, 3, (3, 4), (2, 3), "same", (1, 2)), (8, 7), COMPOSED),
    "same_lower with stride": (ConvSpec(2, 3, (2, 5), (2, 3), "same_lower"), (5, 7), COMPOSED),
    "same with stride, 1-D": (ConvSpec(2, 3, 4, 3, "same", ndim=1), (8,), COMPOSED),
    "same with stride, 3-D": (ConvSpec(2, 3, (2, 3, 4), (2, 1, 3), "same"), (5, 4, 7), COMPOSED),
    "same with stride, 1x1": (ConvSpec(2, 3, 1, 2, "same"), (6, 5), NATIVE),
    "reflect": (ConvSpec(2, 3, (3, 5), padding=(1, 2), padding_mode="reflect"), (4, 5), NATIVE),
    "replicate": (ConvSpec(2, 3, (3, 2), (2, 1), (3, 0), padding_mode="replicate"), (2, 5), NATIVE),
    "circular": (ConvSpec(2, 3, (3, 5), padding=(2, 3), dilation=(2, 1), padding_mode="circular"), (4, 3), NATIVE),
    "reflect, one side": (ConvSpec(2, 3, (3, 4), padding=((2, 0), (1, 2)), padding_mode="reflect"), (4, 5), COMPOSED),
    "replicate, one side": (ConvSpec(2, 3, 4, padding=((0, 3),), padding_mode="replicate"), (2,), COMPOSED),
    "circular, one side": (
        ConvSpec(2, 3, (2, 3, 2), padding=((1, 0), (2, 1), (0, 2)), padding_mode="circular"),
        (3, 2, 4),
        COMPOSED,
    ),
    "circular, same with stride": (ConvSpec(2, 3, (3, 5), (2, 3), "same", padding_mode="circular"), (6, 7), COMPOSED),
    "transposed": (ConvSpec(3, 4, (3, 5), (2, 3), (1, 0), transposed=True), (4, 3), NATIVE),
    "transposed, gaps": (ConvSpec(3, 4, (2, 1), (3, 2), transposed=True), (4, 3), NATIVE),
    "transposed, groups": (ConvSpec(4, 6, (3, 2), 2, groups=2, transposed=True), (3, 4), NATIVE),
    "transposed, depthwise": (ConvSpec(3, 6, (3, 2), 2, groups=3, transposed=True), (3, 4), NATIVE),
    "output_padding": (ConvSpec(3, 4, (3, 2), (2, 3), (1, 0), transposed=True, output_padding=(1, 2)), (3, 4), NATIVE),
    "output_padding beyond the stride": (
        ConvSpec(2, 3, 3, padding=1, dilation=3, transposed=True, output_padding=2, ndim=1),
        (5,),
        NATIVE,
    ),
    "transposed, one side": (
        ConvSpec(3, 2, (4, 3), (2, 1), ((2, 0), (0, 1)), transposed=True, output_padding=(1, 0)),
        (3, 4),
        COMPOSED,
    ),
    "transposed, one side, 1-D": (ConvSpec(3, 2, 4, 3, ((0, 2),), transposed=True, output_padding=2), (3,), COMPOSED),
    "transposed same, even crop": (ConvSpec(3, 2, (4, 3), (2, 1), "same", transposed=True), (3, 4), NATIVE),
    "transposed same, odd crop": (ConvSpec(3, 2, (3, 4), (2, 3), "same", transposed=True), (3, 4), COMPOSED),
    "transposed same, short kernel": (ConvSpec(3, 2, (2, 1), (3, 2), "same", transposed=True), (3, 4), NATIVE),
    "transposed, 3-D": (ConvSpec(2, 3, (2, 3, 1), (1, 2, 3), (0, 1, 0), transposed=True), (3, 2, 4), NATIVE),
    "all sizes alike": (ConvSpec(3, 3, 3, padding=1), (3, 3), NATIVE),
}
LAYERS = {
    **{name: (spec, (2, spec.in_channels, *spatial), kind) for name, (spec, spatial, kind) in _SPATIAL.items()},
    "half, no bias": (ConvSpec(3, 16, 3, padding=1, padding_mode="reflect", bias=False), (1, 3, 5, 6), NATIVE),
    "half, transposed": (
        ConvSpec(
            6, 12, (3, 4, 5), (3, 2, 1), (1, 2, 0), (1, 2, 3), 3, False, transposed=True, output_padding=(1, 0, 1)
        ),
        (1, 6, 2, 3, 4),
        NATIVE,
    ),
    "same_lower with stride, 1-D": (ConvSpec(2, 3, 4, 3, "same_lower", ndim=1), (1, 2, 8), COMPOSED),
}
CHANNELS_LAST = ADAPTER.with_variant("channels_last")
BOTH = sorted(product(LAYERS, layouts.LAYOUTS))


def check(spec, shape, layout="NCHW", dtype="float32", adapter=ADAPTER):
    """Assert that the layer gives the oracle's numbers, whatever gaps are declared."""
    case = Case(spec, shape, layout, dtype)
    np.testing.assert_array_equal(run(adapter, case), reference.conv(spec, *arrays(case)))


AVX512 = "avx512f" in known_gaps.processor_features()


def reads_old_memory(case: Case) -> bool:
    """See docs/divergences/torch-bfloat16-groups-amx.md; a layer of one channel is computed as a grouped one is."""
    few = case.spec.groups > 1 or case.spec.in_channels == 1
    return few and case.dtype == "bfloat16" and "amx_bf16" in known_gaps.processor_features()


class TestLayers(AdapterSuite):
    unreliable = staticmethod(reads_old_memory)
    runners = {"default": ADAPTER}
    layers = LAYERS
    other_layout_reason = "channel axis"
    packages = (("torch", "torch"),)
    goldens = {
        "torch/native.py": ("default", "stride, pads, dilation", "NCHW", "float32"),
        "torch/native_half.py": ("default", "half, no bias", "NCHW", "float16"),
        "torch/native_long.py": ("default", "half, transposed", "NCHW", "bfloat16"),
        "torch/one_side.py": ("default", "reflect, one side", "NCHW", "float32"),
        "torch/same.py": ("default", "circular, same with stride", "NHWC", "float32"),
        "torch/same_lower_1d.py": ("default", "same_lower with stride, 1-D", "NCHW", "float64"),
        "torch/cropped.py": ("default", "transposed, one side", "NHWC", "float32"),
        "torch/channels_last.py": ("default", "depthwise", "NHWC", "float32"),
    }
    dtype_runs = tuple(("default", "plain", "NCHW", dtype) for dtype in ADAPTER.dtypes)
    wrong_tensors = (
        ("NCHW", "NCHW", (1, 5, 6, 3), "looks like the other layout"),
        ("NCHW", "NCHW", (3, 5, 6), "expects 4"),
        ("NCHW", "NCHW", (1, 4, 5, 6), "must be 3 channels"),
        ("NCHW", "NHWC", (1, 5, 6, 3), "takes NCHW only"),
        ("NHWC", "NHWC", (1, 3, 5, 6), "looks like the other layout"),
    )
    examples, dtypes = 150, ADAPTER.dtypes
    gap_examples = {
        "torch-no-cells-in": [
            Case(spec, (1, 2, 4, 0), layout)
            for layout in layouts.LAYOUTS
            for spec in (
                ConvSpec(2, 3, 3, padding=(1, 2)),
                ConvSpec(2, 3, 3, transposed=True),
                ConvSpec(2, 3, 3, padding=((0, 1), (0, 0)), transposed=True),
                ConvSpec(2, 3, 3, 2, "same", transposed=True),
            )
        ],
    }


class TestChannelsLast(TestLayers):
    """The variant: PyTorch's memory format for two and three spatial axes."""

    runners = {"channels_last": CHANNELS_LAST}
    layers = {name: entry for name, entry in LAYERS.items() if entry[0].ndim > 1}
    packages = (("torch:channels_last", "torch"),)
    goldens = {"torch/native.py": ("channels_last", "stride, pads, dilation", "NCHW", "float32")}
    dtype_runs = tuple(("channels_last", "plain", "NCHW", dtype) for dtype in ADAPTER.dtypes)


@pytest.mark.parametrize(("name", "layout"), BOTH)
def test_the_shown_text_is_a_program_of_its_own(name, layout):
    spec, shape, _ = LAYERS[name]
    params, x = arrays(Case(spec, shape))
    namespace = {}
    exec(ADAPTER.source(spec, layout), namespace)
    layer = namespace["layer"]
    prefix = "" if ADAPTER.support(spec, layout) == NATIVE else "conv."
    weights = {f"{prefix}weight": torch.tensor(params.kernel)}
    if spec.bias:
        weights[f"{prefix}bias"] = torch.tensor(params.bias)
    layer.load_state_dict(weights, strict=True)
    with torch.no_grad():
        y = layer(torch.tensor(to_layout(x, layout))).numpy()
    np.testing.assert_array_equal(to_canonical(y, layout), reference.conv(spec, params, x))


@pytest.mark.parametrize(("name", "layout"), BOTH)
def test_convolutions_are_pytorchs_own(name, layout):
    spec, _, _ = LAYERS[name]
    native = ADAPTER.support(spec, layout) == NATIVE
    layer = ADAPTER.build(spec, ConvParams.exact(spec), layout)
    convolution = layer if native else layer.conv
    assert type(convolution).__name__ == f"Conv{'Transpose' if spec.transposed else ''}{spec.ndim}d"
    assert ADAPTER.plan(spec, layout).convs == (() if native else ("conv",))


def test_gradients_leave_none_on_the_parameters():
    spec, shape, _ = LAYERS["plain"]
    params, x, dy = gradient_arrays(Case(spec, shape))
    layer = ADAPTER.build(spec, params)
    ADAPTER.gradients(layer, x, dy)
    assert all(p.grad is None for p in layer.parameters())


def test_what_is_unsupported_says_why():
    assert "tf32" in ADAPTER.support(ConvSpec(1, 1, 3), dtype="tf32").reason
    assert CHANNELS_LAST.support(ConvSpec(1, 1, 3, ndim=1)) == UNSUPPORTED
    with pytest.raises(UnsupportedError, match="memory format"):
        CHANNELS_LAST.build(ConvSpec(1, 1, 3, ndim=1), ConvParams.exact(ConvSpec(1, 1, 3, ndim=1)))


# -- sizes at which frameworks differ --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [((1, 1), (2, 2)), ((1, 0), (0, 2)), "same"])
def test_an_empty_batch(mode, padding):
    check(ConvSpec(3, 4, (3, 5), (2, 3), padding, padding_mode=mode), (0, 3, 6, 7))


def test_an_empty_transposed_batch():
    check(ConvSpec(3, 4, (3, 5), (2, 3), transposed=True), (0, 3, 6, 7))


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (ConvSpec(1, 1, 5, padding=1), (1, 1, 6, 2)),
        (ConvSpec(1, 1, 5, padding=((1, 0), (1, 1))), (1, 1, 3, 9)),
        (ConvSpec(1, 1, 3, padding=2, padding_mode="reflect"), (1, 1, 2, 5)),
        (ConvSpec(1, 1, 3, padding=((2, 0), (0, 1)), padding_mode="reflect"), (1, 1, 2, 5)),
        (ConvSpec(1, 1, 3, padding=3, padding_mode="circular"), (1, 1, 2, 5)),
        (ConvSpec(1, 1, 3, padding=((3, 0), (0, 1)), padding_mode="circular"), (1, 1, 2, 5)),
        (ConvSpec(1, 1, 9, 2, "same", padding_mode="reflect"), (1, 1, 4, 5)),
        (ConvSpec(1, 1, 1, padding=((1, 1),), padding_mode="replicate"), (1, 1, 0)),
        (ConvSpec(1, 1, 3, padding=2, transposed=True), (1, 1, 1, 4)),
        (ConvSpec(1, 1, 3, padding=((2, 3), (0, 1)), transposed=True), (1, 1, 2, 4)),
    ],
)
def test_what_the_spec_forbids_is_refused(spec, shape):
    with pytest.raises(ShapeError):
        spec.output_shape(shape)
    params = ConvParams.exact(spec)
    layer = ADAPTER.build(spec, params)
    with pytest.raises(RuntimeError):
        ADAPTER.apply(layer, np.ones(shape, np.float32))


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
@pytest.mark.parametrize(
    ("spec", "shape", "refused"),
    [
        (ConvSpec(2, 3, 3, padding=(1, 2)), (1, 2, 4, 0), True),
        (ConvSpec(2, 3, 3, padding=((1, 1), (1, 2))), (1, 2, 4, 0), False),
        (ConvSpec(2, 3, 3, padding=(1, 2)), (0, 2, 4, 0), False),
        (ConvSpec(2, 3, 3, transposed=True), (1, 2, 4, 0), True),
        (ConvSpec(2, 3, 3, padding=((0, 1), (0, 0)), transposed=True), (1, 2, 4, 0), True),
        (ConvSpec(2, 3, 3, 2, "same", transposed=True), (1, 2, 4, 0), True),
        (ConvSpec(2, 3, 3, transposed=True), (0, 2, 4, 0), False),
    ],
)
def test_axes_without_cells_are_refused_where_the_gap_says(spec, shape, refused, layout):
    assert [gap.id for gap in covering(ADAPTER, Case(spec, shape, layout))] == (
        ["torch-no-cells-in"] if refused else []
    )
    if refused:
        with pytest.raises(RuntimeError, match="Only zero batch or zero channel"):
            check(spec, shape, layout)
    else:
        check(spec, shape, layout)


def test_outputs_without_cells():
    """A crop of its own always works; the constructor's depends on the kernel that PyTorch picks."""
    check(ConvSpec(2, 3, 2, padding=((0, 2), (1, 2)), transposed=True), (1, 2, 1, 2))
    spec = ConvSpec(2, 3, 2, padding=1, transposed=True)
    assert spec.output_shape((1, 2, 1, 4)) == (1, 3, 0, 3)
    assert ADAPTER.support(spec, "NHWC", input_shape=(1, 1, 4, 2)) == UNSUPPORTED
    assert ADAPTER.support(spec, input_shape=(1, 2, 2, 4)) == NATIVE
    assert ADAPTER.support(spec, input_shape=(0, 2, 1, 4)) == NATIVE
    check(spec, (0, 2, 1, 4))
    with pytest.raises(RuntimeError, match="Output size is too small"):
        check(spec, (1, 2, 1, 4), dtype="float64")


# -- layouts, dtypes, devices ----------------------------------------------------------------------------------------


def test_the_shape_of_dy_is_checked():
    layer = ADAPTER.build(ConvSpec(3, 4, 3), ConvParams.exact(ConvSpec(3, 4, 3)))
    with pytest.raises(ShapeError, match=r"dy has shape \(1, 4, 9, 9\)"):
        ADAPTER.gradients(layer, np.ones((1, 3, 5, 6), np.float32), np.ones((1, 4, 9, 9), np.float32))


@pytest.mark.parametrize("dtype", ADAPTER.dtypes)
@pytest.mark.parametrize("variant", ADAPTER.variants)
def test_dtypes_and_memory_formats(dtype, variant):
    spec = ConvSpec(3, 4, (3, 2), (1, 2), (1, 0))
    adapter = ADAPTER.with_variant(variant)
    check(spec, (2, 3, 5, 6), dtype=dtype, adapter=adapter)
    layer = adapter.build(spec, ConvParams.exact(spec, dtype=dtype), dtype=dtype)
    assert layer.weight.dtype == layer.bias.dtype == getattr(torch, dtype)
    assert layer.weight.is_contiguous(memory_format=torch.channels_last) == (variant == "channels_last")


def test_a_dtype_that_the_layer_does_not_have_is_not_converted():
    layer = ADAPTER.build(ConvSpec(3, 4, 3), ConvParams.exact(ConvSpec(3, 4, 3)))
    with pytest.raises(RuntimeError, match="should be the same"):
        ADAPTER.apply(layer, np.ones((1, 3, 5, 6), np.float64))


def test_an_answer_in_another_dtype_is_no_answer():
    class Widening(torch.nn.Module):
        def __init__(self, conv):
            super().__init__()
            self.conv = conv

        def forward(self, x):
            return self.conv(x).double()

    layer = Widening(ADAPTER.build(ConvSpec(3, 4, 3), ConvParams.exact(ConvSpec(3, 4, 3))))
    with pytest.raises(PlacementError, match="float64"):
        ADAPTER.apply(layer, np.ones((1, 3, 5, 6), np.float32))


def test_devices():
    assert ADAPTER.devices() == (("cpu", "cuda") if torch.cuda.is_available() else ("cpu",))
    spec = ConvSpec(3, 4, 3)
    with pytest.raises(PlacementError, match="only on cpu"):
        ADAPTER.build(spec, ConvParams.exact(spec), device="xpu")


def test_layers_run_on_a_gpu_where_there_is_one():
    spec, x = ConvSpec(3, 4, 3), np.ones((1, 3, 5, 6), np.float32)
    if not torch.cuda.is_available():
        with pytest.raises(PlacementError, match="cannot run on 'cuda'"):
            ADAPTER.build(spec, ConvParams.exact(spec), device="cuda")
        return
    layer = ADAPTER.build(spec, ConvParams.exact(spec), device="cuda")
    assert layer.weight.is_cuda
    np.testing.assert_array_equal(
        ADAPTER.apply(layer, x, device="cuda"), reference.conv(spec, ConvParams.exact(spec), x)
    )


def test_strict_precision_switches_tf32_off():
    code = """if True:
        import torch
        from convspec_torch import ADAPTER
        ADAPTER.configure(precision="shipped", threads=1)
        assert torch.get_num_threads() == 1 and torch.backends.cudnn.conv.fp32_precision == "tf32"
        ADAPTER.configure(device="cuda", precision="strict")
        assert torch.backends.cudnn.conv.fp32_precision == torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert torch.backends.mkldnn.conv.fp32_precision == "ieee" and torch.get_num_threads() == 1
    """
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


# -- layers as users have them ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_layers_are_copied_saved_and_trained_like_any_other(layout, tmp_path):
    spec = ConvSpec(3, 4, (3, 4), (2, 1), "same")
    params, x = arrays(Case(spec, (2, 3, 5, 6)))
    layer = ADAPTER.build(spec, params, layout)
    before = ADAPTER.apply(layer, to_layout(x, layout), layout)
    twin = copy.deepcopy(layer)
    torch.save(layer.state_dict(), tmp_path / "weights.pt")
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.5)
    layer(torch.tensor(to_layout(x, layout))).sum().backward()
    optimiser.step()
    assert not np.array_equal(ADAPTER.apply(layer, to_layout(x, layout), layout), before)
    np.testing.assert_array_equal(ADAPTER.apply(twin, to_layout(x, layout), layout), before)
    np.testing.assert_array_equal(params.kernel, arrays(Case(spec, (2, 3, 5, 6)))[0].kernel)
    layer.load_state_dict(torch.load(tmp_path / "weights.pt"))
    np.testing.assert_array_equal(ADAPTER.apply(layer, to_layout(x, layout), layout), before)


def test_building_draws_no_random_numbers():
    state = torch.get_rng_state()
    ADAPTER.build(ConvSpec(3, 4, 3, 2, "same"), ConvParams.exact(ConvSpec(3, 4, 3, 2, "same")))
    assert torch.equal(torch.get_rng_state(), state)
    torch.nn.Conv2d(3, 4, 3)
    assert not torch.equal(torch.get_rng_state(), state)


def test_arrays_of_any_strides():
    spec = ConvSpec(3, 4, (3, 2))
    params, x = arrays(Case(spec, (2, 3, 5, 6)))
    views = ConvParams(np.asfortranarray(params.kernel), params.bias[::-1].copy()[::-1])
    views.kernel.flags.writeable = False
    flipped = np.array(x[:, :, ::-1])[:, :, ::-1]
    flipped.flags.writeable = False
    y = ADAPTER.apply(ADAPTER.build(spec, views), flipped)
    np.testing.assert_array_equal(y, reference.conv(spec, params, x))


def test_parameters_must_fit():
    with pytest.raises(ParamsError, match="kernel must have shape"):
        ADAPTER.build(ConvSpec(3, 4, (3, 2)), ConvParams.exact(ConvSpec(3, 4, (2, 3))))


def test_a_module_of_two_convolutions_is_no_layer():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.Conv2d(3, 3, 1))
    with pytest.raises(UnsupportedError, match="has 2 convolutions"):
        ADAPTER.apply(model, np.ones((1, 3, 4, 4), np.float32))


# -- precision -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ADAPTER.dtypes)
@pytest.mark.parametrize(
    "spec",
    [
        ConvSpec(8, 6, (3, 5), padding=1),
        ConvSpec(6, 6, (3, 2), 2, groups=6),
        ConvSpec(4, 6, (5, 4), (1, 2), transposed=True),
        ConvSpec(6, 6, (4, 4), (1, 3), groups=6, transposed=True, bias=False),
        ConvSpec(3, 4, (3, 3), dilation=(1, 3), transposed=True, output_padding=(0, 2)),
        ConvSpec(3, 4, (3, 3, 2), groups=1, transposed=True),
    ],
)
def test_errors_are_within_the_declared_arithmetic(spec, dtype):
    params = ConvParams.random(spec, 3, dtype)
    x = np.random.default_rng(3).standard_normal((17, spec.in_channels, *(7, 6, 5)[: spec.ndim]))
    x = rounded(x, dtype)
    y = ADAPTER.apply(ADAPTER.build(spec, params, dtype=dtype), x)
    verdict = judge(
        y,
        reference.conv(spec, params, x),
        reference.magnitude(spec, params, x),
        dtype=dtype,
        data="random",
        products=products(spec),
        arithmetic=ADAPTER.compute_precision(spec, LayerRequest(dtype=dtype)),
    )
    assert verdict.verdict == "agree", verdict


def test_declared_arithmetic():
    wide = ConvSpec(3, 4, (5, 4), (1, 2), transposed=True)

    def precision(dtype="float32", device="cpu", precision="shipped"):
        return ADAPTER.compute_precision(wide, LayerRequest(None, dtype, device, precision))

    assert precision("float16").output_roundings == 1 + 5 * 2
    assert precision("float32").output_roundings == 1
    assert precision("float64").accumulator == "float64"
    assert precision("float32", "cuda").inputs == "tf32"
    assert precision("float32", "cuda", "strict").inputs is None
    assert precision("float16", "cuda").inputs is None


@pytest.mark.parametrize("padding", [0, ((1, 0), (0, 1))])
def test_one_channel_and_an_output_of_one_column(padding):
    """PyTorch 2.13 gives wrong numbers here on the strides that movedim leaves; the plan avoids them."""
    spec = ConvSpec(1, 3, 5, (1, 3), padding)
    check(spec, (2, 1, 9, 6 if padding == 0 else 5), "NHWC")
    x = torch.ones(2, 9, 6, 1).movedim(-1, 1)
    y = torch.nn.functional.conv2d(x, torch.ones(3, 1, 5, 5), stride=(1, 3))
    assert bool((y == 25).all()) is not AVX512, "PyTorch is right by now: movedim will do for one channel too"


@pytest.mark.xfail(
    AVX512, strict=True, reason="oneDNN takes dy's rows from the wrong places; contiguous inputs are right"
)
def test_gradient_of_a_transposed_layer_whose_input_has_one_column():
    """A fault of PyTorch 2.13: one output channel, an input of width 1 in channels-last order, a stride across it."""
    x = torch.ones(2, 4, 1, 2).permute(0, 3, 1, 2).requires_grad_()
    kernel = torch.ones(2, 1, 3, 5)
    (found,) = torch.autograd.grad(torch.nn.functional.conv_transpose2d(x, kernel, stride=(1, 2)).sum(), x)
    assert (found == 15).all()


@pytest.mark.parametrize(
    ("spec", "shape", "damages"),
    [
        (ConvSpec(3, 5, 1, 2, bias=False), (2, 3, 8, 6), True),
        (ConvSpec(9, 7, 1, (1, 2), output_padding=(0, 1), transposed=True), (2, 9, 4, 3), True),
        (ConvSpec(8, 5, 1, 2, bias=False), (2, 8, 8, 6), False),
        (ConvSpec(3, 5, 1, 2, bias=False), (1, 3, 8, 6), False),
        (ConvSpec(3, 5, (1, 2), 2, bias=False), (2, 3, 8, 6), False),
        (ConvSpec(3, 5, 1, bias=False), (2, 3, 8, 6), False),
    ],
)
@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_a_kernels_gradient_that_would_damage_the_process_is_not_computed(spec, shape, damages, layout):
    """Where oneDNN has no AVX-512, channels-last; all other gradients are right."""
    params, x, dy = gradient_arrays(Case(spec, shape, layout, seed=3))
    tensors = to_layout(x, layout), to_layout(dy, layout)
    layer = ADAPTER.build(spec, params, layout)
    if damages and layout == "NHWC" and torch.backends.cpu.get_cpu_capability() == "AVX2":
        with pytest.raises(UnsupportedError, match="writes beyond its buffer"):
            ADAPTER.gradients(layer, *tensors, layout)
        return
    expected = reference.gradients(spec, params, x, dy)
    np.testing.assert_array_equal(ADAPTER.gradients(layer, *tensors, layout).kernel, expected.kernel)


# -- without the framework -------------------------------------------------------------------------------------------


def test_the_plan_needs_no_framework_and_no_numpy():
    code = """if True:
        import sys
        sys.modules["torch"] = sys.modules["numpy"] = None
        from convspec import ConvSpec
        from convspec_torch import ADAPTER
        assert "same_pads" in ADAPTER.source(ConvSpec(3, 4, 3, 2, "same"))
        assert ADAPTER.support(ConvSpec(3, 4, 3), "NHWC", input_shape=(1, 5, 6, 3)) == "composed"
        assert "torch-no-cells-in" in ADAPTER.gaps()
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_an_absent_framework_is_told_from_a_broken_one(monkeypatch):
    monkeypatch.delitem(sys.modules, "convspec_torch.layer", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(FrameworkAbsent, match=r"pip install .*\[torch\b"):
        ADAPTER.devices()
    assert ADAPTER.support(ConvSpec(3, 4, 3)) == NATIVE
