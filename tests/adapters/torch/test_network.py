"""The words of PyTorch: networks as people write and print them, and what PyTorch makes of the same text."""

from __future__ import annotations

import inspect
import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from convspec_torch.network import VOCABULARY
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.flop_counter import FlopCounterMode

from convspec.errors import ShapeError
from convspec.layers.networks import Network, Row
from tests.adapters.torch import summary_texts
from tests.adapters.torch.network_writer import Writer

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:Using padding=:UserWarning")]
SEEDS = range(int(os.environ.get("CONVSPEC_NETWORKS", "14")))  # networks of each form
_NAMES = {"torch": torch, "nn": nn, "F": F, "OrderedDict": OrderedDict, "weight_norm": weight_norm}
_CONTAINERS = nn.Sequential | nn.ModuleList | nn.ModuleDict


def made_of(text: str, name: str | None = None) -> nn.Module:
    """Return what Python makes of a text: its class without arguments, or its last expression."""
    names = dict(_NAMES)
    if name is None:
        return eval(text, names)
    exec(text, names)
    return names[name]() if isinstance(names[name], type) else names[name]


def run_of(model: nn.Module, *shapes: tuple[int, ...]) -> tuple[list[tuple[str, tuple[int, ...], int]], torch.Tensor]:
    """Return path, output shape and new parameters of each call of a layer as hooks see them, and the result."""
    calls, seen = [], set()

    def watch(path):
        def hook(module, inputs, output):
            first = output[0] if isinstance(output, tuple) else output
            new = 0 if path in seen else sum(p.numel() for p in module.parameters())
            seen.add(path)
            calls.append((path, tuple(first.shape), new))

        return hook

    with torch.no_grad():
        model.eval()(*map(torch.zeros, shapes))  # lazy layers are made by it
        for path, module in model.named_modules():
            own = (
                type(module).__module__.startswith(("torch.nn", "torchvision.ops.stoch"))
                and "parametrizations" not in path
            )
            if own and not isinstance(module, _CONTAINERS):
                module.register_forward_hook(watch(path))
        return calls, model(*map(torch.zeros, shapes))


def layers_of(rows: tuple[Row, ...]) -> list[tuple[str, tuple[int, ...] | None, int | None]]:
    return [(row.path, row.shape, row.parameters) for row in rows if row.is_layer]


def check(text: str, model: nn.Module, *shapes: tuple[int, ...], name: str | None = None) -> None:
    """Hold what is read against what PyTorch does, which may be a refusal."""
    network = Network.parse(text, name, "torch")
    try:
        calls, result = run_of(model, *shapes)
    except (RuntimeError, ValueError):
        with pytest.raises(ShapeError):
            network.shapes(*shapes)
        return
    rows = network.shapes(*shapes)
    assert layers_of(rows) == calls
    assert not [row for row in rows if row.problem]
    assert rows[-1].shape == tuple(result.shape)
    assert sum(row.parameters or 0 for row in rows) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_nested_sequential(seed):
    writer = Writer(seed)
    text = writer.sequential()
    check(text, made_of(text), writer.shape)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_class_with_its_forward(seed):
    writer = Writer(seed)
    text = writer.network()
    check(text, made_of(text, "Net"), writer.shape, name="Net")


@pytest.mark.parametrize("seed", SEEDS)
def test_the_print_of_a_sequential(seed):
    writer = Writer(seed, printed=True)
    model = made_of(writer.sequential())
    check(str(model), model, writer.shape)


TUTORIALS = Path(__file__).with_name("tutorial_networks.py").read_text("utf-8")
SHAPES = {
    "LeNet": (2, 1, 32, 32), "AlexNet": (1, 3, 67, 70), "VGG": (2, 3, 32, 32), "ResNet": (2, 3, 40, 33),
    "UNet": (1, 3, 21, 18), "Generator": (2, 12, 1, 1), "DenseNet": (1, 3, 11, 12), "Wave": (1, 2, 12),
    "ViT": (2, 3, 16, 16), "ConvNeXt": (2, 3, 16, 24), "CharRNN": (2, 7), "model": (3, 1, 8, 8),
}  # fmt: skip


@pytest.mark.parametrize(("name", "shape"), SHAPES.items())
def test_a_network_of_a_tutorial(name, shape):
    model = made_of(TUTORIALS, name)
    calls, result = run_of(model, shape)
    rows = Network.parse(TUTORIALS, name, "torch").shapes(shape)
    assert [layer for layer in layers_of(rows) if not isinstance(model.get_submodule(layer[0]), _own(model))] == calls
    assert not [row for row in rows if row.problem]
    assert rows[-1].shape == tuple(result.shape)
    assert sum(row.parameters or 0 for row in rows) == sum(p.numel() for p in model.parameters())


def _own(model: nn.Module) -> tuple[type[nn.Module], ...]:
    """Return the classes of layers that the text itself has."""
    return tuple({type(m) for m in model.modules() if not type(m).__module__.startswith("torch.nn")})


def test_a_layer_of_a_printed_sequence_that_does_not_fit_is_an_error():
    model = nn.Sequential(nn.Conv2d(1, 6, 5), nn.Flatten(), nn.Linear(3, 2))
    with pytest.raises(ShapeError, match="2"):
        Network.parse(str(model)).shapes((1, 1, 8, 8))


@pytest.mark.parametrize("wrap", [weight_norm, nn.utils.parametrizations.spectral_norm, nn.utils.spectral_norm])
@pytest.mark.parametrize("layer", ["nn.Conv1d(2, 4, 3)", "nn.ConvTranspose1d(2, 4, 3, bias=False)", "nn.Linear(5, 4)"])
def test_parameters_of_a_wrapped_layer_are_counted_as_pytorch_counts_them(wrap, layer):
    (row,) = Network.parse(f"{wrap.__name__}({layer})", framework="torch").shapes((1, 2, 5))
    assert row.parameters == sum(p.numel() for p in wrap(eval(layer)).parameters())


def _parameters(function, skipped=0):
    found = list(inspect.signature(function).parameters.values())[skipped:]
    return {p.name: p.default for p in found if p.kind == p.POSITIONAL_OR_KEYWORD}


@pytest.mark.parametrize("name", sorted(name for name in VOCABULARY.layers if hasattr(nn, name)))
def test_a_layer_has_the_parameters_of_pytorch_with_its_defaults(name):
    own = _parameters(eval(f"lambda {VOCABULARY.layers[name].signature}: 0"))
    real = _parameters(getattr(nn, name).__init__, skipped=1)
    if not real:  # (*args, **kwargs)
        assert name in ("GRU", "Identity", "LSTM", "RNN") or not own
        return
    ignored = ("process_group", "min_value", "max_value")
    wanted = {key: value for key, value in real.items() if key not in ignored}
    same = {key: value for key, value in own.items() if key not in ignored}
    assert list(same) == list(wanted)
    assert {k: v for k, v in same.items() if k != "activation"} == {
        k: v for k, v in wanted.items() if k != "activation"
    }


@pytest.mark.parametrize("name", sorted(name for name in VOCABULARY.functions if hasattr(F, name)))
def test_a_function_has_the_parameters_of_pytorch_with_its_defaults(name):
    try:
        real = _parameters(getattr(F, name))
    except ValueError:  # it is written in C++
        return
    own = _parameters(eval(f"lambda {VOCABULARY.functions[name].signature}: 0"))
    assert {k: real[k] for k in own if k in real and k != "_stacklevel"} == {
        k: v for k, v in own.items() if k in real and k != "_stacklevel"
    }
    assert [k for k in own if k in real] == [k for k in real if k in own]
    assert set(own) - {"axis"} <= set(real) or "args" in inspect.signature(getattr(F, name)).parameters


PRODUCTS = """
import torch
import torch.nn.functional as F
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(16, 48)
        self.mix = nn.MultiheadAttention(16, 2, batch_first=True, kdim=12, vdim=8)
        self.encode = nn.TransformerEncoderLayer(16, 4, 30)
        self.rnn = nn.LSTM(16, 8, 2, bidirectional=True)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        y = F.scaled_dot_product_attention(q, k, v)
        z = torch.einsum("bij,bkj->bik", q, k) + torch.einsum("...ij,...jk", q, k.transpose(1, 2))
        y, _ = self.mix(y, torch.cat([k, v], 1)[..., :12], torch.cat([k, v], 1)[..., :8])
        y, _ = self.rnn(self.encode(y))
        return y, z @ y
"""


def test_the_cost_of_attention_einsum_and_recurrent_layers(monkeypatch):
    """PyTorch's counter misses fused attention and the LSTM, whose 3,072 products run for each of 10 positions."""
    names, x = {}, torch.zeros(2, 5, 16)
    exec(PRODUCTS, names)
    model = names["Net"]().eval()

    def plain(q, k, v, *args, **kwargs):
        return (q @ k.transpose(-1, -2)).softmax(-1) @ v

    rows = Network.parse(PRODUCTS).shapes(tuple(x.shape))
    live = Network.read(model, x.shape).shapes(x.shape)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", plain)
    monkeypatch.setattr(torch.backends.mha, "get_fastpath_enabled", lambda: False)
    with FlopCounterMode(display=False) as counter:
        model(x)
    expected = counter.get_total_flops() // 2 + 10 * 3072
    assert sum(row.macs for row in rows) == sum(row.macs for row in live) == expected


def test_the_tables_of_torchinfo_and_torchsummary():
    """Block has a parameter of its own, which torchsummary leaves out; one row stands for two calls of a ReLU."""
    named = [
        ("conv1", (2, 6, 12, 12), 456), ("act", (2, 6, 12, 12), 0), ("features.0", (2, 12, 6, 6), 12),
        ("features.0.conv", (2, 12, 6, 6), 648), ("features.0.bn", (2, 12, 6, 6), 24), ("features.1", (2, 12, 6, 6), 0),
        ("act", (2, 12, 6, 6), 0), ("fc", (2, 10), 4330),
    ]  # fmt: skip
    tables = [Network.parse(text).shapes() for text in (
        summary_texts.TORCHINFO_NAMES, summary_texts.TORCHINFO, summary_texts.TORCHINFO_WITHOUT_INPUT)]  # fmt: skip
    names, plain, blind = ([(row.path, row.shape, row.parameters) for row in rows] for rows in tables)
    assert names == named
    assert [one[1:] for one in plain] == [one[1:] for one in named]
    assert [path for path, *_ in plain] == ["1-1", "1-2", "2-1", "3-1", "3-2", "2-2", "1-4", "1-5"]
    assert blind == [(path, None, count) for path, count in zip(
        ("1-1", "2-1", "3-1", "3-2", "2-2", "1-3", "1-4"), (456, 12, 648, 24, 0, 0, 4330), strict=True)]  # fmt: skip
    rows = Network.parse(summary_texts.TORCHSUMMARY).shapes((5, 3, 16, 16))
    assert [(row.kind, row.parameters) for row in rows if row.parameters] == [
        ("Conv2d", 456), ("Conv2d", 648), ("BatchNorm2d", 24), ("Linear", 4330)]  # fmt: skip
    assert {row.shape[0] for row in rows} == {5}
