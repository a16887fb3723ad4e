"""Live PyTorch models written anew, given the weights, run and compared; random networks, by what both compute."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from convspec import Network, ShapeError
from convspec.cli.app import app
from tests.pairs.translate import judge_translation

pytestmark = pytest.mark.torch
NET = """
from torch import nn
import torch

def build():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU6(), nn.AvgPool2d(2),
                        nn.Flatten(), nn.Linear(24, 5))
    return net.eval()

class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.scale = nn.Conv2d(3, 4, 3), nn.Parameter(torch.rand(4))

    def forward(self, x):
        x = self.conv(x)
        return x * self.scale.view(1, -1, 1, 1) + x + x

def scaled():
    torch.manual_seed(0)
    return Scaled().eval()

def odd():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.LPPool2d(3, 2))
"""


@pytest.mark.parametrize("seed", [0, 2, 5])
def test_random_networks_are_proved(seed):
    assert judge_translation(seed, "torch", "torch") == ("proved", "")


def command(*arguments):
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_torch_net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return Path("my_torch_net")


def test_the_command_proves_what_it_prints(module):
    done = command("source", f"{module}:build", "--to", "torch", "--input", "1,3,8,12")
    assert done.exit_code == 0, done.output
    head, _, program = done.stdout.partition("\n\n")
    first, second = head.splitlines()[:2]
    assert first == "# Written from torch for torch."
    assert second.startswith("# Run on 1×3×8×12 with the weights of the source: the models agree")
    scope = {}
    exec(program, scope)
    assert len(scope["model"]) == 6


def test_a_scale_that_is_seen_in_another_shape_is_moved(module):
    done = command("source", f"{module}:scaled", "--to", "torch", "--input", "1,3,8,12")
    assert done.exit_code == 0, done.output
    assert "the models agree" in done.stdout


def test_what_has_no_counterpart_is_status_1(module):
    done = command("source", f"{module}:odd", "--to", "torch", "--input", "1,3,8,12", "--json", "-")
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert document["verdict"] is None
    assert [path for path, _ in document["missing"]] == ["1"]


def test_a_live_model_is_read_by_a_run(module):
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten()).eval()
    read = Network.read(net, (2, 3, 8, 12))
    assert [(row.path, row.shape, row.parameters) for row in read.shapes((2, 3, 8, 12))] == [
        ("0", (2, 4, 6, 10), 112), ("1", (2, 4, 6, 10), 8), ("2", (2, 240), 0),
    ]  # fmt: skip
    assert read.shapes((1, 3, 4, 5))[-1].shape == (1, 24)
    assert "layers.Conv2D(4, 3" in read.source("keras", (2, 3, 8, 12)).source
    with pytest.raises(ShapeError, match="does not run on"):
        read.shapes((2, 4, 8, 12))


def test_a_model_needs_an_input(module):
    done = command("source", f"{module}:build", "--to", "torch")
    assert done.exit_code == 2
    assert "--input" in done.stderr


def test_show_takes_a_live_model():
    done = command("show", "torch.nn:ReLU", "--input", "1,3,8,8")
    assert "PyTorch: 0 parameters" in done.stdout
    assert "a model needs --input SHAPE: it is run" in command("show", "torch.nn:ReLU").output
