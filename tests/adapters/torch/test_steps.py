"""Every kind of step on PyTorch, against the float64 reference within its bounds."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convspec.errors import ShapeError
from convspec.spec import steps as S
from tests.adapters.steps import assert_step, draw, normal

pytestmark = pytest.mark.torch

X = (2, 6, 9, 8)
SQUARE_SHUFFLE = (2, 12, 3, 5)
# name: (layer or function, step); the input is X unless a third element gives its shape
POOLS = {
    "max": (nn.MaxPool2d(3), S.MaxPool(3)),
    "max-settings": (nn.MaxPool2d((3, 2), (2, 3), (1, 0), (1, 2)), S.MaxPool((3, 2), (2, 3), (1, 0), (1, 2))),
    "max-ceil": (nn.MaxPool2d(3, 2, 1, ceil_mode=True), S.MaxPool(3, 2, 1, ceil_mode=True)),
    "max-ceil-1d": (nn.MaxPool1d(2, 3, ceil_mode=True), S.MaxPool((2,), 3, ceil_mode=True), (1, 3, 10)),
    "max-3d": (nn.MaxPool3d((1, 2, 3)), S.MaxPool((1, 2, 3)), (1, 2, 3, 5, 7)),
    "average": (nn.AvgPool2d(3, 2, 1), S.AveragePool(3, 2, 1, count_include_pad=True)),
    "average-defaults": (nn.AvgPool2d((3, 2)), S.AveragePool((3, 2))),
    "average-inside": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), S.AveragePool(3, 2, 1)),
    "average-ceil": (
        nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        S.AveragePool(3, 2, 1, ceil_mode=True, count_include_pad=True),
    ),
    "average-ceil-inside": (
        nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
        S.AveragePool(3, 2, 1, ceil_mode=True),
    ),
    "average-divisor": (nn.AvgPool2d(3, 2, 1, divisor_override=4), S.AveragePool(3, 2, 1, divisor=4)),
    "average-3d": (nn.AvgPool3d((1, 2, 3), 2), S.AveragePool((1, 2, 3), 2), (1, 2, 3, 5, 7)),
    "lp": (nn.LPPool2d(2, 3, 2), S.LpPool(3, 2, signed=True, full_window=True)),
    "lp-odd": (nn.LPPool2d(3, (2, 3)), S.LpPool((2, 3), p=3, signed=True, full_window=True)),
    "lp-ceil": (
        nn.LPPool2d(2, 3, 2, ceil_mode=True),
        S.LpPool(3, 2, ceil_mode=True, full_window=True),
        (2, 3, 8, 10),
    ),
    "adaptive": (nn.AdaptiveAvgPool2d((4, 3)), S.AdaptivePool((4, 3))),
    "adaptive-larger": (nn.AdaptiveAvgPool2d((11, None)), S.AdaptivePool((11, None))),
    "adaptive-max": (nn.AdaptiveMaxPool2d((4, 3)), S.AdaptivePool((4, 3), "max")),
    "global": (nn.AdaptiveAvgPool2d(1), S.GlobalPool()),
    "global-max": (nn.AdaptiveMaxPool1d(1), S.GlobalPool("max"), (2, 3, 7)),
}  # fmt: skip


def resized(**settings):
    return lambda x: F.interpolate(x, **settings)


FLOOR = {"coordinates": "asymmetric", "rounding": "floor"}
RESIZING = {
    "nearest": (resized(scale_factor=2), S.Resize(scale=2, **FLOOR)),
    "nearest-size": (resized(size=(5, 17)), S.Resize((5, 17), **FLOOR)),
    "nearest-scale": (resized(scale_factor=(1.7, 1.3)), S.Resize(scale=(1.7, 1.3), **FLOOR)),
    "nearest-exact": (resized(size=(5, 17), mode="nearest-exact"), S.Resize((5, 17))),
    "bilinear": (resized(size=(5, 17), mode="bilinear"), S.Resize((5, 17), mode="linear")),
    "bilinear-large": (resized(size=(50, 33), mode="bilinear"), S.Resize((50, 33), mode="linear"), (1, 2, 112, 70)),
    "bilinear-scale": (resized(scale_factor=(1.7, 2.3), mode="bilinear"), S.Resize(scale=(1.7, 2.3), mode="linear")),
    "bilinear-recomputed": (
        resized(scale_factor=(1.7, 2.3), mode="bilinear", recompute_scale_factor=True),
        S.Resize(scale=(1.7, 2.3), mode="linear", recompute_scale=True),
    ),
    "corners": (
        resized(size=(5, 17), mode="bilinear", align_corners=True),
        S.Resize((5, 17), mode="linear", coordinates="align_corners"),
    ),
    "corners-one": (
        resized(size=(1, 4), mode="bilinear", align_corners=True),
        S.Resize((1, 4), mode="linear", coordinates="align_corners"),
    ),
    "upsampling": (
        nn.UpsamplingBilinear2d(scale_factor=2),
        S.Resize(scale=2, mode="linear", coordinates="align_corners"),
    ),
    "antialias": (
        resized(size=(4, 5), mode="bilinear", antialias=True),
        S.Resize((4, 5), mode="linear", antialias=True, exclude_outside=True),
    ),
    "bicubic": (resized(size=(5, 17), mode="bicubic"), S.Resize((5, 17), mode="cubic")),
    "bicubic-corners": (
        resized(size=(5, 17), mode="bicubic", align_corners=True),
        S.Resize((5, 17), mode="cubic", coordinates="align_corners"),
    ),
    "bicubic-antialias": (
        resized(size=(4, 5), mode="bicubic", antialias=True),
        S.Resize((4, 5), mode="cubic", cubic_coefficient=-0.5, antialias=True, exclude_outside=True),
    ),
    "linear": (resized(size=11, mode="linear"), S.Resize((11,), mode="linear"), (2, 3, 7)),
    "trilinear": (resized(size=(2, 5, 4), mode="trilinear"), S.Resize((2, 5, 4), mode="linear"), (1, 2, 3, 4, 5)),
    "area": (resized(size=(4, 3), mode="area"), S.AdaptivePool((4, 3))),
}  # fmt: skip

MOVES = {
    "identity": (nn.Identity(), S.Identity()),
    "dropout": (nn.Dropout(0.3).eval(), S.Dropout(0.3)),
    "dropout2d": (nn.Dropout2d().eval(), S.Dropout(unit="channel")),
    "zero-pad": (nn.ZeroPad2d((1, 2, 3, 0)), S.Pad(((3, 0), (1, 2)))),
    "constant-pad": (nn.ConstantPad2d((1, 2, 3, 0), 0.3), S.Pad(((3, 0), (1, 2)), value=0.3)),
    "crop": (lambda x: F.pad(x, (-1, -2, 1, -3)), S.Pad(((1, -3), (-1, -2)))),
    "channel-pad": (lambda x: F.pad(x, (0, 0, 0, 0, 2, 1)), S.Pad(((2, 1), (0, 0), (0, 0)))),
    "reflect": (nn.ReflectionPad2d((3, 2, 1, 4)), S.Pad(((1, 4), (3, 2)), "reflect")),
    "replicate": (nn.ReplicationPad2d((3, 2, 1, 4)), S.Pad(((1, 4), (3, 2)), "replicate")),
    "circular": (nn.CircularPad2d((3, 2, 1, 4)), S.Pad(((1, 4), (3, 2)), "circular")),
    "slice": (lambda x: x[:, 1:5:2, ::3, :-1], S.Slice(((None, None, 1), (1, 5, 2), (0, None, 3), (None, -1, 1)))),
    "flip": (lambda x: x.flip(3), S.Slice([(None, None, 1)] * 3 + [(None, None, -1)])),
    "select": (lambda x: x[:, -2], S.Select(1, -2)),
    "pixel-shuffle": (nn.PixelShuffle(2), S.PixelShuffle(2), SQUARE_SHUFFLE),
    "pixel-unshuffle": (nn.PixelUnshuffle(2), S.PixelUnshuffle(2), (2, 3, 4, 6)),
    "channel-shuffle": (nn.ChannelShuffle(3), S.ChannelShuffle(3)),
    "reshape": (lambda x: x.reshape(2, -1, 4), S.Reshape((0, -1, 4))),
    "flatten": (nn.Flatten(), S.Flatten()),
    "flatten-all": (torch.flatten, S.Flatten(start=0)),
    "flatten-middle": (nn.Flatten(1, 2), S.Flatten(1, 2)),
    "permute": (lambda x: x.permute(0, 3, 1, 2), S.Permute((0, 3, 1, 2))),
    "transpose": (lambda x: x.transpose(1, 2), S.Permute((0, 2, 1, 3))),
    "squeeze": (torch.squeeze, S.Squeeze(), (1, 3, 1, 5)),
    "squeeze-axis": (lambda x: x.squeeze(-1), S.Squeeze(-1), (1, 3, 5, 1)),
    "unsqueeze": (lambda x: x.unsqueeze(1), S.Unsqueeze(1)),
    "expand": (lambda x: x.expand(4, -1, 5), S.Expand((4, -1, 5)), (1, 3, 5)),
    "split": (lambda x: x.split([1, 2, 3], 1), S.Split((1, 2, 3))),
    "chunk": (lambda x: x.chunk(2, 3), S.Split((4, 4), 3)),
}  # fmt: skip

ACTIVATIONS = {
    "relu": (nn.ReLU(), S.ReLU()),
    "relu6": (nn.ReLU6(), S.Clip(0, 6)),
    "leaky": (nn.LeakyReLU(), S.LeakyReLU()),
    "leaky-0.2": (nn.LeakyReLU(0.2), S.LeakyReLU(0.2)),
    "rrelu": (nn.RReLU().eval(), S.LeakyReLU(11 / 48)),
    "elu": (nn.ELU(0.7), S.ELU(0.7)),
    "celu": (nn.CELU(0.7), S.CELU(0.7)),
    "selu": (nn.SELU(), S.SELU()),
    "gelu": (nn.GELU(), S.GELU()),
    "gelu-tanh": (nn.GELU("tanh"), S.GELU("tanh")),
    "gelu-quick": (lambda x: x * torch.sigmoid(1.702 * x), S.GELU("quick")),
    "silu": (nn.SiLU(), S.SiLU()),
    "mish": (nn.Mish(), S.Mish()),
    "sigmoid": (nn.Sigmoid(), S.Sigmoid()),
    "log-sigmoid": (nn.LogSigmoid(), S.Sigmoid(log=True)),
    "hard-sigmoid": (nn.Hardsigmoid(), S.HardSigmoid()),
    "hard-swish": (nn.Hardswish(), S.HardSwish()),
    "tanh": (nn.Tanh(), S.Tanh()),
    "tanh-shrink": (nn.Tanhshrink(), S.TanhShrink()),
    "softplus": (nn.Softplus(), S.Softplus(threshold=20)),
    "softplus-beta": (nn.Softplus(2, 3), S.Softplus(2, 3)),
    "softsign": (nn.Softsign(), S.Softsign()),
    "hard-tanh": (nn.Hardtanh(-0.3, 0.7), S.Clip(-0.3, 0.7)),
    "hard-shrink": (nn.Hardshrink(0.3), S.HardShrink(0.3)),
    "soft-shrink": (nn.Softshrink(0.3), S.SoftShrink(0.3)),
    "threshold": (nn.Threshold(0.3, 0), S.ThresholdedReLU(0.3)),
    "clamp": (lambda x: x.clamp(min=0.1), S.Clip(0.1)),
    "softmax": (nn.Softmax(3), S.Softmax(3)),
    "softmax-default": (F.softmax, S.Softmax(1)),
    "log-softmax": (nn.LogSoftmax(1), S.Softmax(1, log=True)),
    "glu": (nn.GLU(), S.GLU(-1)),
    "glu-channels": (nn.GLU(1), S.GLU()),
    "exp": (torch.exp, S.Pointwise("exp")),
    "erf": (torch.erf, S.Pointwise("erf")),
    "abs": (torch.abs, S.Pointwise("abs")),
    "sin": (torch.sin, S.Pointwise("sin")),
    "square": (torch.square, S.Pointwise("square")),
    "reciprocal": (torch.reciprocal, S.Pointwise("reciprocal")),
    "sqrt": (lambda x: x.abs().sqrt(), S.Pointwise("sqrt")),
    "rsqrt": (lambda x: x.abs().rsqrt(), S.Pointwise("rsqrt")),
    "log": (lambda x: x.abs().log(), S.Pointwise("log")),
    "cube": (lambda x: x**3, S.Power(3)),
    "power": (lambda x: x.abs() ** 1.7, S.Power(1.7)),
}  # fmt: skip

ARITHMETIC = {
    "scale": (lambda x: x * 0.3, S.Multiply(0.3)),
    "shift": (lambda x: x + 0.3, S.Add(0.3)),
    "less": (lambda x: x - 0.3, S.Subtract(0.3)),
    "one-minus": (lambda x: 1 - x, S.Subtract(1, reflected=True)),
    "over": (lambda x: x / 255, S.Divide(255)),
    "under": (lambda x: 0.3 / x, S.Divide(0.3, reflected=True)),
    "mean": (lambda x: x.mean((2, 3)), S.Reduce("mean", (2, 3))),
    "mean-all": (torch.mean, S.Reduce()),
    "sum": (lambda x: x.sum(1, keepdim=True), S.Reduce("sum", 1, keepdims=True)),
    "amax": (lambda x: x.amax((1, 3)), S.Reduce("max", (1, 3))),
    "amin": (lambda x: x.amin(-1), S.Reduce("min", -1)),
    "normalize": (F.normalize, S.LpNorm(1)),
    "normalize-1": (lambda x: F.normalize(x, p=1, dim=(2, 3)), S.LpNorm((2, 3), 1)),
    "lrn": (nn.LocalResponseNorm(4), S.LocalResponseNorm(4)),
    "lrn-settings": (nn.LocalResponseNorm(3, 0.5, 0.6, 2.0), S.LocalResponseNorm(3, 0.5, 0.6, 2.0)),
    "instance-plain": (nn.InstanceNorm2d(6), S.InstanceNorm(6, scale=False, bias=False)),
}  # fmt: skip
POSITIVE = {"sqrt", "rsqrt", "log", "power"}
TABLE = POOLS | RESIZING | MOVES | ACTIVATIONS | ARITHMETIC


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
@pytest.mark.parametrize("name", TABLE)
def test_a_step_without_arrays(name):
    function, step, *shape = TABLE[name]
    x = normal(shape[0] if shape else X, scale=3.0)
    given = np.abs(x) if name in POSITIVE else x
    y = function(torch.from_numpy(x))
    outputs = [part.numpy() for part in y] if isinstance(y, tuple) else y.numpy()
    assert_step(step, [given], outputs)


SINGLE_ONLY = {"average-3d", "antialias", "bicubic-antialias", "lrn", "lrn-settings"}  # PyTorch has no float16 of them
SIGNED = {"lp-odd"}  # NaN in places


@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize("name", sorted(TABLE.keys() - SIGNED - POSITIVE - {"softmax-default"}))
def test_other_dtypes(name, dtype):
    function, step, *shape = TABLE[name]
    x = torch.from_numpy(normal(shape[0] if shape else X)).to(getattr(torch, dtype))
    if dtype == "float16" and name in SINGLE_ONLY:
        with pytest.raises(RuntimeError, match="not implemented"):
            function(x)
        return
    y = function(x)
    assert_step(step, [x.numpy()], [part.numpy() for part in (y if isinstance(y, tuple) else [y])], dtype=dtype)


LAYERS = {
    "linear": (nn.Linear(8, 5), S.Linear(8, 5)),
    "linear-plain": (nn.Linear(8, 5, bias=False), S.Linear(8, 5, bias=False)),
    "batch": (nn.BatchNorm2d(6).eval(), S.BatchNorm(6)),
    "batch-plain": (
        nn.BatchNorm2d(6, affine=False, eps=0.01).eval(),
        S.BatchNorm(6, scale=False, bias=False, epsilon=0.01),
    ),
    "batch-training": (nn.BatchNorm2d(6), S.BatchNorm(6, batch_statistics=True)),
    "layer": (nn.LayerNorm(8), S.LayerNorm(8)),
    "layer-2": (nn.LayerNorm((9, 8), eps=0.1, bias=False), S.LayerNorm((9, 8), (2, 3), epsilon=0.1, bias=False)),
    "rms": (nn.RMSNorm(8), S.RMSNorm(8, epsilon=float(np.finfo(np.float32).eps))),
    "group": (nn.GroupNorm(3, 6), S.GroupNorm(6, 3)),
    "instance": (nn.InstanceNorm2d(6, affine=True), S.InstanceNorm(6)),
    "prelu": (nn.PReLU(), S.PReLU()),
    "prelu-channels": (nn.PReLU(6), S.PReLU(6)),
}  # fmt: skip
NAMES = {"scale": "weight", "slope": "weight", "mean": "running_mean", "variance": "running_var"}


@pytest.mark.parametrize("shift", [0.0, 100.0])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_with_arrays(name, shift):
    layer, step = LAYERS[name]
    arrays = draw(step)
    state = layer.state_dict()
    for own, array in arrays.items():
        state[NAMES.get(own, own)] = torch.from_numpy(array)
    layer.load_state_dict(state)
    x = normal(X) + np.float32(shift)
    assert step.num_parameters == sum(p.numel() for p in layer.parameters())
    with torch.no_grad():
        assert_step(step, [x], layer(torch.from_numpy(x)).numpy(), arrays)


def test_an_embedding():
    step = S.Embedding(7, 5)
    arrays, x = draw(step), np.array([[0, 6, 3], [2, 2, 1]])
    y = F.embedding(torch.from_numpy(x), torch.from_numpy(arrays["weight"]))
    assert_step(step, [x], y.numpy(), arrays)


PAIRS = {
    "add": (torch.add, S.Add(), (2, 3, 1, 5), (3, 4, 5)),
    "subtract": (torch.sub, S.Subtract(), X, X),
    "multiply": (torch.mul, S.Multiply(), X, (6, 1, 1)),
    "divide": (torch.div, S.Divide(), X, X),
    "maximum": (torch.maximum, S.Maximum(), X, X),
    "minimum": (torch.minimum, S.Minimum(), X, (6, 1, 1)),
    "matmul": (torch.matmul, S.MatMul(), (2, 1, 5, 300), (3, 300, 4)),
    "concat": (lambda a, b: torch.cat((a, b), 1), S.Concat(1), (2, 3, 4, 5), (2, 1, 4, 5)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_step_of_two_inputs(name):
    function, step, *shapes = PAIRS[name]
    inputs = [normal(shape, i) for i, shape in enumerate(shapes)]
    assert_step(step, inputs, function(*map(torch.from_numpy, inputs)).numpy())


def test_every_size_of_a_pool_with_ceil_mode():
    """The last window starts inside the input or the pad before it: PyTorch drops it otherwise."""
    counted = 0
    for length, k, s in product(range(1, 10), range(1, 6), range(1, 5)):
        for p in range(k // 2 + 1):
            step = S.MaxPool((k,), s, p, ceil_mode=True)
            x = normal((1, 2, length))
            try:
                expected = F.max_pool1d(torch.from_numpy(x), k, s, p, ceil_mode=True).numpy()
            except RuntimeError:
                continue
            counted += 1
            assert_step(step, [x], expected)
    assert counted > 300


def test_what_pytorch_refuses():
    with pytest.raises(ShapeError, match="at most 2 for 3 pixels"):
        S.Pad(((3, 0),), "reflect").output_shape((1, 1, 3))
    with pytest.raises(RuntimeError):
        F.pad(torch.zeros(1, 1, 3), (3, 0), "reflect")
    with pytest.raises(ShapeError, match="window spans 4 pixels"):
        S.MaxPool((4,)).output_shape((1, 1, 3))
    with pytest.raises(RuntimeError):
        F.max_pool1d(torch.zeros(1, 1, 3), 4)
