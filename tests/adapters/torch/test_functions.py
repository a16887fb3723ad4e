"""Convolutions that PyTorch modules call as functions: met in a run, compared and ported like layers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from convspec_torch import model as models  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import convspec  # noqa: E402
from convspec import ConvSpec  # noqa: E402
from convspec.models import run_model  # noqa: E402
from convspec.models.comparison import layer_check  # noqa: E402
from tests.adapters.torch.standardised import Standardised  # noqa: E402

pytestmark = pytest.mark.torch


class Block(nn.Module):
    """Functions of two kinds, one of them twice alike, beside a layer."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 2, 3, 5))
        self.u = nn.Parameter(torch.randn(4, 3, 2, 2))
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        y = F.conv2d(x, self.w, padding="same", groups=2)
        y = torch.conv2d(input=y, weight=self.w, padding="same", groups=2)
        y = F.conv2d(y, weight=self.w, bias=self.layer.bias, stride=(1, 2), padding=(1, 2), groups=2)
        return self.layer(torch.conv_transpose2d(y, self.u, None, (2, 1), (0, 1), 0, 1, 1))


class Net(nn.Module):
    """A block that is called twice, between a layer of its own way and a function at the top."""

    def __init__(self):
        super().__init__()
        self.stem, self.block = Standardised(3, 4, (3, 3), stride=(2, 1)), Block()
        self.register_buffer("blur", torch.ones(4, 1, 2, 3) / 6)

    def forward(self, x):
        return F.conv2d(self.block(self.block(self.stem(x))), self.blur, groups=4)


def network(seed=0, kind=Net):
    torch.manual_seed(seed)
    return kind().eval()


X = np.random.default_rng(0).normal(size=(2, 3, 16, 31)).astype(np.float32)
PATHS = {"stem": 1, "block.conv2d_0": 4, "block.conv2d_1": 2, "block.conv_transpose2d_0": 2, "block.layer": 2,
         "conv2d_0": 1}  # fmt: skip


def test_each_function_has_a_path_and_its_calls():
    model = run_model.open_model(network(), [X])
    assert [part.path for part in model.ordered("conv")] == list(PATHS)
    found = {part.path: part.reading.spec for part in model.parts if part.kind == "conv"}
    assert found["stem"] == ConvSpec(3, 4, 3, stride=(2, 1))
    assert found["block.conv2d_0"] == ConvSpec(4, 4, (3, 5), padding="same", groups=2, bias=False)
    assert found["block.conv2d_1"] == ConvSpec(4, 4, (3, 5), stride=(1, 2), padding=(1, 2), groups=2)
    assert found["block.conv_transpose2d_0"] == ConvSpec(
        4, 3, 2, stride=(2, 1), padding=(0, 1), transposed=True, bias=False
    )
    counts = {path: sum(call.path == path for call in model.calls) for path in PATHS}
    assert counts == PATHS
    known = {part.path: part.reading for part in model.parts if part.kind == "conv"}
    for call in model.calls:  # what was written is what the reading makes of what was read
        reading = known[call.path]
        assert layer_check.check_layer(
            reading.spec, reading.params, call.x, call.y, convspec.adapter("torch"), "float32"
        ).ok, call


def test_layers_are_not_met_twice_and_nothing_stays_behind():
    source = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), nn.ConvTranspose2d(4, 2, 2)).eval()
    before = source(torch.from_numpy(X))
    calls, _, found = models.trace_model(source, [X])
    assert (found, [call.path for call in calls]) == ([], ["0", "1"])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in source.modules())
    assert torch.equal(source(torch.from_numpy(X)), before)


def test_a_failing_run_leaves_the_model_as_it_was():
    source = network()
    with pytest.raises(convspec.errors.RequestError, match="does not take these inputs"):
        models.trace_model(source, [X[:, :2]])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in source.modules())
    assert [part.path for part in run_model.open_model(source, [X]).ordered("conv")] == list(PATHS)


class Unbatched(nn.Module):
    """A function called without a batch."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 3, 3, 3))

    def forward(self, x):
        return torch.stack([F.conv2d(sample, self.w) for sample in x])


def test_samples_one_by_one_are_calls_of_one_convolution():
    model = run_model.open_model(network(kind=Unbatched), [X])
    assert [call.path for call in model.calls] == ["conv2d_0"] * 2
    assert model.calls[0].x.shape == (1, 3, 16, 31)


def test_two_models_are_compared_by_their_functions():
    found = convspec.compare(network(), network(), X)
    assert found.agrees, str(found)
    assert {row.a for row in found.rows} == set(PATHS)
    assert all(row.verdict == "agree" for row in found.rows), str(found)
    other = network()
    with torch.no_grad():
        other.block.u.mul_(-1)
    found = convspec.compare(network(), other, X)
    assert {row.a for row in found.rows if row.verdict == "diverges"} == {"block.conv_transpose2d_0"}


@pytest.mark.parametrize("how", [torch.jit.script, lambda block: torch.compile(block, backend="eager")])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_compiled_inside_a_model_is_not_looked_into(how):
    source = nn.Sequential(nn.Conv2d(3, 3, 3), how(network(kind=Layers))).eval()
    model = run_model.open_model(source, [X])
    assert "0" in [call.path for call in model.calls]
    assert not any(part.function for part in model.parts)
    assert model.outputs[0].shape == (2, 4, 12, 27)


class Layers(nn.Module):
    """The same as ``Unbatched``, with a layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)

    def forward(self, x):
        return self.conv(x)


def test_weights_of_functions_are_moved_into_layers_and_not_the_other_way():
    source, target = network(kind=Unbatched), network(seed=1, kind=Layers)
    report = convspec.port_weights(source, target, X)
    assert report.written, str(report)
    assert torch.equal(target.conv.weight, source.w)
    report = convspec.port_weights(target, source, X)
    assert not report.written
    assert report.ambiguous == ["conv2d_0 cannot be written: it is called as a function: no layer holds its weights"]


def test_the_same_models_can_be_compared_in_several_threads():
    a, b = Net(), Net()
    b.load_state_dict(a.state_dict())
    x = np.random.default_rng(0).standard_normal((2, 3, 12, 40)).astype(np.float32)
    with ThreadPoolExecutor(4) as pool:
        comparisons = list(pool.map(lambda _: convspec.compare(a, b, x), range(12)))
    assert all(comparison.agrees for comparison in comparisons)
    assert len({str(comparison) for comparison in comparisons}) == 1
