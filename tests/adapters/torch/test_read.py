"""PyTorch layers read: those that convspec built, and those of other hands."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from convspec_torch import ADAPTER
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from convspec import ConvSpec, reference, strategies
from convspec.errors import UnsupportedError
from convspec.spec import layouts
from tests.adapters import round_trip

pytestmark = pytest.mark.torch


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    strategies.cases(),
    st.sampled_from(layouts.LAYOUTS),
    st.sampled_from(ADAPTER.dtypes),
    st.sampled_from(ADAPTER.variants),
)
def test_what_was_built_is_read_back(case, layout, dtype, variant):
    round_trip.check(ADAPTER.with_variant(variant if case.spec.ndim > 1 else "default"), case, layout, dtype)


def filled(layer):
    """Weights that tell every place apart."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return layer


def computed(layer, reading, shape, dtype=torch.float64):
    """That the layer gives what the reading says."""
    x = np.random.default_rng(1).integers(-3, 4, shape).astype(np.float64)
    layer = layer.to(dtype).eval()
    with torch.no_grad():
        y = layer(torch.tensor(x)).numpy()
    params = ADAPTER.read(layer, shape).params
    order = layouts.order(reading.layout, reading.spec.ndim)
    axes = layouts.permutation(order, "NC*", reading.spec.ndim)
    expected = reference.conv(reading.spec, params, x.transpose(axes))
    assert np.abs(y.transpose(axes) - expected).max(initial=0) < 1e-9


# -- plain layers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "spec"),
    [
        (nn.Conv1d(3, 4, 5, padding="same", dilation=3), ConvSpec(3, 4, 5, padding=6, dilation=3, ndim=1)),
        (nn.Conv2d(3, 4, (3, 5), (2, 3), padding="valid"), ConvSpec(3, 4, (3, 5), (2, 3))),
        (
            nn.Conv2d(4, 6, (2, 3), padding=(1, 2), padding_mode="reflect", groups=2, bias=False),
            ConvSpec(4, 6, (2, 3), padding=(1, 2), padding_mode="reflect", groups=2, bias=False),
        ),
        (nn.Conv3d(2, 3, (1, 2, 3)), ConvSpec(2, 3, (1, 2, 3))),
        (
            nn.ConvTranspose2d(3, 4, (3, 5), (2, 3), (1, 0), (1, 2), bias=False, dilation=2),
            ConvSpec(3, 4, (3, 5), (2, 3), (1, 0), 2, bias=False, transposed=True, output_padding=(1, 2)),
        ),
    ],
    ids=lambda v: type(v).__name__,
)
def test_plain_layers(layer, spec):
    filled(layer)
    found = ADAPTER.read(layer)
    assert (found.spec, found.layout, found.dtype) == (spec, "NCHW", "float32")
    np.testing.assert_array_equal(found.params.kernel, layer.weight.detach().numpy())
    before = found.params.kernel.copy()
    with torch.no_grad():
        layer.weight.zero_()
    np.testing.assert_array_equal(found.params.kernel, before)  # a copy


def test_an_even_kernel_with_padding_same_has_its_extra_cell_after():
    assert ADAPTER.read(nn.Conv2d(3, 4, (4, 3), padding="same")).spec.padding == ((1, 2), (1, 1))


def test_lazy_layers():
    layer = nn.LazyConv2d(5, (3, 2), stride=(2, 1))
    with pytest.raises(UnsupportedError, match="LazyConv2d has no weights yet: call it once"):
        ADAPTER.read(layer)
    model = nn.Sequential(nn.ZeroPad2d(1), layer)
    with pytest.raises(UnsupportedError, match="call it once"):
        ADAPTER.read(model, (1, 3, 8, 9))
    assert "call it once" in ADAPTER.convs(model)[0].problem
    layer(torch.zeros(1, 3, 8, 9))
    assert ADAPTER.read(layer).spec == ConvSpec(3, 5, (3, 2), (2, 1))
    assert type(layer) is nn.Conv2d


def _old(norm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(nn.utils, norm)


@pytest.mark.parametrize("new", [True, False], ids=["parametrisation", "hook"])
@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
@pytest.mark.parametrize("make", [lambda: nn.Conv2d(3, 4, (2, 3)), lambda: nn.ConvTranspose1d(3, 4, 5, 2)])
def test_norms_of_weights(new, norm, make):
    apply = getattr(nn.utils.parametrizations, norm) if new else _old(norm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        layer = apply(filled(make()))
    with torch.no_grad():  # trained on since: what the layer would compute now is read, not what is stored
        next(p for n, p in layer.named_parameters() if "orig" in n or n == "weight_g").mul_(3)
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    found = ADAPTER.read(layer)
    assert layer.training
    assert all(torch.equal(value, state[name]) for name, value in layer.state_dict().items()), "reading changed it"
    layer.eval()
    x = torch.randn(1, 3, *(9,) * found.spec.ndim)
    with torch.no_grad():
        y = layer(x)
        plain = ADAPTER.build(found.spec, found.params)
        assert torch.equal(plain(x), y)


# -- layers with something around their convolution --------------------------------------------------------------------


class Around(nn.Module):
    """``before`` and ``after`` the layer."""

    def __init__(self, conv, before=lambda x: x, after=lambda y: y):
        super().__init__()
        self.inner, self.before, self.after = conv, before, after

    def forward(self, x):
        return self.after(self.inner(self.before(x)))


class TensorFlowSame(nn.Conv2d):
    """As in ports of TensorFlow's models."""

    def forward(self, x):
        pads = []
        for n, k, s, d in reversed(list(zip(x.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True))):
            total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class Standardised(nn.Conv2d):
    def forward(self, x):
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, w, self.bias, self.stride, self.padding, self.dilation, self.groups)


BIAS = torch.tensor([0.5, -1.0, 3.0, 0.25])[:, None, None]
OTHERS = {
    "Sequential": (
        nn.Sequential(nn.ZeroPad2d((0, 1, 2, 3)), nn.Conv2d(3, 4, (3, 5), (2, 3))),
        (1, 3, 9, 11),
        ConvSpec(3, 4, (3, 5), (2, 3), ((2, 3), (0, 1))),
    ),
    "two pads": (
        nn.Sequential(nn.ZeroPad2d((0, 1, 2, 3)), nn.Conv2d(3, 4, (3, 5), padding=(1, 2))),
        (1, 3, 9, 11),
        ConvSpec(3, 4, (3, 5), padding=((3, 4), (2, 3))),
    ),
    "ReflectionPad": (
        nn.Sequential(nn.ReflectionPad2d(2), nn.Conv2d(3, 4, 5, bias=False)),
        (1, 3, 8, 9),
        ConvSpec(3, 4, 5, padding=2, padding_mode="reflect", bias=False),
    ),
    "TensorFlow's same": (
        TensorFlowSame(3, 4, (3, 5), (2, 3)),
        (1, 3, 8, 9),
        ConvSpec(3, 4, (3, 5), (2, 3), "same").explicit((1, 3, 8, 9)),
    ),
    "chomp": (
        Around(nn.Conv1d(3, 4, 3, padding=4, dilation=2), after=lambda y: y[..., :-4]),
        (1, 3, 9),
        ConvSpec(3, 4, (3,), dilation=2, padding="causal"),
    ),
    "by hand": (
        Around(nn.Conv1d(3, 4, 3), lambda x: torch.cat([x[..., -2:], x, x[..., :1]], -1)),
        (2, 3, 7),
        ConvSpec(3, 4, (3,), padding=((2, 1),), padding_mode="circular"),
    ),
    "subsampled": (
        Around(nn.Conv2d(3, 4, 3, padding=1), after=lambda y: y[:, :, ::2, ::3]),
        (1, 3, 8, 9),
        ConvSpec(3, 4, 3, (2, 3), 1),
    ),
    "standardised": (Standardised(3, 4, (3, 2), padding=1), (1, 3, 8, 9), ConvSpec(3, 4, (3, 2), padding=1)),
    "bias apart": (
        Around(nn.Conv2d(3, 4, 3, bias=False), after=lambda y: y + BIAS.to(y)),
        (1, 3, 8, 9),
        ConvSpec(3, 4, 3),
    ),
    "zeros between": (
        Around(
            nn.ConvTranspose1d(2, 3, 4),
            lambda x: torch.stack([x, torch.zeros_like(x), torch.zeros_like(x)], -1).flatten(2),
        ),
        (1, 2, 5),
        ConvSpec(2, 3, (4,), 3, transposed=True, output_padding=2),
    ),
    "channels last, coincidence": (
        Around(nn.Conv2d(4, 4, 3), lambda x: x.permute(0, 3, 1, 2), lambda y: y.permute(0, 2, 3, 1)),
        (4, 4, 4, 4),
        ConvSpec(4, 4, 3),
    ),
    "channels last, one cell": (
        Around(nn.Conv2d(1, 1, 1, 2), lambda x: x.movedim(-1, 1), lambda y: y.movedim(1, -1)),
        (1, 1, 1, 1),
        ConvSpec(1, 1, 1, 2),
    ),
    "float16 and dropout": (
        nn.Sequential(nn.Dropout(), nn.ZeroPad2d((1, 0, 0, 0)), nn.Conv2d(3, 4, 2)).half(),
        (1, 3, 300, 4),
        ConvSpec(3, 4, 2, padding=((0, 0), (1, 0))),
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_layers_of_other_hands(name):
    layer, shape, spec = OTHERS[name]
    filled(layer)
    found = ADAPTER.read(layer, shape)
    assert found.spec == spec
    assert found.layout == ("NHWC" if "last" in name else "NCHW")
    computed(layer, found, shape)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), "results are changed by the layer"),
        (nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3)), "numbers are changed before|other than 0|given nothing"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), "results are changed"),
        (Around(nn.Conv2d(3, 4, 3), lambda x: x * 2), "numbers are changed before"),
        (Around(nn.Conv2d(3, 4, 3), lambda x: F.pad(x, (1, 1), value=1.0)), "numbers other than 0"),
        (Around(nn.Conv2d(3, 4, 3), lambda x: x.transpose(2, 3)), "moved between axes"),
        (Around(nn.Conv2d(3, 4, 3), lambda x: x.flip(1)), "channels"),
        (Around(nn.Conv2d(3, 4, 3), after=lambda y: y[:, [1, 0, 2, 3]]), "channels of the results"),
        (Around(nn.Conv2d(3, 4, 3), lambda x: x[:, :, 1:]), "along spatial axis 0"),
        (Around(nn.Conv2d(3, 4, 3), after=lambda y: F.pad(y, (1, 1))), "bias already"),
        (Around(nn.Conv2d(3, 3, 3, padding=1, bias=False), after=lambda y: y + y), "results are changed"),
        (
            nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False)),
            "2 convolutions that do not share out",
        ),
        (nn.Linear(3, 4), "no convolution was called"),
        (Around(nn.Conv2d(3, 4, 30)), "only"),
        (Around(nn.Conv2d(3, 4, 3), after=lambda y: (y, y)), "returns tuple"),
        (Around(nn.Conv2d(3, 4, 3), after=lambda y: y.flatten(1)), "axes"),
    ],
)
def test_what_is_more_than_one_layer_is_refused(layer, words):
    with pytest.raises(UnsupportedError, match=words):
        ADAPTER.read(layer, (1, 3, 8, 3) if isinstance(layer, nn.Linear) else (1, 3, 8, 9))


def test_the_size_is_asked_for():
    with pytest.raises(UnsupportedError, match="pass input_shape"):
        ADAPTER.read(OTHERS["Sequential"][0])
    with pytest.raises(UnsupportedError, match="elements on every axis"):
        ADAPTER.read(OTHERS["Sequential"][0], (1, 3, 0, 4))
    with pytest.raises(UnsupportedError, match="not a module of PyTorch"):
        ADAPTER.read(3)


# -- models ------------------------------------------------------------------------------------------------------------


def model():
    return nn.Sequential(
        nn.Conv2d(3, 4, (3, 5), (2, 3), padding=(1, 2)),
        nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, groups=2, bias=False)),
        nn.ConvTranspose2d(6, 2, (2, 3), 2),
        Standardised(2, 2, 1),
    )


SPECS = [
    ConvSpec(3, 4, (3, 5), (2, 3), (1, 2)),
    ConvSpec(4, 6, 3, groups=2, bias=False),
    ConvSpec(6, 2, (2, 3), 2, transposed=True),
]


def test_convs_of_a_model():
    found = ADAPTER.convs(model())
    assert [f.path for f in found] == ["0", "1.2", "2", "3"]
    assert [f.reading.spec for f in found[:3]] == SPECS
    assert found[3].reading is None
    assert "computes in its own way" in found[3].problem


def test_fused_modules():
    from torch.ao.nn.intrinsic import ConvBn2d, ConvReLU2d

    fused = ConvReLU2d(nn.Conv2d(2, 5, 1), nn.ReLU())
    (found,) = ADAPTER.convs(fused)
    assert (found.path, found.reading.spec) == ("0", ConvSpec(2, 5, 1))
    with pytest.raises(UnsupportedError, match="results are changed"):
        ADAPTER.read(fused, (1, 2, 4, 5))
    (found,) = ADAPTER.convs(ConvBn2d(nn.Conv2d(2, 5, 1), nn.BatchNorm2d(5)))
    assert found.path == "0"


def test_convs_of_an_exported_program_and_of_a_script():
    plain = model()[:3].eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(plain, (torch.zeros(1, 3, 16, 20),))
        lowered = program.run_decompositions()
        script, traced = torch.jit.script(plain), torch.jit.trace(plain, torch.zeros(1, 3, 16, 20))
    for other in (program, lowered, script, traced):
        found = ADAPTER.convs(other)
        assert [f.problem for f in found] == [""] * 3
        assert [f.reading.spec for f in found] == SPECS
        assert [f.path for f in found] == ["0", "1.2", "2"]
        for one, twin in zip(found, ADAPTER.convs(plain), strict=True):
            assert round_trip.same_bits(one.reading.params.kernel, twin.reading.params.kernel)
            assert round_trip.same_bits(one.reading.params.bias, twin.reading.params.bias)


def test_a_model_without_convolutions_lists_its_layers():
    with pytest.raises(UnsupportedError, match="Sequential has no convolutions; its layers: Linear, ReLU"):
        ADAPTER.convs(nn.Sequential(nn.Linear(3, 4), nn.ReLU()))


def test_pruned_and_compiled_layers():
    from torch.nn.utils import prune

    layer = filled(nn.Conv2d(3, 4, (2, 3)))
    prune.random_unstructured(layer, "weight", amount=0.5)
    with torch.no_grad():
        layer.weight_orig.mul_(2)  # trained on since
    found = ADAPTER.read(layer).params.kernel
    np.testing.assert_array_equal(found, (layer.weight_orig * layer.weight_mask).detach().numpy())
    plain = filled(nn.Conv2d(3, 4, (2, 3)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(plain)
    assert round_trip.same_bits(ADAPTER.read(compiled).params.kernel, ADAPTER.read(plain).params.kernel)


def test_what_has_no_numbers_says_so():
    with pytest.raises(UnsupportedError, match="device 'meta'"):
        ADAPTER.read(nn.Conv2d(3, 4, 3, device="meta"))
    with pytest.raises(UnsupportedError, match="weights are float8_e4m3fn"):
        ADAPTER.read(nn.Conv2d(3, 4, 3).to(torch.float8_e4m3fn))
    hooked = nn.Conv2d(3, 4, 3)
    hooked.register_forward_hook(lambda _, args, y: 2 * y)
    assert "has hooks" in ADAPTER.convs(hooked)[0].problem
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.ao.nn import quantized

        model = nn.Sequential(quantized.Conv2d(3, 4, 3))
    with pytest.raises(UnsupportedError, match=r"its layers: torch\.ao\.nn\.quantized\S+\.Conv2d"):
        ADAPTER.convs(model)


# -- pads before convolutions ------------------------------------------------------------------------------------------


class Pads(nn.Module):
    def __init__(self):
        super().__init__()
        steps = [nn.ReflectionPad2d((0, 1, 2, 3)), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ZeroPad2d(1)]
        steps += [nn.ConstantPad2d((0, 1, 0, 1), 0.0), nn.Conv2d(4, 4, 3, padding=1), nn.ConstantPad2d(1, 2.0)]
        steps += [nn.Conv2d(4, 4, 3), nn.ReplicationPad2d(2), nn.Conv2d(4, 4, 3), nn.ZeroPad2d(1)]
        steps += [nn.ConvTranspose2d(4, 4, 3), nn.CircularPad2d(1), nn.Conv2d(4, 4, 3)]
        self.steps, self.last = nn.Sequential(*steps), nn.Conv2d(4, 4, (3, 5), (2, 3))

    def forward(self, x):
        return self.last(F.pad(self.steps(x), (0, 1, 2, 0)))


FOLDED = {
    "steps.1": (((2, 3), (0, 1)), "reflect", ""),
    "steps.5": (((2, 3), (2, 3)), "zeros", ""),
    "steps.7": (((0, 0), (0, 0)), "zeros", "puts 2.0 around"),
    "steps.9": (((2, 2), (2, 2)), "replicate", ""),
    "steps.11": (((0, 0), (0, 0)), "zeros", "transposed"),
    "steps.13": (((1, 1), (1, 1)), "circular", ""),
    "last": (((2, 0), (0, 1)), "zeros", ""),
}


def told(found):
    return {f.path: (f.reading.spec.padding, f.reading.spec.padding_mode, f.note) for f in found}


def test_pads_before_convolutions_are_folded_on_request():
    model = filled(Pads()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(model, (torch.zeros(1, 3, 16, 17),))
        lowered, script = program.run_decompositions(), torch.jit.script(model)
    assert not any(f.pads or f.note for f in ADAPTER.convs(model))
    for other, shape in ((model, None), (model, (1, 3, 16, 17)), (program, None), (script, None)):
        found = told(ADAPTER.convs(other, shape, fold_pads=True))
        for path, (padding, mode, note) in FOLDED.items():
            if path == "last" and shape is None and other is model:
                padding = ((0, 0), (0, 0))  # noqa: PLW2901 – F.pad is code, which only a run meets
            assert found[path][:2] == (padding, mode)
            assert note in found[path][2]
    assert told(ADAPTER.convs(lowered, fold_pads=True))["last"] == FOLDED["last"]
    with pytest.raises(UnsupportedError, match="cannot be given"):
        ADAPTER.convs(model, (1, 4, 16, 17), fold_pads=True)


def test_a_folded_layer_gives_the_same_numbers_from_what_stands_before_the_pad():
    model = filled(Pads()).eval()
    seen = {}
    handles = [
        step.register_forward_hook(lambda _, args, y, place=place: seen.update({place: (args[0], y)}))
        for place, step in enumerate(model.steps)
    ]
    with torch.no_grad():
        model.double()(torch.randn(1, 3, 16, 17, dtype=torch.float64))
    for handle in handles:
        handle.remove()
    for path, first in (("steps.1", 0), ("steps.5", 3), ("steps.9", 8), ("steps.13", 12)):
        one = next(f for f in ADAPTER.convs(model, fold_pads=True) if f.path == path).reading
        y = reference.conv(one.spec, one.params, seen[first][0].numpy())
        assert np.abs(y - seen[int(path[6:])][1].numpy()).max() < 1e-9


def test_a_shared_layer_is_folded_only_where_it_is_padded_alike_everywhere():
    class Shared(nn.Module):
        def __init__(self, second):
            super().__init__()
            self.conv, self.second = nn.Conv2d(3, 3, 3), second

        def forward(self, x):
            x = self.conv(F.pad(x, (1, 1, 1, 1)))
            return self.conv(F.pad(x, self.second))

    (one,) = ADAPTER.convs(Shared((1, 1, 1, 1)), (1, 3, 8, 9), fold_pads=True)
    assert one.reading.spec.padding == ((1, 1), (1, 1))
    (one,) = ADAPTER.convs(Shared((2, 1, 1, 1)), (1, 3, 8, 9), fold_pads=True)
    assert "several times" in one.note
