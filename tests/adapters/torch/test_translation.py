"""Live PyTorch models written anew, given the weights, run and compared; random networks, by what both compute."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

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


def test_what_has_no_counterpart_is_status_1(module):
    done = command("source", f"{module}:odd", "--to", "torch", "--input", "1,3,8,12", "--json", "-")
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert document["verdict"] is None
    assert [path for path, _ in document["missing"]] == ["1"]


def test_a_model_needs_an_input(module):
    done = command("source", f"{module}:build", "--to", "torch")
    assert done.exit_code == 2
    assert "--input" in done.stderr
