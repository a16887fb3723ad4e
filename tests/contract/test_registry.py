"""Finding adapters: by entry point, by import path, by variant."""

import sys

import pytest

from convspec.contract import registry
from convspec.errors import RequestError, UnknownName


def test_the_projects_own_adapters_come_by_entry_point():
    assert {"torch", "flax", "keras", "onnx"} <= set(registry.adapters())
    assert registry.adapter("torch").name == "torch"


def test_an_unknown_adapter_is_told_the_known_ones_and_the_nearest():
    with pytest.raises(UnknownName, match=r"unknown adapter 'torhc'; did you mean 'torch'\? Known: .*keras"):
        registry.adapter("torhc")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("TensorFlow", "keras"), ("jax", "flax"), ("pytorch", "torch"), ("Torch", "torch"), ("onnxruntime", "onnx")],
)
def test_what_others_call_a_framework_is_known(name, meant):
    with pytest.raises(UnknownName, match=f"did you mean {meant!r}"):
        registry.adapter(name)


def test_an_adapter_by_import_path():
    assert registry.adapter("convspec_fakes:GOOD").name == "good"
    assert registry.adapter("convspec_fakes:GOOD:other").variant == "other"


def test_what_cannot_be_imported_is_a_wrong_request():
    with pytest.raises(UnknownName, match="unknown adapter or module 'no_such_module'"):
        registry.adapter("no_such_module:ADAPTER")
    with pytest.raises(RequestError, match="module 'convspec_fakes' has no adapter 'NOTHING'"):
        registry.adapter("convspec_fakes:NOTHING")


def test_a_module_that_lacks_what_it_imports_says_so_itself(tmp_path, monkeypatch):
    (tmp_path / "broken_adapter_module.py").write_text("import no_such_thing_anywhere")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RequestError, match=r"cannot be imported: ModuleNotFoundError: .*no_such_thing_anywhere"):
        registry.adapter("broken_adapter_module:ADAPTER")


def test_an_unknown_variant_is_told_the_known_ones():
    with pytest.raises(UnknownName, match="default, other"):
        registry.adapter("convspec_fakes:GOOD:fastest")


def test_a_star_stands_for_every_variant_that_is_not_costly():
    found = registry.expanded(["convspec_fakes:GOOD:*", "torch", "torch"])
    assert found == ("convspec_fakes:GOOD", "convspec_fakes:GOOD:other", "torch")


def test_absence_names_what_is_missing_and_imports_nothing():
    before = set(sys.modules)
    assert "no_such_framework_at_all" in registry.absence(registry.adapter("convspec_fakes:ABSENT_MODULE"))
    assert registry.absence(registry.adapter("convspec_fakes:GOOD")) is None
    registry.absence(registry.adapter("torch"))
    assert not {"torch", "jax", "tensorflow"} & (set(sys.modules) - before)
