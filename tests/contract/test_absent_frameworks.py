"""The messages about a missing framework: what is needed, and the command that installs it."""

import json
from importlib.metadata import distribution, entry_points

import pytest

from convspec.conformance.environment import installed_adapters
from convspec.contract import registry
from convspec.errors import RequestError

CLONE = {"url": "file:///src/my%20clone", "dir_info": {"editable": True}}
WHEEL = {"url": "file:///dist/convspec-0.1.0-py3-none-any.whl", "archive_info": {}}
GIT = {"url": "https://example.org/convspec.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}


@pytest.fixture(params=[CLONE], autouse=True)
def _installed(request, monkeypatch):
    """A convspec that was installed from another place than it is."""
    kind = type(distribution("convspec"))  # the backport importlib_metadata, once imported, has a class of its own
    read = kind.read_text

    def read_text(self, name):
        return request.param and json.dumps(request.param) if name == "direct_url.json" else read(self, name)

    monkeypatch.setattr(kind, "read_text", read_text)


@pytest.mark.parametrize(
    ("adapter", "missing", "what"),
    [
        ("torch", ["torch"], "-e '/src/my clone[torch]'"),
        ("torch:channels_last", ["torch"], "-e '/src/my clone[torch]'"),
        ("flax-linen", ["flax", "jax"], "-e '/src/my clone[flax]'"),
        ("equinox", ["equinox", "jax"], "-e '/src/my clone[equinox]'"),
        ("keras", ["tensorflow"], "-e '/src/my clone[keras]'"),
        ("keras-torch", ["keras", "torch"], "-e '/src/my clone[keras]' torch"),
        ("keras-jax", ["jax"], "jax"),
        ("onnx-reference", ["onnx"], "-e '/src/my clone[onnx]'"),
    ],
)
def test_the_command_installs_what_is_missing(adapter, missing, what):
    assert registry.remedy(adapter, missing) == f"pip install {what}"


@pytest.mark.parametrize(
    ("_installed", "what"),
    [
        (CLONE, "-e '/src/my clone[fuzz]'"),
        (WHEEL, "'convspec[fuzz] @ file:///dist/convspec-0.1.0-py3-none-any.whl'"),
        (GIT, "'convspec[fuzz] @ git+https://example.org/convspec.git'"),
        (None, "-e '.[fuzz]' in a clone of convspec"),
    ],
    indirect=["_installed"],
)
def test_an_extra_comes_from_where_convspec_was_installed_from(what):
    assert registry.install_command("fuzz") == f"pip install {what}"


def test_the_sentence_names_one_module_or_several():
    assert registry.sentence("onnx", ["onnx"]) == (
        "adapter 'onnx' needs onnx, which is not installed: pip install -e '/src/my clone[onnx]'"
    )
    assert "needs flax and jax, which are not installed: pip" in registry.sentence("flax", ["flax", "jax"])


def test_an_adapter_of_no_distribution_has_no_known_command(monkeypatch):
    assert registry.sentence("mine", ["mylib"]) == "adapter 'mine' needs mylib, which is not installed"
    (torch,) = entry_points(group="convspec.adapters", name="torch")
    monkeypatch.setattr(type(torch.dist), "requires", property(lambda _: ["numpy>=2"]))
    assert registry.remedy("torch", ["torch"]) == ""


def test_where_nothing_is_installed_one_command_is_shown():
    names = ("flax", "onnx", "torch")
    absent = {name: registry.sentence(name, [name]) for name in names}
    with pytest.raises(RequestError) as failure:
        installed_adapters(dict.fromkeys(names), absent, None)
    message = str(failure.value)
    assert message.count("pip install") == 1
    assert message.endswith(
        "pip install -e '/src/my clone[torch]'. "
        "The same holds for flax, onnx; `convspec adapters` lists what each needs"
    )
