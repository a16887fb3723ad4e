"""What the pages say of the frameworks in prose, and no block on them shows; each framework in a process of its own."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

PAGES = Path(__file__).parents[2] / "docs" / "reference" / "parameters"


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def says(page, words):
    """The claim stands on the page: who changes one, changes both."""
    text = re.sub(r"\s+", " ", (PAGES / f"{page}.md").read_text("utf-8"))
    assert words in text, f"{page}.md no longer says {words!r}"


@pytest.mark.torch
def test_torch():
    import torch
    from torch import nn

    says("bias", "PyTorch draws biases at random")
    assert nn.Conv2d(3, 8, 3).bias.abs().min() > 0

    says("in_channels", "PyTorch and Flax take it for a single image")
    assert nn.Conv2d(3, 8, 3)(torch.zeros(3, 9, 11)).shape == (8, 7, 9)

    says("layout", "shape stays (N, C, H, W), only its strides change")
    x = torch.arange(2.0 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    last = x.contiguous(memory_format=torch.channels_last)
    assert (last.shape, last.stride()) == (x.shape, (60, 1, 15, 3))
    assert torch.equal(last, x)

    says("padding", "goes after the input in PyTorch")
    layer = nn.Conv1d(1, 1, 2, padding="same", bias=False)
    layer.weight.data = torch.ones(1, 1, 2)
    assert layer(torch.tensor([[[1.0, 2.0, 4.0]]])).flatten().tolist() == [3, 6, 4]

    says("transposed", "| PyTorch | crop | (I, O/g, H, W) | no |")
    assert nn.ConvTranspose2d(4, 6, (3, 5), groups=2).weight.shape == (4, 3, 3, 5)

    says("device", "torch.backends.cudnn.conv.fp32_precision")
    assert torch.backends.cudnn.conv.fp32_precision == "tf32"


@pytest.mark.flax
def test_flax():
    import jax.numpy as jnp
    from flax import nnx

    rngs = nnx.Rngs(0)
    layer = nnx.Conv(3, 8, kernel_size=(3, 3), rngs=rngs)

    says("bias", "Flax and Keras start at zero")
    assert not layer.bias[...].any()

    says("padding", "Flax alone pads when nothing is said")
    assert layer(jnp.zeros((1, 9, 11, 3))).shape == (1, 9, 11, 8)

    says("in_channels", "PyTorch and Flax take it for a single image")
    assert layer(jnp.zeros((9, 11, 3))).shape == (9, 11, 8)

    says("dilation", "`input_dilation` puts zeros between the *inputs*")
    spread = nnx.Conv(1, 1, (1, 1), input_dilation=2, padding=0, rngs=rngs)
    assert spread(jnp.zeros((1, 4, 5, 1))).shape == (1, 7, 9, 1)

    says("transposed", "(H, W, I, O), with `transpose_kernel=True` (H, W, O, I)")
    shapes = [nnx.ConvTranspose(4, 6, (3, 5), transpose_kernel=t, rngs=rngs).kernel.shape for t in (False, True)]
    assert shapes == [(3, 5, 4, 6), (3, 5, 6, 4)]

    says("dtype", "| Flax | `param_dtype` stores, `dtype` computes | promoted |")
    assert layer(jnp.zeros((1, 9, 11, 3), jnp.float16)).dtype == jnp.float32

    says("padding_mode", "whose pads are always ((ke − 1) // 2, ke // 2)")
    ring = nnx.Conv(1, 1, (4,), strides=2, padding="CIRCULAR", use_bias=False, rngs=rngs)
    ring.kernel[...] = jnp.array([1.0, 10.0, 100.0, 1000.0]).reshape(4, 1, 1)
    assert ring(jnp.arange(1.0, 7.0)[None, :, None])[0, 0, 0] == 6 + 10 + 200 + 3000  # one pad before: x5 of x0 … x5


@pytest.mark.keras
def test_keras():
    import keras
    from keras import layers

    x = np.zeros((1, 9, 11, 4), "float32")
    layer = layers.Conv2D(8, (3, 5))
    layer(x)
    says("bias", "Flax and Keras start at zero")
    assert not np.asarray(layer.bias).any()

    says("in_channels", "so their layers have no weights before")
    assert layers.Conv2D(8, 3).weights == []

    says("groups", "whose kernel is (H, W, I, M)")
    depthwise, grouped = layers.DepthwiseConv2D((3, 5), depth_multiplier=2), layers.Conv2D(8, (3, 5), groups=4)
    for each in (depthwise, grouped):
        each.build(x.shape)
    assert tuple(depthwise.kernel.shape) == (3, 5, 4, 2)
    assert tuple(grouped.kernel.shape) == (3, 5, 1, 8)

    says("groups", "output channel o = i · M + m")
    weights = np.arange(8.0, dtype="float32").reshape(1, 1, 4, 2)
    one = layers.DepthwiseConv2D(1, depth_multiplier=2)
    one.build(x.shape)
    one.set_weights([weights, np.zeros(8)])
    assert np.asarray(one(np.ones_like(x)))[0, 0, 0].tolist() == [*range(8)]

    says("layout", "Keras stores its kernels as (H, W, I, O) in both data formats")
    first = layers.Conv2D(8, (3, 5), data_format="channels_first")
    first.build((1, 4, 9, 11))
    assert tuple(first.kernel.shape) == tuple(layer.kernel.shape) == (3, 5, 4, 8)

    says("transposed", "| Keras | words only | (H, W, O, I) | no |")
    up = layers.Conv2DTranspose(6, (3, 5))
    up.build(x.shape)
    assert tuple(up.kernel.shape) == (3, 5, 6, 4)

    says("dtype", "stores in another | cast |")
    assert keras.backend.standardize_dtype(layer(x.astype("float64")).dtype) == "float32"


@pytest.mark.onnx
def test_onnx():
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper

    says("padding", "The words mean the *end* at which the extra cell is put")
    description = onnx.defs.get_schema("Conv").attributes["auto_pad"].description
    assert "the extra padding is added at the end for SAME_UPPER and at the beginning for SAME_LOWER" in description

    says("device", "falls back to the CPU with only a warning")
    graph = helper.make_graph(
        [helper.make_node("Identity", ["X"], ["Y"])],
        "one",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        session = ort.InferenceSession(model.SerializeToString(), providers=["CUDAExecutionProvider"])
        assert session.get_providers() == ["CPUExecutionProvider"]
