"""What the pages say of the frameworks in prose, and no block on them shows; each framework in a process of its own."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = DOCS / "reference" / "parameters"
ADAPTERS = DOCS.parent / "adapters"


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def says(page, words):
    """The claim stands on the page: who changes one, changes both."""
    file = ADAPTERS / page / "messages.toml" if page.startswith("convspec_") else PAGES / f"{page}.md"
    text = re.sub(r"\s+", " ", file.read_text("utf-8"))
    assert words in text, f"{file.name} no longer says {words!r}"


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

    says("padding", "Only Flax pads by default")
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

    says("padding", "The words name the *end* with the extra pad")
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


@pytest.mark.equinox
def test_equinox():
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    key = jax.random.key(0)
    says("convspec_equinox", "Lower case is accepted, too")
    assert eqx.nn.Conv2d(3, 8, 3, padding="same", key=key)(jnp.zeros((3, 9, 11))).shape == (8, 9, 11)

    says("convspec_equinox", "`'SAME'` is what ONNX calls `SAME_UPPER`: the odd pad goes after the input")
    layer = eqx.nn.Conv1d(1, 1, 2, padding="SAME", use_bias=False, key=key)
    layer = eqx.tree_at(lambda at: at.weight, layer, jnp.ones((1, 1, 2)))
    assert layer(jnp.array([[1.0, 2.0, 4.0]])).ravel().tolist() == [3, 6, 4]

    says("convspec_equinox", "Map the layer over the batch's axis: `jax.vmap(layer)(x)`")
    assert jax.vmap(eqx.nn.Conv2d(3, 8, 3, key=key))(jnp.zeros((2, 3, 9, 11))).shape == (2, 8, 7, 9)

    says("convspec_equinox", "The constructor does not check this; only the call raises the error")
    assert eqx.nn.Conv2d(4, 6, 3, groups=4, key=key).weight.shape == (6, 1, 3, 3)

    says("bias", "Equinox draws them, too, and stores them as `(out_channels, 1, 1)`")
    bias = eqx.nn.Conv2d(3, 8, 3, key=key).bias
    assert bias.shape == (8, 1, 1)
    assert abs(bias).min() > 0

    says("transposed", "| Equinox | crop | (O, I/g, H, W) | yes |")
    assert eqx.nn.ConvTranspose2d(4, 6, (3, 5), groups=2, key=key).weight.shape == (6, 2, 3, 5)
    up = eqx.nn.ConvTranspose1d(1, 1, 3, stride=2, padding=1, output_padding=1, use_bias=False, key=key)
    up = eqx.tree_at(lambda at: at.weight, up, jnp.array([[[100.0, 10.0, 1.0]]]))
    assert up(jnp.array([[1.0, 2.0, 3.0]])).ravel().tolist() == [10, 102, 20, 203, 30, 300]

    says("layout", "Equinox' layers take one image, (C, H, W), and no batch")
    with pytest.raises(ValueError, match="rank 3"):
        eqx.nn.Conv2d(3, 8, 3, key=key)(jnp.zeros((1, 3, 9, 11)))

    says("device", "JAX computes where its arguments are")
    assert eqx.nn.Conv2d(3, 8, 3, key=key)(jnp.zeros((3, 9, 11))).devices() == {jax.devices()[0]}


@pytest.mark.openvino
def test_openvino():
    import openvino as ov
    from openvino import opset13 as ops

    x = ops.parameter([1, 3, 9, 11], np.float32)

    def conv(filters, operation=ops.convolution, data=x, strides=(1, 1), **more):
        arguments = {"pads_begin": [0, 0], "pads_end": [0, 0], "dilations": [1, 1], **more}
        return operation(data, np.zeros(filters, np.float32), strides=list(strides), **arguments)

    says("convspec_openvino", "Where the width happens to be 8, there is no message")
    assert [*ops.add(ops.parameter([1, 8, 7, 8], np.float32), np.zeros(8, np.float32)).shape] == [1, 8, 7, 8]

    says("convspec_openvino", "The words are `same_upper`, `same_lower`, `valid` and `explicit`")
    for word, size in (("same_upper", [9, 11]), ("same_lower", [9, 11]), ("valid", [7, 9]), ("explicit", [7, 9])):
        assert [*conv((8, 3, 3, 3), auto_pad=word).shape] == [1, 8, *size]

    says("convspec_openvino", "reshape them to (2, 4, 2, 3, 3) and take `group_convolution`")
    four = ops.parameter([1, 4, 9, 11], np.float32)
    assert [*conv((2, 4, 2, 3, 3), ops.group_convolution, four).shape] == [1, 8, 7, 9]

    says("convspec_openvino", "OpenVINO does not require them to be smaller than the strides")
    up = conv((3, 6, 3, 3), ops.convolution_backprop_data, strides=(2, 2), output_padding=[2, 2])
    assert [*up.shape] == [1, 6, 21, 25]

    says("transposed", "| OpenVINO | crop | (I, O, H, W), in groups (g, I/g, O/g, H, W) | no |")
    groups = conv((2, 2, 3, 3, 5), ops.group_convolution_backprop_data, four, strides=(2, 2))
    assert [*groups.shape] == [1, 6, 19, 25]
    row, kernel = ops.parameter([1, 1, 3], np.float32), np.array([[[1, 10, 100]]], np.float32)
    once = ops.convolution_backprop_data(row, kernel, [2], pads_begin=[1], pads_end=[1], dilations=[1],
                                         output_padding=[1])  # fmt: skip
    compiled = ov.compile_model(ov.Model([once], [row]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert compiled(np.array([[[1, 2, 3]]], np.float32))[0].ravel().tolist() == [10, 102, 20, 203, 30, 300]

    says("convspec_openvino", "The modes are `constant`, `edge`, `reflect` and `symmetric`")
    for mode in ("constant", "edge", "reflect", "symmetric"):
        assert [*ops.pad(x, [0, 0, 1, 1], [0, 0, 1, 1], mode).shape] == [1, 3, 11, 13]

    says("convspec_openvino", "`ov.Core().available_devices` lists the available ones")
    assert "CPU" in ov.Core().available_devices
