"""What is said where a framework is missing: what is needed, and the line that installs it."""

from importlib.metadata import entry_points

import pytest

from convspec.conformance.environment import installed_adapters
from convspec.contract import registry
from convspec.errors import RequestError


@pytest.mark.parametrize(
    ("adapter", "missing", "what"),
    [
        ("torch", ["torch"], "'convspec[torch]'"),
        ("torch:channels_last", ["torch"], "'convspec[torch]'"),
        ("flax-linen", ["flax", "jax"], "'convspec[flax]'"),
        ("equinox", ["equinox", "jax"], "'convspec[equinox]'"),
        ("keras", ["tensorflow"], "'convspec[keras]'"),
        ("keras-torch", ["keras", "torch"], "'convspec[keras]' torch"),
        ("keras-jax", ["jax"], "jax"),
        ("onnx-reference", ["onnx"], "'convspec[onnx]'"),
    ],
)
def test_the_line_brings_what_is_missing(adapter, missing, what):
    assert registry.remedy(adapter, missing) == f"pip install {what}"


def test_the_sentence_is_one_of_one_and_of_many():
    assert registry.sentence("onnx", ["onnx"]) == (
        "adapter 'onnx' needs onnx, which is not installed: pip install 'convspec[onnx]'"
    )
    assert "needs flax and jax, which are not installed: pip" in registry.sentence("flax", ["flax", "jax"])


def test_of_an_adapter_that_no_distribution_has_no_line_is_known(monkeypatch):
    assert registry.sentence("mine", ["mylib"]) == "adapter 'mine' needs mylib, which is not installed"
    (torch,) = entry_points(group="convspec.adapters", name="torch")
    monkeypatch.setattr(type(torch.dist), "requires", property(lambda _: ["numpy>=2"]))
    assert registry.remedy("torch", ["torch"]) == ""


def test_where_nothing_is_installed_one_line_says_what_to_do():
    names = ("flax", "onnx", "torch")
    absent = {name: registry.sentence(name, [name]) for name in names}
    with pytest.raises(RequestError) as failure:
        installed_adapters(dict.fromkeys(names), absent, None)
    said = str(failure.value)
    assert said.count("pip install") == 1
    assert said.endswith(
        "pip install 'convspec[torch]'. The same holds for flax, onnx; `convspec adapters` lists what each needs"
    )
