"""ncnn: nets built, run and read, and .param files."""

import gc

import numpy as np
import pytest

pytest.importorskip("ncnn")

from convspec_ncnn import ADAPTER
from convspec_ncnn.layer import _files
from hypothesis import given, settings

import convspec
from convspec import ConvParams, ConvSpec, strategies
from convspec.corpora.cases import Case
from convspec.errors import CallError, RequestError, UnsupportedError
from convspec.layers import constructor
from convspec.spec import layouts
from tests.adapters import round_trip
from tests.adapters.suite import AdapterSuite, covering, outcome, sized

pytestmark = pytest.mark.ncnn

ADAPTER.configure(threads=1)
DIRECT = ADAPTER.with_variant("direct")
LAYERS = {
    "conv": ConvSpec(3, 4, (3, 5), stride=(2, 1), padding=((1, 0), (2, 3)), dilation=(1, 2)),
    "same lower": ConvSpec(4, 6, (3,), stride=2, padding="same_lower", groups=2, bias=False),
    "reflect": ConvSpec(2, 3, (1, 2, 3), padding=(0, 1, 1), padding_mode="reflect"),
    "transposed": ConvSpec(
        4, 6, (3, 2), stride=(2, 3), padding=((1, 0), (0, 1)), output_padding=(1, 2), groups=2, transposed=True
    ),
    "transposed same": ConvSpec(2, 3, (2,), stride=3, padding="same", transposed=True),
}
WINOGRAD = ConvSpec(1, 32, 3)
RELU = """7767517
5 5
Input     x     0 1 x
Convolution stem 1 1 x a 0=4 1=3 11=2 4=1 14=0 5=1 6=72
ReLU      relu  1 1 a b
InnerProduct fc 1 1 b c 0=1 1=0 2=4
ConvolutionDepthWise dw 1 1 b y 0=4 1=1 5=0 6=4 7=4 9=1
"""


class TestLayers(AdapterSuite):
    runners = {"ncnn": ADAPTER, "direct": DIRECT}
    layers = sized(LAYERS, composed=["reflect"])
    other_layout_reason = "channels-first"
    packages = (("ncnn", "ncnn"),)
    goldens = {
        f"ncnn/{name}-{layout}.py": ("ncnn", name, layout, "float32")
        for name in ("conv", "transposed") for layout in layouts.LAYOUTS
    }  # fmt: skip
    differentiable = False
    gradient_layers = ("conv",)
    dtype_runs = (("ncnn", "conv", "NHWC", "float32"),)  # it has no other
    wrong_tensors = (
        ("NCHW", "NHWC", (1, 3, 9, 9), "looks like the other layout"),
        ("NCHW", "NCHW", (1, 9, 9, 3), "looks like the other layout"),
    )
    gap_examples = {
        "ncnn-reflect-beyond-input": [Case(ConvSpec(2, 3, (3, 2), padding=3, padding_mode="reflect"), (1, 2, 3, 5))]
    }


def test_winograd_is_unsupported_as_shipped_and_exact_without():
    case = Case(WINOGRAD, (1, 1, 28, 28))
    assert ADAPTER.support(WINOGRAD) == "native"
    assert "Winograd" in ADAPTER.support(WINOGRAD, input_shape=case.input_shape).reason
    assert not covering(DIRECT, case)
    assert outcome(DIRECT, case) == ("agree", "")
    assert outcome(ADAPTER, case)[0] == "disagree", "ncnn is exact as shipped: the reason is gone"
    for spec in (ConvSpec(1, 8, 3), ConvSpec(16, 16, 3, groups=2), ConvSpec(1, 9, 3, stride=2), ConvSpec(1, 9, (3, 5))):
        assert outcome(ADAPTER, Case(spec, (1, spec.in_channels, 28, 29))) == ("agree", "")
        assert ADAPTER.support(spec, input_shape=(1, spec.in_channels, 28, 29)) == "native"


@pytest.mark.parametrize(("spec", "shape", "words"), [
    (ConvSpec(3, 2, (6,)), (2, 3, 4), "does not check that the kernel fits"),
    (ConvSpec(3, 2, 3, padding=2), (2, 3, 0, 4), "without elements"),
    (ConvSpec(1, 1, (2,), padding=1, transposed=True), (1, 1, 1), "without elements"),
    (ConvSpec(1, 1, (1, 3), stride=(3, 2), padding="same"), (1, 1, 6, 6), "a negative number"),
])  # fmt: skip
def test_sizes_on_which_memory_is_corrupted_are_never_run(spec, shape, words):
    assert spec is not None
    assert words in DIRECT.support(spec, input_shape=shape).reason
    assert DIRECT.support(spec) == "native"


@settings(max_examples=40, deadline=None)
@given(strategies.cases(layers=strategies.specs(max_kernel=3, padding_modes=("zeros", "replicate", "reflect"))))
def test_what_is_built_is_read_back(case):
    for layout in layouts.LAYOUTS:
        shape = layouts.shape_in(case.input_shape, layout, case.spec.ndim)
        if DIRECT.support(case.spec, layout, input_shape=shape) != "unsupported":
            round_trip.check(DIRECT, case, layout)


def test_a_users_files_are_listed(tmp_path):
    rng = np.random.default_rng(1)
    kernel, bias = rng.standard_normal((4, 3, 2, 3)).astype(np.float32), np.ones(4, np.float32)
    flag, depthwise = bytes(4), np.arange(4, dtype=np.float16).tobytes()
    (tmp_path / "net.param").write_text(RELU)
    with pytest.raises(RequestError, match=r"must be beside it, in net\.bin"):
        convspec.convs(str(tmp_path / "net.param"))
    half = (0x01306B47).to_bytes(4, "little")
    (tmp_path / "net.bin").write_bytes(
        b"".join((flag, kernel.tobytes(), bias.tobytes(), flag, np.ones(4, np.float32).tobytes(), half, depthwise))
    )
    stem, dw = convspec.convs(str(tmp_path / "net.param"))
    assert (stem.path, stem.reading.spec) == ("stem", ConvSpec(3, 4, (2, 3), padding=((0, 0), (1, 1))))
    assert np.array_equal(stem.reading.params.kernel, kernel)
    assert (dw.reading, "activation of its own, 9=1" in dw.problem) == (None, True)
    (tmp_path / "net.param").write_text(RELU.replace(" 9=1", ""))
    assert convspec.convs(str(tmp_path / "net.param"))[1].reading.params.kernel.ravel().tolist() == [0, 1, 2, 3]
    (tmp_path / "net.bin").write_bytes(flag + kernel.tobytes()[:20])
    assert "ends before its weights" in convspec.convs(str(tmp_path / "net.param"))[0].problem
    (tmp_path / "net.param").write_text(RELU.replace("InnerProduct", "LSTM"))
    (tmp_path / "net.bin").write_bytes(flag + kernel.tobytes() + bias.tobytes() + bytes(400))
    assert "those of a LSTM" in convspec.convs(str(tmp_path / "net.param"))[1].problem
    (tmp_path / "net.param").write_text("7767517\n1 1\nInput x\n")
    with pytest.raises(UnsupportedError, match=r"not a \.param file"):
        convspec.convs(str(tmp_path / "net.param"))


def test_the_line_of_a_layer_is_shown_as_its_constructor():
    line = constructor(ADAPTER.source(ConvSpec(3, 8, 3), "NHWC"))
    assert line.startswith("Convolution conv 1 1 first conv 0=8 1=3 ")


def test_the_files_of_a_net_are_forgotten_with_it():
    before = len(_files)
    net = ADAPTER.build(LAYERS["conv"], ConvParams.random(LAYERS["conv"]))
    assert len(_files) == before + 1
    del net
    gc.collect()
    assert len(_files) == before


def test_what_ncnn_lacks_is_said():
    import ncnn

    with pytest.raises(CallError, match="no constructors"):
        ADAPTER.parse("ncnn.Convolution(3, 4)")
    with pytest.raises(UnsupportedError, match="no circular padding"):
        ADAPTER.source(ConvSpec(3, 4, 3, padding=1, padding_mode="circular"))
    with pytest.raises(UnsupportedError, match="does not give back its weights"):
        ADAPTER.read(ncnn.Net())
