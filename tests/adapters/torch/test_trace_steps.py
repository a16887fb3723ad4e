"""Traces of every step of PyTorch models: the laws of the data flow, and the settings of modules and functions."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from convspec_torch import model as models
from torch import nn

from convspec import ConvSpec
from convspec.spec import steps as S
from tests.adapters.step_traces import assert_replays, flow, same
from tests.adapters.steps import normal
from tests.adapters.torch import test_steps as tables
from tests.adapters.torch.step_networks import ASPP, NETWORKS, ConvNeXt, Heads, WaveNet

pytestmark = pytest.mark.torch


def randomised(model, seed=0):
    """Give a model random parameters and statistics; variances stay positive."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, t in (*model.named_parameters(), *model.named_buffers()):
            if t.is_floating_point():
                t.copy_(torch.rand(t.shape, generator=generator) + (0.5 if "var" in name else -0.5))
    return model


class Called(nn.Module):
    """A function as a model."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args):
        return self.function(*args) if isinstance(self.function, nn.Module) else self.function(self, *args)


def traced(function, *inputs, **parts):
    return models.trace_steps(Called(function, **parts), [normal(x) if isinstance(x, tuple) else x for x in inputs])


def kinds(trace):
    return [type(step.step).__name__ for step in trace.steps]


# -- laws --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_the_reference_replays_a_network(name):
    kind, shapes, others = NETWORKS[name]
    model = randomised(kind())
    inputs = [normal(shape) for shape in shapes]
    trace = models.trace_steps(model, inputs)
    assert_replays(trace, others)
    plain = models.trace_model(model, inputs).outputs
    assert len(plain) == len(trace.outputs)
    assert all(same(trace.tensors[i], y) for i, y in zip(trace.outputs, plain, strict=True))
    used = {path for step in trace.steps for paths in step.sources.values() for path in paths}
    assert used == set(trace.parameters)
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_what_reads_what_in_a_network():
    trace = models.trace_steps(Heads(), [normal((2, 3, 6, 7))])
    found = flow(trace)
    assert [(path, reads) for path, kind, reads in found if kind == "ConvSpec"] == [
        ("low", ["input0"]), ("high", ["low"]), ("classes", ["low"]), ("classes", ["high"]),
        ("boxes.0", ["low"]), ("boxes.0", ["high"]),
    ]  # fmt: skip
    assert ("cat_0", "Concat", ["reshape_0", "reshape_1"]) in found


def test_what_reads_what_where_branches_join():
    found = {path: reads for path, _, reads in flow(models.trace_steps(ASPP(), [normal((1, 3, 8, 7))]))}
    assert found["cat_0"] == ["relu_0", "relu_1", "relu_2", "interpolate_0"]
    assert [found[f"branches.{i}"] for i in range(3)] == [["input0"]] * 3


def test_a_layer_without_effect_is_a_step_that_nothing_reads():
    trace = models.trace_steps(WaveNet(), [normal((1, 2, 12))])
    written = {step.path: set(step.writes) for step in trace.steps}
    read = {number for step in trace.steps for number in step.reads} | set(trace.outputs)
    last = [path for path, numbers in written.items() if not numbers & read]
    assert last == ["mul_3"]  # after residual.1


def test_a_learnt_scale_is_a_parameter_that_is_read():
    trace = models.trace_steps(ConvNeXt(), [normal((1, 4, 8, 7))])
    (gamma,) = [step for step in trace.steps if isinstance(step.step, S.Parameter)]
    assert (gamma.path, gamma.step, gamma.sources) == ("gamma", S.Parameter((4,)), {"value": ("gamma",)})
    (reader,) = [step for step in trace.steps if gamma.writes[0] in step.reads]
    assert (reader.path, reader.step) == ("mul_0", S.Multiply())


# -- settings ----------------------------------------------------------------------------------------------------------

# what the call says where the step of the reference's table says the same in another way
SPELT = {"global": S.AdaptivePool((1, 1)), "global-max": S.AdaptivePool((1,), "max"), "reshape": S.Reshape((2, -1, 4)),
         "batch-training": S.BatchNorm(6),  # the model is run in evaluation mode
         "layer-2": S.LayerNorm((9, 8), (-2, -1), epsilon=0.1, bias=False)}  # fmt: skip
COMPOSED = ("identity", "gelu-quick")  # no step, and three


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
@pytest.mark.parametrize("name", [name for name in tables.TABLE if name not in COMPOSED])
def test_the_settings_of_a_step_without_arrays(name):
    function, step, *shape = tables.TABLE[name]
    x = normal(shape[0] if shape else tables.X, scale=3.0)
    layer = function if isinstance(function, nn.Module) else None
    run = function if layer is not None else lambda _, x: function(x)
    trace = models.trace_steps(Called(run), [np.abs(x) if name in tables.POSITIVE else x])
    assert_replays(trace)
    assert trace.steps[-1].step == SPELT.get(name, step)
    assert not trace.steps[-1].note
    if layer is not None:
        assert (trace.steps[-1].path, trace.steps[-1].name) == ("function", type(layer).__name__)


@pytest.mark.parametrize("name", tables.LAYERS)
def test_the_settings_and_arrays_of_a_layer(name):
    layer, step = tables.LAYERS[name]
    layer = randomised(copy.deepcopy(layer))
    trace = models.trace_steps(nn.Sequential(layer), [normal(tables.X)])
    assert_replays(trace)
    (found,) = trace.steps
    assert (found.path, found.step, found.name) == ("0", SPELT.get(name, step), type(layer).__name__)
    state = layer.state_dict()
    for array, values in found.arrays.items():
        own = tables.NAMES.get(array, array)
        assert same(values, state[own])
        assert found.sources[array] == (f"0.{own}",)


@pytest.mark.parametrize("name", tables.PAIRS)
def test_a_step_of_two_inputs(name):
    function, step, *shapes = tables.PAIRS[name]
    trace = traced(lambda _, a, b: function(a, b), *shapes)
    assert_replays(trace)
    assert [(one.step, one.reads) for one in trace.steps] == [(step, (0, 1))]


X = (2, 6, 4, 8)
W = torch.randn(8, 5)
ALL = (None, None, 1)  # a whole axis
FIRST = S.Slice([ALL, (None, 1, 1)])
CALLS = {
    "positional pool": (lambda x: torch.max_pool2d(x, 3, 2, 1, 1, True), [S.MaxPool(3, 2, 1, ceil_mode=True)]),
    "average with all": (lambda x: F.avg_pool2d(x, 3, 2, 1, True, False, 5),
                         [S.AveragePool(3, 2, 1, ceil_mode=True, divisor=5)]),
    "area": (lambda x: F.interpolate(x, size=(2, 3), mode="area"), [S.AdaptivePool((2, 3))]),
    "antialias": (lambda x: F.interpolate(x, size=(2, 3), mode="bicubic", antialias=True),
                  [S.Resize((2, 3), mode="cubic", cubic_coefficient=-0.5, exclude_outside=True, antialias=True)]),
    "cubic": (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), [S.Resize(scale=2, mode="cubic")]),
    "pads": (lambda x: F.pad(x, (1, 2, 3, 0), value=2), [S.Pad([(3, 0), (1, 2)], value=2)]),
    "crop": (lambda x: F.pad(x, (-1, 0, 0, -2)), [S.Pad([(0, -2), (-1, 0)])]),
    "replicate": (lambda x: F.pad(x, (1, 2, 3, 0), "replicate"), [S.Pad([(3, 0), (1, 2)], "replicate")]),
    "slice": (lambda x: x[:, :, :-2, ::2], [S.Slice([ALL, ALL, (None, -2, 1), (None, None, 2)])]),
    "ellipsis": (lambda x: x[..., 1:], [S.Slice([ALL, ALL, ALL, (1, None, 1)])]),
    "position": (lambda x: x[:, -1], [S.Select(1, -1)]),
    "new axis": (lambda x: x[:, None, ..., None], [S.Unsqueeze((1, 5))]),
    "mixed index": (lambda x: x[0, 1:, None, :, 2],
                    [S.Slice([ALL, (1, None, 1)]), S.Select(3, 2), S.Select(0, 0), S.Unsqueeze(1)]),
    "nothing": (lambda x: x[:], [S.Identity()]),
    "narrow": (lambda x: x.narrow(1, 2, 3), [S.Slice([ALL, (2, 5, 1)])]),
    "select": (lambda x: x.select(2, 1), [S.Select(2, 1)]),
    "view": (lambda x: x.view(2, -1), [S.Reshape((2, -1))]),
    "view of a size": (lambda x: x.view((*x.size()[:2], 32)), [S.Reshape((2, 6, 32))]),
    "unflatten": (lambda x: x.unflatten(1, (2, 3)), [S.Reshape((2, 2, 3, 4, 8))]),
    "flatten": (lambda x: torch.flatten(x, start_dim=1, end_dim=2), [S.Flatten(1, 2)]),
    "flatten all": (lambda x: x.flatten(), [S.Flatten(0)]),
    "squeeze": (lambda x: x[:, :1].squeeze(1), [FIRST, S.Squeeze(1)]),
    "squeeze nothing": (lambda x: x.squeeze(1), [S.Identity()]),
    "movedim": (lambda x: torch.movedim(x, 1, -1), [S.Permute((0, 2, 3, 1))]),
    "permute": (lambda x: torch.permute(x, (0, 2, 3, 1)), [S.Permute((0, 2, 3, 1))]),
    "transpose": (lambda x: x.transpose(-1, 1), [S.Permute((0, 3, 2, 1))]),
    "mT": (lambda x: x.mT, [S.Permute((0, 1, 3, 2))]),
    "flip": (lambda x: x.flip((1, -1)), [S.Slice([ALL, (None, None, -1), ALL, (None, None, -1)])]),
    "roll": (lambda x: torch.roll(x, (1, -3), dims=(2, 3)),
             [S.Slice([ALL, ALL, (3, None, 1)]), S.Slice([ALL, ALL, (None, 3, 1)]), S.Concat(2),
              S.Slice([ALL, ALL, ALL, (3, None, 1)]), S.Slice([ALL, ALL, ALL, (None, 3, 1)]), S.Concat(3)]),
    "expand": (lambda x: x[:, :1].expand(-1, 3, -1, -1), [FIRST, S.Expand((-1, 3, -1, -1))]),
    "repeat": (lambda x: x.repeat(1, 2, 1, 1), [S.Concat(1)]),
    "repeat of one": (lambda x: x[:, :1].repeat(1, 3, 1, 1),
                      [FIRST, S.Expand((2, 3, 4, 8))]),
    "interleave": (lambda x: x.repeat_interleave(2, dim=2),
                   [S.Unsqueeze(3), S.Expand((2, 6, 4, 2, 8)), S.Reshape((2, 6, 8, 8))]),
    "chunk": (lambda x: torch.chunk(x, 4, dim=1), [S.Split((2, 2, 2), 1)]),
    "split": (lambda x: x.split([1, 5], 1), [S.Split((1, 5), 1)]),
    "split evenly": (lambda x: x.split(4, dim=1), [S.Split((4, 2), 1)]),
    "unbind": (lambda x: x.unbind(0), [S.Split((1, 1), 0), S.Squeeze(0), S.Squeeze(0)]),
    "unpacking": (list, [S.Split((1, 1), 0), S.Squeeze(0), S.Squeeze(0)]),
    "stack": (lambda x: torch.stack((x, x), -1), [S.Unsqueeze(4), S.Unsqueeze(4), S.Concat(4)]),
    "cat by axis": (lambda x: torch.cat((x, x, x), axis=-1), [S.Concat(-1)]),
    "mean by axis": (lambda x: x.mean(axis=(2, 3), keepdims=True), [S.Reduce("mean", (2, 3), keepdims=True)]),
    "sum of an axis": (lambda x: torch.sum(x, 1), [S.Reduce("sum", (1,))]),
    "max of two": (lambda x: torch.max(x, x), [S.Maximum()]),
    "max of all": (lambda x: x.max(), [S.Reduce("max")]),
    "add in place": (lambda x: x.clone().add_(2), [S.Add(2)]),
    "alpha": (lambda x: torch.add(x, x, alpha=0.5), [S.Multiply(0.5), S.Add()]),
    "reversed": (lambda x: 1 - 2 / x, [S.Divide(2, reflected=True), S.Subtract(1, reflected=True)]),
    "subtract": (lambda x: torch.subtract(x, 3), [S.Subtract(3)]),
    "negative": (lambda x: -x, [S.Pointwise("negative")]),
    "square": (lambda x: x**2, [S.Power(2)]),
    "relu method": (lambda x: x.relu(), [S.ReLU()]),
    "relu6": (F.relu6, [S.Clip(0, 6)]),
    "clamp": (lambda x: torch.clamp(x, -1, 2), [S.Clip(-1, 2)]),
    "clamp_min": (lambda x: x.clamp_min(0.5), [S.Clip(0.5)]),
    "gelu tanh": (lambda x: F.gelu(x, approximate="tanh"), [S.GELU("tanh")]),
    "rrelu": (F.rrelu, [S.LeakyReLU(11 / 48)]),
    "softmax method": (lambda x: x.softmax(-1), [S.Softmax(-1)]),
    "softmin": (lambda x: F.softmin(x, 1), [S.Pointwise("negative"), S.Softmax(1)]),
    "logsigmoid": (F.logsigmoid, [S.Sigmoid(log=True)]),
    "dropout2d": (lambda x: F.dropout2d(x, 0.3, training=False), [S.Dropout(0.3, "channel")]),
    "channel shuffle": (lambda x: F.channel_shuffle(x, 3), [S.ChannelShuffle(3)]),
    "matrix": (lambda x: x @ W, [S.Linear(8, 5, bias=False)]),
    "einsum along an axis": (lambda x: torch.einsum("nchw,wo->ncho", x, W), [S.Linear(8, 5, bias=False, axis=3)]),
    "einsum of two": (lambda x: torch.einsum("nchw,ncwv->nchv", x, x.mT), [S.Permute((0, 1, 3, 2)), S.MatMul()]),
    "bmm": (lambda x: torch.bmm(x[0], x[1].mT), [S.Select(0, 0), S.Select(0, 1), S.Permute((0, 2, 1)), S.MatMul()]),
    "addmm": (lambda x: torch.addmm(W[0], x.flatten(0, 2), W), [S.Flatten(0, 2), S.Linear(8, 5)]),
    "no batch": (lambda x: F.max_pool2d(x[0], 2), [S.Select(0, 0), S.Unsqueeze(0), S.MaxPool(2), S.Squeeze(0)]),
    "no step": (lambda x: x.detach().contiguous().clone().to(x.dtype).float().view_as(x).data.relu(),
                [S.Reshape(X), S.ReLU()]),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_the_settings_of_a_call(name):
    function, expected = CALLS[name]
    trace = traced(lambda _, x: function(x), X)
    assert_replays(trace)
    assert [step.step for step in trace.steps] == expected


WITHOUT = {
    "cumsum": (lambda x: x.cumsum(1), "cumsum", ""),
    "index": (lambda x: x[:, [0, 2]], "getitem", "by positions in a tensor or list"),
    "mask": (lambda x: x[x > 0], "getitem", "by positions in a tensor or list"),
    "decimals": (lambda x: x.round(decimals=2), "round", "to 2 decimals"),
    "threshold": (lambda x: F.threshold(x, 0.1, 20), "threshold", "values up to 0.1 become 20"),
    "floor division": (lambda x: torch.div(x, 2, rounding_mode="floor"), "div", "rounding_mode floor"),
    "reflected and cropped": (lambda x: F.pad(x, (-1, 1, 1, 1), "reflect"), "pad", None),
    "random": (lambda x: F.rrelu(x, training=True), "rrelu", "its slopes are random"),
    "cast": (lambda x: x.double(), "to float64", ""),
    "dynamic weight": (lambda x: F.linear(x, x[0, 0]), "linear", "its weight is computed from the data"),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_a_call_without_a_word_is_listed_with_the_reason(name):
    function, kind, note = WITHOUT[name]
    step = traced(lambda _, x: function(x), X).steps[-1]
    assert step.step == S.Other(kind)
    assert step.note == note or (note is None and step.note)


def test_dropout_in_code_is_active_in_evaluation_mode():
    trace = traced(lambda _, x: F.dropout(x, 0.3), X)
    assert [step.step for step in trace.steps] == [S.Dropout(0.3, training=True)]


# -- convolutions ------------------------------------------------------------------------------------------------------

CONVOLUTIONS = {
    "plain": (nn.Conv2d(6, 4, (3, 2), 2, (1, 0), bias=False), ConvSpec(6, 4, (3, 2), 2, (1, 0), bias=False)),
    "reflect": (nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"),
                ConvSpec(6, 4, 3, padding=1, padding_mode="reflect")),
    "transposed": (nn.ConvTranspose2d(6, 4, 3, 2, 1, 1), ConvSpec(6, 4, 3, 2, 1, output_padding=1, transposed=True)),
    "function": (lambda x: F.conv2d(x, torch.ones(3, 2, 3, 3), None, 1, "same", 1, 3),
                 ConvSpec(6, 3, 3, padding="same", groups=3, bias=False)),
    "transposed function": (lambda x: F.conv_transpose2d(x, torch.ones(6, 2, 3, 3), torch.ones(2), stride=2),
                            ConvSpec(6, 2, 3, 2, transposed=True)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution(name):
    function, spec = CONVOLUTIONS[name]
    trace = models.trace_steps(
        Called(function if isinstance(function, nn.Module) else lambda _, x: function(x)), [normal(X)]
    )
    assert_replays(trace)
    assert [step.step for step in trace.steps] == [spec]


def test_a_convolution_without_a_batch_axis():
    trace = models.trace_steps(nn.Sequential(nn.Conv2d(6, 4, 3)), [normal(X[1:])])
    assert_replays(trace)
    assert [step.path for step in trace.steps] == ["0.unsqueeze_0", "0", "0.squeeze_0"]


def test_a_kernel_that_is_computed_from_the_data_is_read():
    trace = traced(lambda _, x: F.conv2d(x, x[:, :, :2, :2]), X)
    step = trace.steps[-1]
    assert step.reads == (0, trace.steps[0].writes[0])
    assert "computed from the data" in step.note


def test_convolutions_have_the_paths_of_the_parts():
    from tests.adapters.torch.test_functions import Net

    model, x = Net().eval(), [normal((2, 3, 16, 31))]
    parts = [call.path for call in models.trace_model(model, x).calls]
    trace = models.trace_steps(model, x)
    assert [step.path for step in trace.steps if isinstance(step.step, ConvSpec)] == parts
    assert_replays(trace)


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm,
                                  nn.utils.spectral_norm])  # fmt: skip
@pytest.mark.parametrize("layer", [lambda: nn.Conv2d(6, 4, 3), lambda: nn.Linear(8, 3)])
def test_a_weight_that_is_computed_is_an_array_with_its_sources(norm, layer):
    model = nn.Sequential(norm(layer()), nn.ReLU())
    trace = models.trace_steps(model, [normal(X)])
    assert_replays(trace)
    assert [step.path for step in trace.steps] == ["0", "1"]
    used = {path for paths in trace.steps[0].sources.values() for path in paths}
    assert used <= set(trace.parameters)
    assert len(used) >= 3


# -- identity and changes in place -------------------------------------------------------------------------------------


def changes(function, *shapes):
    """Return a trace of a function that changes tensors, replayed where it can be; the model runs as it does alone."""
    trace = traced(function, *(shapes or (X,)))
    inputs = [torch.from_numpy(np.array(trace.tensors[i])) for i in trace.inputs]
    alone = function(None, *inputs)
    assert same(trace.tensors[trace.outputs[0]], alone)
    assert_replays(trace, [step.step.name for step in trace.steps if isinstance(step.step, S.Other)])
    return trace


def test_a_change_in_place_makes_a_new_tensor():
    def run(_, x):
        y = x * 1
        z = F.relu_(y)
        y += z
        return y - x

    trace = changes(run)
    assert [step.reads for step in trace.steps] == [(0,), (1,), (2, 2), (3, 0)]


def test_a_second_name_of_a_tensor_is_the_same_tensor():
    def run(_, x):
        x = x + 0
        y = x
        y += 1
        return x * y

    assert [step.reads for step in changes(run).steps] == [(0,), (1,), (2, 2)]


def test_an_assignment_to_a_part_is_a_step_that_writes_the_whole():
    def run(_, x):
        y = x.clone()
        y[:, 0] = 0
        y[:, 1] = x[:, 2]
        return y

    trace = changes(run)
    assert [(step.step.words, step.reads) for step in trace.steps] == [
        ("setitem", (0,)), ("position 2 of axis 1", (0,)), ("setitem", (1, 2))
    ]  # fmt: skip


def test_a_view_that_was_changed_through_its_base_is_read_as_it_is_now():
    def run(_, x):
        y = x * 2
        v = y[:, 0]
        y.mul_(3)
        return v + 1

    trace = changes(run)
    assert [(step.step.words, step.reads) for step in trace.steps][-2:] == [
        ("change in place", (2, 3)),
        ("add, constant 1", (4,)),
    ]


def test_a_base_that_was_changed_through_its_view_is_read_as_it_is_now():
    def run(_, x):
        y = x * 2
        y[:, 0].relu_()
        return y + 1

    trace = changes(run)
    assert [(step.step.words, step.reads) for step in trace.steps][-2:] == [
        ("change in place", (1, 3)),
        ("add, constant 1", (4,)),
    ]


def test_changes_of_other_elements_leave_a_tensor_as_it_is():
    def run(_, x):
        a, b = (x * 2).chunk(2, dim=1)
        a.relu_()
        b.mul_(3)
        return torch.cat((a, b), 1)

    assert kinds(changes(run)) == ["Multiply", "Split", "ReLU", "Multiply", "Concat"]


@pytest.mark.parametrize("alias", [lambda x: x.data, lambda x: x.detach(), lambda x: x.view(x.shape)])
def test_a_change_through_an_alias_is_seen(alias):
    def run(_, x):
        y = x * 2
        alias(y).add_(1)
        return y * y

    trace = changes(run)
    assert trace.steps[-1].reads[0] != trace.steps[0].writes[0]


def test_a_buffer_that_takes_data_becomes_data():
    def run(model, x):
        out = torch.zeros(2, 3)
        out[:, :2] = x[:, :2, 0, 0]
        return out

    trace = changes(run)
    assert [type(step.step).__name__ for step in trace.steps][-2:] == ["Parameter", "Other"]
    assert len(trace.steps[-1].reads) == 2


def test_an_output_argument_is_written():
    def run(_, x):
        out = torch.empty_like(x)
        torch.add(x, 1, out=out)
        return out

    assert changes(run).steps[-1].step == S.Add(1)


def test_a_layer_that_gives_its_input_keeps_other_readers():
    trace = traced(lambda self, x: self.drop(x) + x, X, drop=nn.Dropout(0.1))
    assert_replays(trace)
    assert [step.reads for step in trace.steps] == [(0,), (1, 0)]


def test_a_module_that_gives_its_input_is_no_step():
    trace = models.trace_steps(nn.Sequential(nn.Identity(), nn.ReLU(), nn.Identity()), [normal(X)])
    assert [(step.path, step.reads) for step in trace.steps] == [("1", (0,))]
    assert models.trace_steps(nn.Identity(), [normal(X)]).outputs == (0,)


def test_a_constant_result_and_a_constant_are_parameters():
    def run(self, x):
        return x + torch.arange(8.0) * self.scale, self.scale

    scale = nn.Parameter(torch.ones(1))
    trace = traced(run, X, scale=scale)
    assert_replays(trace)
    made, added, alone = trace.steps
    assert (made.step, made.name, made.sources) == (S.Parameter((8,)), "mul", {"value": ("scale",)})
    assert (added.reads, alone.path) == ((0, 1), "scale")


def test_random_numbers_are_told():
    (noise, _) = traced(lambda _, x: x + torch.randn_like(x), X).steps
    assert noise.note == "drawn at random"


def test_a_tensor_that_a_module_keeps_is_a_parameter_without_a_path():
    (kept, _) = traced(lambda self, x: x * self.scale, X, scale=torch.tensor(2.0)).steps
    assert (kept.step, kept.note) == (S.Parameter(()), "")
    assert kept.path == "attribute_0"


def test_a_result_of_code_that_is_not_seen_is_told():
    trace = traced(lambda _, x: torch.from_numpy(np.tanh(x.numpy())) + x, X)
    assert "code that is not seen" in trace.steps[0].note


def test_a_hook_of_the_users_is_a_step_of_its_own():
    layer = nn.Conv2d(6, 4, 3)
    layer.register_forward_hook(lambda module, args, y: y * 2)
    trace = models.trace_steps(nn.Sequential(layer), [normal(X)])
    assert_replays(trace)
    assert [(step.path, type(step.step).__name__) for step in trace.steps] == [
        ("0", "ConvSpec"),
        ("0.mul_0", "Multiply"),
    ]


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_a_lazy_layer_has_its_weights():
    trace = models.trace_steps(nn.Sequential(nn.LazyConv2d(3, 3), nn.LazyBatchNorm2d()), [normal(X)])
    assert_replays(trace)
    assert {path for step in trace.steps for paths in step.sources.values() for path in paths} == set(trace.parameters)


def test_an_error_that_the_model_catches_leaves_the_paths_right():
    def run(self, x):
        try:
            return self.wrong(x)
        except RuntimeError:
            return self.right(x).relu()

    wrong = nn.Sequential(nn.Tanh(), nn.Conv2d(5, 5, 3))
    trace = traced(run, X, wrong=wrong, right=nn.Conv2d(6, 4, 3))
    assert [step.path for step in trace.steps] == ["wrong.0", "right", "relu_0"]


def test_a_custom_function_is_seen_through():
    class Swish(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * torch.sigmoid(x)

    trace = traced(lambda _, x: Swish.apply(x), X)
    assert_replays(trace)
    assert kinds(trace) == ["Sigmoid", "Multiply"]


def activated(x):
    return torch.relu(x) * 2 + 1


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_code_is_seen_by_its_operators():
    scripted = torch.jit.script(activated)
    inner = torch.jit.script(nn.Sequential(nn.Conv2d(6, 6, 3), nn.Hardtanh(0.0, 6.0)).eval())
    trace = traced(lambda self, x: self.inner(scripted(x)), X, inner=inner)
    assert_replays(trace)
    assert kinds(trace) == ["ReLU", "Multiply", "Add", "ConvSpec", "Clip"]
    assert trace.steps[3].sources == {"kernel": ("inner.0.weight",), "bias": ("inner.0.bias",)}


@pytest.mark.parametrize("layer", [nn.LSTM(8, 3), nn.GRUCell(8, 3), nn.MultiheadAttention(8, 2)])
def test_a_recurrent_or_attention_layer_is_one_step(layer):
    def run(self, x):
        x = x[0, :, 0]
        y = self.layer(x, x, x) if isinstance(self.layer, nn.MultiheadAttention) else self.layer(x)
        return y[0] if isinstance(y, tuple) else y

    trace = traced(run, X, layer=layer)
    step = trace.steps[-1]
    assert (step.path, step.step) == ("layer", S.Other(type(layer).__name__))
    assert set(step.arrays) == {name for name, _ in layer.named_parameters()}
    assert set(step.reads) == set(trace.steps[-2].writes)
    assert trace.outputs == step.writes[:1]


def test_a_layer_that_no_input_reaches_is_a_step():
    trace = traced(
        lambda self, x: x + self.layer(self.query), X, layer=nn.Linear(3, 8), query=nn.Parameter(torch.ones(3))
    )
    assert_replays(trace)
    assert [(step.path, step.reads) for step in trace.steps] == [("query", ()), ("layer", (1,)), ("add_0", (0, 2))]


@pytest.mark.parametrize("layer", [nn.Linear(8, 3), nn.Conv2d(6, 3, 1), nn.BatchNorm2d(6)])
def test_a_model_that_is_one_layer_has_the_path_of_its_part(layer):
    (part,) = models.parts(layer)
    (step,) = models.trace_steps(layer, [normal(X)]).steps
    assert (step.path, step.name) == (part.path, part.name) == ("", type(layer).__name__)


def test_the_same_layer_twice_has_one_path():
    layer = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    trace = models.trace_steps(nn.Sequential(layer, layer), [normal(X)])
    assert [step.path for step in trace.steps] == ["0.0", "0.1", "0.0", "0.1"]
    assert [step.reads for step in trace.steps] == [(0,), (1,), (2,), (3,)]


def test_half_precision_and_integers():
    model = nn.Sequential(nn.Linear(8, 3), nn.ReLU()).to(torch.bfloat16)
    trace = models.trace_steps(model, [normal(X)])
    assert {t.dtype for t in trace.tensors} == {np.dtype("float32")}
    words = nn.Embedding(5, 3)
    trace = models.trace_steps(nn.Sequential(words), [np.array([[1, 2]])])
    assert_replays(trace)
    assert [(step.path, step.step) for step in trace.steps] == [("0", S.Embedding(5, 3))]


def test_inputs_by_name():
    trace = models.trace_steps(Called(lambda _, a, b: a - b), [normal(X), normal(X, 1)])
    assert trace.inputs == (0, 1)

    class Named(nn.Module):
        def forward(self, a, b):
            return b / a

    trace = models.trace_steps(Named(), {"a": normal(X), "b": normal(X, 1)})
    assert [step.reads for step in trace.steps] == [(1, 0)]


def test_compiled_modules_and_functions_run_as_they_are_written():
    inner = torch.compile(nn.Sequential(nn.Conv2d(6, 4, 3), nn.ReLU()), backend="eager")
    function = torch.compile(lambda x: torch.tanh(x) + 1, backend="eager")
    trace = traced(lambda self, x: function(self.inner(x)), X, inner=inner)
    assert_replays(trace)
    assert [step.path for step in trace.steps] == ["inner._orig_mod.0", "inner._orig_mod.1", "tanh_0", "add_0"]


# -- programs ----------------------------------------------------------------------------------------------------------


PROGRAMS = ("ignore:.*torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")


def layers(trace):
    """Return paths and specs of layers; programs have a padding mode as a step of its own."""
    found = [(step.path, step.step) for step in trace.steps if {"kernel", "weight", "scale"} & set(step.arrays)]
    own = ("padding", "padding_mode")
    return [
        (path, {n: v for n, v in spec.to_dict().items() if not (isinstance(spec, ConvSpec) and n in own)})
        for path, spec in found
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_an_exported_program_has_the_steps_of_its_module(name):
    kind, shapes, others = NETWORKS[name]
    model = randomised(kind()).eval()
    inputs = [normal(shape) for shape in shapes]
    program = torch.export.export(model, tuple(map(torch.from_numpy, inputs)))
    trace, plain = models.trace_steps(program, inputs), models.trace_steps(model, inputs)
    assert_replays(trace, others)
    outputs = [[one.tensors[i] for i in one.outputs] for one in (trace, plain)]
    assert all(same(a, b) for a, b in zip(*outputs, strict=True))
    assert layers(trace) == layers(plain)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # PyTorch's own copy of a program
@pytest.mark.parametrize("name", ["resnet", "convnext", "attention"])
def test_the_core_operators_of_an_exported_program_have_words(name):
    kind, shapes, others = NETWORKS[name]
    model = randomised(kind()).eval()
    inputs = [normal(shape) for shape in shapes]
    program = torch.export.export(model, tuple(map(torch.from_numpy, inputs))).run_decompositions()
    trace, plain = models.trace_steps(program, inputs), models.trace_steps(model, inputs)
    assert_replays(trace, others)
    # a linear layer on more than two axes is a product between two reshapes there
    assert [path.removesuffix(".addmm_0") for path, _ in layers(trace)] == [path for path, _ in layers(plain)]


@pytest.mark.filterwarnings(*PROGRAMS)
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "heads"])  # its results are of two types
def test_a_traced_script_has_the_steps_of_its_module(name):
    kind, shapes, others = NETWORKS[name]
    model = randomised(kind()).eval()
    inputs = [normal(shape) for shape in shapes]
    program = torch.jit.trace(model, tuple(map(torch.from_numpy, inputs)), strict=False)
    trace, plain = models.trace_steps(program, inputs), models.trace_steps(model, inputs)
    assert_replays(trace, others)
    outputs = [[one.tensors[i] for i in one.outputs] for one in (trace, plain)]
    assert len(outputs[0]) == len(outputs[1])
    assert all(same(a, b) for a, b in zip(*outputs, strict=True))
    assert [spec for _, spec in layers(trace)] == [spec for _, spec in layers(plain)]
