"""Whose a layer is, told by its class alone."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

import convspec
from convspec.errors import RequestError
from convspec.models.run_model import adapter_for


def of(*modules):
    """An object of a class with bases in these modules, the first its own."""
    kind = object
    for module in reversed(modules):
        kind = type("Layer", (kind,), {"__module__": module})
    return kind()


@pytest.mark.parametrize(
    ("modules", "name"),
    [
        (["torch.nn.modules.conv", "torch.nn.modules.module"], "torch"),
        (["mine", "torch.nn.modules.module"], "torch"),
        (["torch.export.exported_program"], "torch"),
        (["mine", "flax.nnx.module"], "flax"),
        (["flax.linen.linear"], "flax-linen"),
        (["onnx.onnx_ml_pb2"], "onnx"),
    ],
)
def test_the_owner_is_told_by_the_first_class_that_an_adapter_knows(modules, name):
    assert adapter_for(of(*modules)).name == name
    assert adapter_for((of(*modules), {})).name == name


@pytest.mark.parametrize(("backend", "name"), [("tensorflow", "keras"), ("jax", "keras-jax"), ("torch", "keras-torch")])
def test_keras_layers_belong_to_the_running_backend(monkeypatch, backend, name):
    keras = ModuleType("keras")
    keras.config = SimpleNamespace(backend=lambda: backend)
    monkeypatch.setitem(sys.modules, "keras", keras)
    assert adapter_for(of("mine", "keras.src.layers.layer", "torch.nn.modules.module")).name == name


@pytest.mark.parametrize("name", ["torchvision.models", "onnxscript.values", "mine", "flax.struct"])
def test_a_name_that_only_begins_alike_is_another(name):
    with pytest.raises(RequestError, match=r"Layer is no layer or model that an adapter knows: .*torch"):
        adapter_for(of(name))


def test_paths_are_those_of_onnx_files(tmp_path):
    assert adapter_for("a.onnx").name == adapter_for(tmp_path / "b.onnx").name == "onnx"
    with pytest.raises(RequestError, match="ending in"):
        convspec.convs("model.txt")
    with pytest.raises(RequestError, match="file not found"):
        convspec.convs("model.pt")
