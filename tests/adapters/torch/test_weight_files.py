"""Arrays of PyTorch's files of weights."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import convspec
from convspec.errors import RequestError

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("ending", [".pt", ".pth", ".bin"])
def test_the_tensors_of_a_checkpoint(tmp_path, ending):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, (2, 3)), torch.nn.BatchNorm2d(4))
    path = tmp_path / f"net{ending}"
    torch.save({"model": net.state_dict(), "epoch": 3, "half": [net[0].weight.bfloat16()]}, path)
    found = convspec.match_weights(path, {name: tensor.numpy() for name, tensor in net.state_dict().items()})
    assert {m.a: m.b for m in found.matches if m.a.startswith("model.0")} == {
        "model.0.weight": "0.weight",
        "model.0.bias": "0.bias",
    }
    half = next(m for m in found.matches if m.a == "half.0")
    assert str(half.relation) == "rounded to bfloat16"


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_code_is_refused(tmp_path, capsys):
    torch.save({"w": torch.ones(2), "x": Evil()}, tmp_path / "net.pth")
    with pytest.raises(RequestError, match=r"holds more than tensors: save model.state_dict\(\)"):
        convspec.match_weights(tmp_path / "net.pth")
    assert capsys.readouterr().out == ""


def test_a_torn_file_is_refused(tmp_path):
    torch.save({"w": torch.ones(200)}, tmp_path / "net.pth")
    (tmp_path / "net.pth").write_bytes((tmp_path / "net.pth").read_bytes()[:300])
    with pytest.raises(RequestError, match=r"net\.pth"):
        convspec.match_weights(tmp_path / "net.pth")


def test_weights_of_keras_are_found(tmp_path):
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((4, 3, 2, 5)).astype("f4")
    torch.save({"c.weight": torch.from_numpy(kernel)}, tmp_path / "net.pth")
    (match,) = convspec.match_weights(tmp_path / "net.pth", {"k": kernel.transpose(2, 3, 1, 0)}).matches
    assert match.relation.axes == (2, 3, 1, 0)
