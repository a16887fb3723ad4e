"""Whole models of PyTorch and Keras: the verdict is that of their results, and the layers explain it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("keras")
pytest.importorskip("torch")


import keras
import torch
from keras import layers as L  # Keras's usual name
from torch import nn

import convspec
import tests.adapters.keras.backend  # noqa: F401 – threads are set before the first work
from convspec.errors import RequestError

pytestmark = [pytest.mark.keras, pytest.mark.torch]

X = np.random.default_rng(0).standard_normal((1, 3, 12, 10)).astype("f4")


def torch_net(*modules):
    torch.manual_seed(0)
    net = nn.Sequential(*modules).eval()
    for norm in (m for m in net.modules() if getattr(m, "running_var", None) is not None):
        norm.running_var.uniform_(0.5, 2)
    return net


def keras_net(*layers, shape=(12, 10, 3)):
    return keras.Sequential([keras.Input(shape), *layers])


def ported(source, target, x=X, **options):
    """Return the comparison after the port of the weights."""
    report = convspec.port_weights(source, target, x, force=True)
    found = convspec.compare(source, target, x, seconds=0, **options)
    assert report.comparison.verdict == found.verdict
    return found


def agree(source, target, x=X):
    found = ported(source, target, x)
    assert found.verdict == "agree", str(found)
    assert found.evidence in ("equal", "measured", "proved")
    return found


def differ(source, target, words, x=X, **options):
    found = ported(source, target, x, **options)
    assert found.verdict == "differ", str(found)
    assert words in found.divergence
    return found


def conv(filters=8):
    return nn.Conv2d(3, filters, 3)


NORMS = {
    "group": (lambda: nn.GroupNorm(4, 8), lambda: L.GroupNormalization(4, epsilon=1e-5)),
    "one group": (lambda: nn.GroupNorm(1, 8), lambda: L.GroupNormalization(1, epsilon=1e-5)),
    "instance": (lambda: nn.InstanceNorm2d(8),
                 lambda: L.GroupNormalization(-1, epsilon=1e-5, scale=False, center=False)),
    "affine instance": (lambda: nn.InstanceNorm2d(8, affine=True), lambda: L.GroupNormalization(8, epsilon=1e-5)),
    "batch": (lambda: nn.BatchNorm2d(8), lambda: L.BatchNormalization(epsilon=1e-5)),
    "all axes": (lambda: nn.LayerNorm((8, 10, 8), elementwise_affine=False),
                 lambda: L.LayerNormalization(axis=(1, 2, 3), epsilon=1e-5, scale=False, center=False)),
    "all axes as one group": (lambda: nn.LayerNorm((8, 10, 8), elementwise_affine=False),
                              lambda: L.GroupNormalization(1, epsilon=1e-5, scale=False, center=False)),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMS)
def test_norms_are_judged_by_their_own_bound(name):
    ours, theirs = (make() for make in NORMS[name])
    found = agree(torch_net(conv(), ours), keras_net(L.Conv2D(8, 3), theirs))
    assert [row.verdict for row in found.rows] == ["agree", "agree"]
    assert found.rows[1].spec == []
    assert found.evidence in ("proved", "equal")  # nothing stands between the layers


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_norms_over_the_channels_of_a_permuted_tensor(kind):
    class Permuted(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = conv(), nn.LayerNorm(8) if kind == "layer" else nn.RMSNorm(8, eps=1e-5)

        def forward(self, x):
            return self.norm(self.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    norm = L.LayerNormalization(epsilon=1e-5) if kind == "layer" else L.RMSNormalization(epsilon=1e-5)
    found = agree(Permuted().eval(), keras_net(L.Conv2D(8, 3), norm))
    assert [row.verdict for row in found.rows] == ["agree", "agree"]


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (lambda: nn.GroupNorm(4, 8), lambda: L.GroupNormalization(2, epsilon=1e-5), "norm 0 (1): groups 4 against 2"),
        (lambda: nn.GroupNorm(4, 8), lambda: L.GroupNormalization(4), "epsilon 1e-05 against 0.001"),
        (lambda: nn.GroupNorm(1, 8), lambda: L.LayerNormalization(epsilon=1e-5),
         "group norm with 1 group against layer norm over 1 axis"),
        (lambda: nn.BatchNorm2d(8), L.BatchNormalization, "epsilon 1e-05 against 0.001"),
        (lambda: nn.BatchNorm2d(8), lambda: L.BatchNormalization(axis=2, epsilon=1e-5),
         "axis 1 of NCHW against -2 of NHWC"),
        (lambda: nn.BatchNorm2d(8), lambda: L.BatchNormalization(axis=1, epsilon=1e-5),
         "axis 1 of NCHW against 1 of NHWC"),
        (lambda: nn.InstanceNorm2d(8), lambda: L.GroupNormalization(2, epsilon=1e-5, scale=False, center=False),
         "groups 8 against 2"),
    ],
)  # fmt: skip
def test_settings_of_norms_that_differ_are_named(ours, theirs, words):
    square = X[:, :, :10, :]  # 8 channels and 8 × 8 outputs: a wrong axis raises no error
    differ(torch_net(conv(), ours()), keras_net(L.Conv2D(8, 3), theirs(), shape=(10, 10, 3)), words, square)


def test_an_epsilon_is_seen_beside_a_large_variance():
    source = torch_net(conv(), nn.BatchNorm2d(8))
    source[1].running_var.fill_(100.0)
    differ(source, keras_net(L.Conv2D(8, 3), L.BatchNormalization()), "epsilon 1e-05 against 0.001")


def test_a_gain_that_differs_is_named():
    source, target = (
        torch_net(conv(), nn.GroupNorm(4, 8)),
        keras_net(L.Conv2D(8, 3), L.GroupNormalization(4, epsilon=1e-5)),
    )
    agree(source, target)
    target.layers[1].gamma.assign(np.linspace(0.5, 2, 8))
    assert convspec.compare(source, target, X).divergence == "norm 0 (1): gain differs"


def test_a_batch_norm_of_one_model_only_is_no_folded_one():
    target = keras_net(L.Conv2D(6, 3), norm := L.BatchNormalization())
    norm.moving_variance.assign(np.arange(6) + 0.5)
    differ(torch_net(conv(6)), target, "model b has a batch norm that model a has not")


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ((), (L.GlobalAveragePooling2D,), "the results have shapes (1, 6, 10, 8) and (1, 6)"),
        ((nn.Flatten,), (L.Flatten,), "the same numbers in another order"),
        ((), (lambda: L.Permute((3, 1, 2)),), ""),
        ((), (lambda: L.Reshape((80, 6)),), "have shapes"),
        ((nn.GELU,), (lambda: L.Activation(lambda x: keras.ops.gelu(x, approximate=True)),), "differ by up to"),
        ((nn.ReLU6,), (L.ReLU,), "on the given inputs times 8"),
        ((), (lambda: L.ZeroPadding2D(1),), "have shapes"),
        ((), (lambda: L.Cropping2D(1),), "have shapes"),
    ],
)  # fmt: skip
def test_what_follows_the_last_layer_counts(ours, theirs, words):
    source, target = torch_net(conv(6), *(m() for m in ours)), keras_net(L.Conv2D(6, 3), *(m() for m in theirs))
    if words:
        differ(source, target, words)
    else:  # the results are in the layout of the first model
        agree(source, target)


def test_right_activations_agree():
    act = L.Activation(lambda x: keras.ops.gelu(x, approximate=False))
    found = agree(torch_net(conv(6), nn.GELU()), keras_net(L.Conv2D(6, 3), act))
    assert (found.evidence, found.unjudged) == ("proved", [])
    assert len(found.outcomes) == 3


class Sliced(nn.Module):
    def __init__(self, layer, *window):
        super().__init__()
        self.layer, self.window = layer, window

    def forward(self, x):
        return self.layer(x)[(slice(None), slice(None), *self.window)]


def test_a_crop_after_a_convolution_is_its_own():
    transposed = Sliced(nn.ConvTranspose2d(3, 6, 5, 2), slice(1, -2), slice(1, -2)).eval()
    found = agree(transposed, keras_net(L.Conv2DTranspose(6, 5, strides=2, padding="same")))
    assert found.rows[0].verdict == "agree"
    assert "margins of ((1, 2), (1, 2)) more" in found.rows[0].reason
    assert not found.warnings
    wrong = Sliced(nn.ConvTranspose2d(3, 6, 5, 2), slice(2, -1), slice(1, -2)).eval()
    differ(wrong, keras_net(L.Conv2DTranspose(6, 5, strides=2, padding="same")), "margins of ((1, 2), (1, 2))")


def test_the_causal_idiom_of_pytorch():
    x = np.random.default_rng(0).standard_normal((1, 3, 20)).astype("f4")
    source = Sliced(nn.Conv1d(3, 6, 3, padding=4, dilation=2), slice(None, -4)).eval()
    target = keras_net(L.Conv1D(6, 3, dilation_rate=2, padding="causal"), shape=(20, 3))
    assert not agree(source, target, x).warnings


def test_a_crop_between_a_convolution_and_its_norm():
    source = torch_net(nn.ConvTranspose2d(3, 6, 4, 2, 1, bias=False), nn.BatchNorm2d(6))
    cropped = [L.Conv2DTranspose(6, 4, strides=2, use_bias=False), L.Cropping2D(1), L.BatchNormalization(epsilon=1e-5)]
    agree(source, keras_net(*cropped))


def test_a_layer_that_cannot_be_read_is_run_all_the_same():
    class Doubled(L.Conv2D):
        def call(self, x):
            return super().call(x) * 2.0

    source, target = torch_net(conv(6)), keras_net(Doubled(6, 3))
    found = convspec.compare(source, target, X)
    assert found.verdict == "differ"
    kernel, bias = (p.detach().numpy() for p in source[0].parameters())
    target.layers[0].set_weights([kernel.transpose(2, 3, 1, 0) / 2, bias / 2])
    assert convspec.compare(source, target, X).verdict == "agree"


def test_models_without_convolutions_are_compared():
    x = np.random.default_rng(0).standard_normal((3, 5)).astype("f4")
    source = torch_net(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 2))
    agree(source, keras_net(L.Dense(7, activation="relu"), L.Dense(2), shape=(5,)), x)


@pytest.mark.parametrize("pads", [((0, 1), (1, 0)), ((1, 0), (0, 1))])
def test_pads_that_were_read_name_the_mistake(pads):
    (top, bottom), others = pads
    source = torch_net(nn.ZeroPad2d((top, bottom, top, bottom)), nn.Conv2d(3, 6, 3, 2))
    target = keras_net(L.ZeroPadding2D((others, others)), L.Conv2D(6, 3, strides=2))
    found = differ(source, target, "odd-cell-on-the-wrong-side")
    assert found.rows[0].spec == [f"stride (2, 2): pads {pads[0]} against {pads[1]}"]


def test_a_causal_layer_ported_with_equal_pads():
    x = np.random.default_rng(0).standard_normal((1, 20, 3)).astype("f4")
    source = keras_net(L.Conv1D(6, 5, padding="causal"), shape=(20, 3))
    differ(source, torch_net(nn.Conv1d(3, 6, 5, padding=2)), "causal-as-symmetric", x)


def test_weights_that_were_not_ported_are_no_batch_norm():
    found = convspec.compare(torch_net(nn.Conv2d(1, 6, 1)), keras_net(L.Conv2D(6, 1), shape=(12, 10, 1)), X[:, :1])
    assert found.verdict == "differ"
    assert "batch-norm" not in found.divergence
    assert "6 of the kernel's 6 numbers differ" in found.divergence


def test_inputs_of_another_layout_are_refused_with_the_way_out():
    with pytest.raises(RequestError, match=r"model a .*shape \(1, 12, 10, 3\) as NCHW.*takes 3 channels.*layouts="):
        convspec.compare(torch_net(conv()), keras_net(L.Conv2D(8, 3)), X.transpose(0, 2, 3, 1))
    with pytest.raises(RequestError, match="weights alone cannot be run"):
        convspec.compare(torch_net(conv()).state_dict(), keras_net(L.Conv2D(8, 3)), X)


def test_more_sizes_show_what_one_hides():
    """At odd sizes equal pads and 'same' are the same layer."""
    odd, even = X[:, :, :11, :9], X[:, :, :10, :8]
    source = torch_net(nn.Conv2d(3, 6, 3, 2, 1))
    target = keras_net(L.Conv2D(6, 3, strides=2, padding="same"), shape=(None, None, 3))
    found = agree(source, target, odd)
    assert "even sizes, where strided 'same' padding and equal padding differ" in found.untried
    found = convspec.compare(source, target, odd, further=[even])
    assert found.verdict == "differ"
    assert found.divergence.startswith("on inputs of shape (1, 3, 10, 8): conv 0")


def test_slopes_are_moved_where_both_data_flows_show_them():
    source, target = torch_net(conv(6), nn.PReLU(6)), keras_net(L.Conv2D(6, 3), L.PReLU(shared_axes=[1, 2]))
    with torch.no_grad():
        source[1].weight.copy_(torch.linspace(0.1, 0.9, 6))
    report = convspec.port_weights(source, target, X)
    assert report.unmoved == []
    assert report.comparison.verdict == "agree"
    assert np.array_equal(np.ravel(target.layers[1].alpha), source[1].weight.detach().numpy())


def test_parameters_outside_of_the_known_layers_are_listed():
    report = convspec.port_weights(  # slopes for each channel and for each element
        torch_net(conv(6), nn.PReLU(6)), keras_net(L.Conv2D(6, 3), L.PReLU()), X
    )
    assert len(report.unmoved) == 2
    assert report.unmoved[0] == "1/weight (6,) of the source"
    assert "2 parameters of other layers are not moved" in report.summary
    assert not report.complete


def test_perturbed_weights_come_back_bit_for_bit():
    source, target = torch_net(conv(6), nn.GELU()), keras_net(L.Conv2D(6, 3), L.Activation("gelu"))
    convspec.port_weights(source, target, X)
    before = [p.detach().numpy().tobytes() for p in source.parameters()], [w.tobytes() for w in target.get_weights()]
    found = convspec.compare(source, target, X)
    assert found.runs
    after = [p.detach().numpy().tobytes() for p in source.parameters()], [w.tobytes() for w in target.get_weights()]
    assert after == before


class Padded(L.Conv2D):
    """Pads at the end by itself."""

    def call(self, x):
        return super().call(keras.ops.pad(x, [[0, 0], [0, 1], [0, 1], [0, 0]]))


class Doubled(L.Conv2D):
    """Computes something else."""

    def call(self, x):
        return super().call(x) * 2.0


def test_a_layer_with_a_call_of_its_own_gets_its_parameters_and_the_results_decide():
    source = torch_net(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 6, 3))
    assert ported(source, keras_net(Padded(6, 3))).agrees
    source, target = torch_net(nn.Conv2d(3, 6, 3)), keras_net(Doubled(6, 3))
    assert ported(source, target).verdict == "differ"
    assert np.array_equal(source[0].weight.detach().numpy(), np.asarray(target.layers[0].kernel).transpose(3, 2, 0, 1))


def test_a_convolution_of_one_pixel_is_the_counterpart_of_a_dense_layer():
    source = torch_net(conv(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 5, 1), nn.Flatten())
    target = keras_net(L.Conv2D(8, 3, activation="relu"), L.GlobalAveragePooling2D(), L.Dense(5))
    assert ported(source, target).evidence == "proved"
    with torch.no_grad():
        source[3].weight.mul_(2)
    assert convspec.port_weights(target, source, np.moveaxis(X, 1, -1)).comparison.agrees


# -- results that change from run to run -------------------------------------------------------------------------------


class Uncertain(L.Dropout):
    def call(self, x, training=None):
        return super().call(x, training=True)


def with_conv(*layers):
    keras.utils.set_random_seed(0)
    return keras_net(L.Conv2D(8, 3), *layers)


def test_a_model_b_that_draws_at_random_differs_and_its_dropout_is_named():
    a, b = with_conv(), with_conv(Uncertain(0.01, name="drop"))
    found = convspec.compare(a, b, np.moveaxis(X, 1, -1), seconds=0)
    assert found.verdict == "differ", str(found)
    assert "dropout-active" in found.divergence
    assert "the results of model b change from run to run: drop is a dropout, rate 0.01, active" in str(found)


def test_nothing_is_said_of_a_model_a_that_draws_at_random():
    a, b = with_conv(Uncertain(0.5, name="drop")), with_conv()
    found = convspec.compare(a, b, np.moveaxis(X, 1, -1), seconds=0)
    assert found.verdict == "unknown", str(found)
    assert found.unknown == "the results of model a change from run to run: drop is a dropout, rate 0.5, active"


def test_a_norm_of_another_axis_has_arrays_of_another_size():
    a = torch_net(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))
    x = keras.Input((12, 10, 3))
    b = keras.Model(x, L.BatchNormalization(axis=2)(L.Conv2D(6, 3)(x)))
    found = convspec.port_weights(a, b, X).comparison
    assert found.verdict == "differ"
    assert "axis 1 of NCHW against" in str(found)
