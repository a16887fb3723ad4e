"""A network in the words of each framework; that these programs run and agree is shown by the frameworks' own tests."""

import ast
import os
from pathlib import Path

import pytest

from convspec import Network, UnsupportedError

GOLDEN = Path(__file__).parents[1] / "golden" / "source"
TARGETS = ("torch", "keras", "flax", "flax-linen")
SEQUENCE = (
    "nn.Sequential(nn.Conv2d(1, 6, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), "
    "nn.Linear(96, 10))"
)
BRANCHES = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = torch.cat([self.left(x), self.right(x)], dim=1)
        x = self.norm(x) * 2
        return self.head(x.mean((2, 3)))
"""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("name", "text", "shape"), [
    ("sequence", SEQUENCE, (2, 1, 16, 18)), ("branches", BRANCHES, (2, 3, 6, 8)),
])  # fmt: skip
def test_golden(target, name, text, shape):
    code = Network.parse(text).source(target, shape)
    assert code.missing == ()
    ast.parse(code.source)
    path = GOLDEN / f"network_{name}_{target}.txt"
    if os.environ.get("CONVSPEC_UPDATE_GOLDEN"):
        path.write_text(str(code), "utf-8")
    assert str(code) == path.read_text("utf-8")


def test_what_has_no_counterpart_raises_in_its_place():
    code = Network.parse("nn.Sequential(nn.Conv2d(1, 2, 3), nn.LPPool2d(2, 2))").source("keras", (1, 1, 8, 8))
    assert [path for path, _ in code.missing] == ["1"]
    assert "raise NotImplementedError('1: " in code.source
    assert "# 1 has no counterpart: " in str(code)


def test_an_adapter_without_words_is_named():
    with pytest.raises(UnsupportedError, match="adapter 'openvino' writes no networks"):
        Network.parse(SEQUENCE).source("openvino", (2, 1, 16, 18))
