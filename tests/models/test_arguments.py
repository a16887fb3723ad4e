"""Models and inputs named on a command line."""

from __future__ import annotations

import numpy as np
import pytest

from convspec.errors import RequestError
from convspec.models import arguments


def test_a_factory_is_imported_from_the_working_directory_and_called(tmp_path, monkeypatch):
    (tmp_path / "my_models_here.py").write_text("def build():\n    return 'a model'\nready = 5\n")
    monkeypatch.chdir(tmp_path)
    assert arguments.model("my_models_here:build") == "a model"
    assert arguments.model("my_models_here:ready") == 5
    with pytest.raises(RequestError, match="has no 'other'"):
        arguments.model("my_models_here:other")


@pytest.mark.parametrize("name", ["nothing", "a b:c", "os.system('x'):y", "model.pt", "no_such_module_at_all:build"])
def test_other_names_are_refused(name):
    with pytest.raises(RequestError):
        arguments.model(name)


def test_a_missing_file():
    with pytest.raises(RequestError, match="no file"):
        arguments.model("missing.onnx")


def test_inputs(tmp_path):
    x = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "named.npz", image=x)
    np.savez(tmp_path / "numbered.npz", x)
    assert np.array_equal(arguments.inputs(str(tmp_path / "x.npy"), None, 0)[0], x)
    assert list(arguments.inputs(str(tmp_path / "named.npz"), None, 0)) == ["image"]
    assert np.array_equal(arguments.inputs(str(tmp_path / "numbered.npz"), None, 0)[0], x)
    assert [a.shape for a in arguments.inputs(None, "1,2,3;4,5", 0)] == [(1, 2, 3), (4, 5)]
    assert arguments.inputs(None, None, 0) is None


def test_pickled_objects_are_not_read(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(RequestError, match="plain arrays"):
        arguments.inputs(str(tmp_path / "x.npy"), None, 0)


@pytest.mark.parametrize("shape", ["", "1,x", "0,3", "99999999999,9"])
def test_bad_shapes(shape):
    with pytest.raises(RequestError, match="no shape"):
        arguments.inputs(None, shape, 0)
