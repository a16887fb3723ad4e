"""Models named on a command line: an object, a factory, an instance or a file; and the arrays of inputs."""

import textwrap

import numpy as np
import pytest

from convspec.errors import RequestError
from convspec.models import adapter_for
from convspec.models.arguments import load_inputs, load_model, read_arrays

MODELS = {
    "torch": """
        import torch
        class Net(torch.nn.Sequential):
            def __init__(self):
                super().__init__(torch.nn.Conv2d(3, 4, 3))
    """,
    "keras": """
        import keras
        class Net(keras.Sequential):
            def __init__(self):
                super().__init__([keras.Input((9, 8, 3)), keras.layers.Conv2D(4, 3)])
    """,
    "flax": """
        from flax import nnx
        class Net(nnx.Module):
            def __init__(self):
                self.conv = nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0))
            def __call__(self, x):
                return self.conv(x)
    """,
}
SOURCES = """
from functools import partial

def build(): return Net()
instance = Net()
bound = partial(Net)

class Factory:
    instance = instance
    def __call__(self): return Net()
    def method(self): return Net()

factory = Factory()
"""
FRAMEWORKS = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in MODELS]


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module of this source into the working directory, under a name of its own."""

    def write(name, source):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        return name

    monkeypatch.chdir(tmp_path)
    return write


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_class_a_factory_and_an_instance_of_each_framework_are_models(framework, module):
    pytest.importorskip(framework)
    name = module(f"{framework}_networks", textwrap.dedent(MODELS[framework]) + SOURCES)
    instance = load_model(f"{name}:instance")
    assert load_model(f"{name}:instance") is instance  # its call runs the model: it is not called
    assert load_model(f"{name}:Factory.instance") is instance
    for attribute in ("Net", "build", "bound", "factory", "factory.method"):
        made = load_model(f"{name}:{attribute}")
        assert type(made).__name__ == "Net", attribute
        assert made is not instance
    assert adapter_for(instance).name.partition("-")[0] == framework


def test_an_object_that_is_not_callable_is_the_model_itself(module):
    name = module("plain_objects", "pair = ('module', {'params': 1})\ndef build(): return pair")
    assert load_model(f"{name}:pair") is load_model(f"{name}:build")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("broken_names:none", "module 'broken_names' has no 'none'"),
        ("no_such_module:build", "there is no module 'no_such_module'"),
        ("broken_names:build", "must be a model, or take no arguments: missing a required argument: 'channels'"),
        ("broken_names:build(size=2)", "does not take these arguments: "),
        ("broken_names:build(open('x'))", "must be literals, such as weights=None"),
        ("broken_names:build(*[1])", "must be literals"),
        ("broken_names:build(1)(2)", "must be literals"),
        ("broken_names", "must be the path of a model file, or module:factory"),
        ("broken names:build", "must be the path of a model file, or module:factory"),
        ("no.onnx", "file not found: 'no.onnx'"),
        ("os.system('x'):y", "must be the path of a model file, or module:factory"),
        ("no_model.pt", "file not found: 'no_model.pt'"),
    ],
)
def test_a_name_that_is_no_model_is_refused(text, message, module):
    module("broken_names", "def build(channels): return channels")
    with pytest.raises(RequestError, match=message):
        load_model(text)


def test_a_factory_in_a_file_is_called_and_finds_what_lies_beside_it(tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "beside_the_file.py").write_text("value = {'params': 2}")
    (tmp_path / "own" / "file-of-a-model.py").write_text("import beside_the_file as b\ndef build(): return b.value, 1")
    monkeypatch.chdir(tmp_path)
    assert load_model("own/file-of-a-model.py:build") == ({"params": 2}, 1)
    for name, message in (("own/no.py:build", "file not found"), ("own/file-of-a-model.py:no", "has no 'no'")):
        with pytest.raises(RequestError, match=message):
            load_model(name)


FACTORIES = """
import enum

class Weights(enum.Enum):
    BEST = "https://example.org/best.pth"

def trained(weights="imagenet", weights_backbone=Weights.BEST, pretrained=True, class_weights=None, weights_only=True):
    if weights or weights_backbone or pretrained:
        raise OSError("no network")
    return {"params": (class_weights, weights_only)}, 0

def sized(depth, *, width=(1, 2)): return {"params": depth}, width
"""


def test_arguments_of_a_factory_are_literals(module):
    name = module("sized_factories", FACTORIES)
    assert load_model(f"{name}:sized(3)") == ({"params": 3}, (1, 2))
    assert load_model(f"{name}.py:sized(width=[4, -5], depth='x')") == ({"params": "x"}, [4, -5])


def test_a_factory_that_would_load_weights_is_called_without_them_where_they_do_not_matter(module):
    name, said = module("trained_factories", FACTORIES), []
    without = f"{name}:trained(weights=None, weights_backbone=None, pretrained=False)"
    assert load_model(f"{name}:trained", said.append) == ({"params": (None, True)}, 0) == load_model(without)
    (sentence,) = said
    assert sentence.startswith(f"called {without} (default: weights='imagenet', weights_backbone=<Weights.BEST")
    assert load_model(f"{name}:sized(3)", said.append)
    assert len(said) == 1


def test_a_factory_that_fails_is_named_with_the_place_and_the_next_step(module):
    name = module("failing_factories", FACTORIES)
    place = r"\(.*failing_factories.py:9\)"
    for call, step in (("trained", "weights=None, weights_backbone=None, pretrained=False"),
                       ("trained(weights=None)", "weights=None, weights_backbone=None, pretrained=False")):  # fmt: skip
        with pytest.raises(RequestError, match=rf"failed: OSError: no network {place}; for random weights write ") as e:
            load_model(f"{name}:{call}")
        assert str(e.value).endswith(f"'{name}:trained({step})'")
        assert isinstance(e.value.__cause__, OSError)


def test_a_module_that_lacks_a_module_of_its_own_raises_that_error(module):
    name = module("lacking", "import no_such_dependency")
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        load_model(f"{name}:build")


def test_inputs_are_arrays_of_a_file_or_random(tmp_path):
    x, y = np.arange(6.0).reshape(2, 3), np.ones(2)
    np.save(tmp_path / "one.npy", x)
    np.savez(tmp_path / "numbered.npz", x, y)
    np.savez(tmp_path / "named.npz", mask=y, image=x)
    assert list(read_arrays(tmp_path / "named.npz")) == ["mask", "image"]
    (one,) = load_inputs(str(tmp_path / "one.npy"), None, 0)
    assert np.array_equal(one, x)
    assert [a.shape for a in load_inputs(str(tmp_path / "numbered.npz"), None, 0)] == [(2, 3), (2,)]
    assert set(load_inputs(str(tmp_path / "named.npz"), None, 0)) == {"mask", "image"}
    first, second = load_inputs(None, "2,3;1", 7)
    assert (first.shape, second.shape, first.dtype) == ((2, 3), (1,), np.float32)
    assert np.array_equal(load_inputs(None, "2,3", 7)[0], first)
    assert load_inputs(None, None, 0) is None


@pytest.mark.parametrize("shape", ["", "0,3", "a", "1,x", "1,3;", "99999,99999,9", "99999999999,9"])
def test_a_malformed_shape_is_refused(shape):
    with pytest.raises(RequestError, match="is not a shape"):
        load_inputs(None, shape, 0)


def test_files_that_are_not_plain_arrays_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("no zip")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04")
    np.savez(tmp_path / "pickled.npz", np.array([{}], dtype=object))
    np.save(tmp_path / "pickled.npy", np.array([{}], object), allow_pickle=True)
    for name in ("text.npz", "cut.npz", "pickled.npz", "pickled.npy"):
        with pytest.raises(RequestError, match=r"is not an \.npz or \.npy file of plain arrays"):
            read_arrays(tmp_path / name)
    with pytest.raises(RequestError, match="cannot read"):
        read_arrays(tmp_path / "none.npz")
    with pytest.raises(RequestError, match="not both"):
        load_inputs("a.npz", "1,2", 0)
