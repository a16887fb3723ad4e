"""Every message that the documentation explains is what the framework says today; each framework in its own process."""

import inspect
import tomllib
import traceback
import warnings
from pathlib import Path

import pytest
import site_messages

import convspec

ROOT = Path(__file__).parents[2]
DATA = {kind: site_messages.errors(kind) for kind in ("error", "reported")}
PAGES = tomllib.loads((ROOT / "docs" / "_data" / "parameters.toml").read_text("utf-8"))
FRAMEWORKS = tuple(site_messages.EXPLAINED)
_spaces: dict[str, dict[str, object]] = {}


def namespace(framework):
    if framework not in _spaces:
        _spaces[framework] = {}
        exec(site_messages.tables(framework)["setup"], _spaces[framework])
    return _spaces[framework]


@pytest.mark.parametrize(
    "error", [pytest.param(e, id=e["id"], marks=getattr(pytest.mark, e["framework"])) for e in DATA["error"]]
)
def test_the_framework_says_so_and_it_is_explained(error, capfd):
    space = namespace(error["framework"])
    if error.get("printed"):
        exec(error["code"], space)
        said = text = " ".join(capfd.readouterr().err.split())
        assert " ".join(error["says"].split()) in said
        assert error["id"] in [one.id for one in convspec.explain(text)]
        return
    if error.get("warning"):
        if error["framework"] == "torch":  # which warns once in a process
            exec("torch.set_warn_always(True)", space)
        with pytest.warns(UserWarning) as warned:  # noqa: PT030 – the message is compared below
            exec(error["code"], space)
        said = text = " ".join(" ".join(str(one.message) for one in warned).split())
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(Exception) as caught:  # noqa: PT011 – which it is, is what the message tells
                exec(error["code"], space)
        said, text = " ".join(str(caught.value).split()), "".join(traceback.format_exception(caught.value))
        if not error["says"]:
            assert said == ""
            assert error["title"].startswith(caught.type.__name__)
    assert " ".join(error["says"].split()) in said
    assert error["id"] in [one.id for one in convspec.explain(text)]


# What people quote most when they ask for help; some words stand for the numbers of one of them.
PAINFUL = (
    "Given groups=1, weight of size",
    "could not create a primitive descriptor for the convolution forward propagation primitive",
    "Size of out_backprop doesn't match computed: actual = 3, computed = 4",
    "No algorithm worked!",
    "Failed to get convolution algorithm",
    "AssertionError",
    "operands could not be broadcast together with shapes (0,) (2,)",
    "input and filter must have the same depth: 4 vs 2",
    "Computed input depth 4 doesn't match filter input depth 2",
    "Attr 'padding' of 'Conv2D' Op passed string 'CAUSAL' not in: \"SAME\", \"VALID\"",
    "argument must be a tuple of 2 integers. Received",
    "Received: v",
    "80070057 The parameter is incorrect",
    "'aten::_convolution_mode'",
    "cannot reshape array of size 81 into shape (1,2,27)",
    "expected size 128==128, stride 25==1 at dim=1",
    "input->dims->data[3] != filter->dims->data[3] (64 != 1)",
    "Incompatible shapes: [0,9,9,3] vs. [1,1,1,4] [Op:AddV2]",
    "String padding is not implemented for transposed convolution",
    '"slow_conv2d_cpu" not implemented for',
    "Pad reflect: pre-pad (3) exceeds maximum allowed (2)",
    "Padding size should be less than the corresponding input dimension",
)


@pytest.mark.parametrize("words", PAINFUL)
def test_what_people_quote_most_is_in_the_index(words):
    found = [error for error in [*DATA["error"], *DATA["reported"]] if words in f"{error['title']} {error['says']}"]
    assert found or any(words in error["means"] for error in DATA["error"])


def test_a_message_that_was_not_run_says_where_it_was_seen():
    for error in DATA["reported"]:
        assert error["where"]
        assert "code" not in error
        assert all(link.startswith("https://github.com/") for link in error["links"]), error["id"]
        assert error["links"]
        assert set(error["parameters"]) <= set(PAGES), error["id"]
        assert error["means"].endswith(".")


def test_every_error_is_whole():
    ids = [error["id"] for error in [*DATA["error"], *DATA["reported"]]]
    assert len(set(ids)) == len(ids)
    for error in DATA["error"]:
        assert error["framework"] in FRAMEWORKS
        assert error["parameters"], error["id"]
        assert set(error["parameters"]) <= set(PAGES), error["id"]
        assert error["title"]
        assert error["means"].endswith((".", ".)", "`"))
        for fix in error.get("fix", ()):
            assert fix["text"].endswith((".", "`."))
        assert "when" not in error.get("fix", [{}])[-1], "the last fix is for every number"


@pytest.mark.parametrize("framework", [pytest.param(f, marks=getattr(pytest.mark, f)) for f in FRAMEWORKS])
def test_names_and_defaults_are_the_frameworks(framework):
    """The table of names of every parameter, compared with the installed constructors."""
    for parameter, page in PAGES.items():
        said = page[framework]
        if "name" not in said:
            continue
        transposed = page.get("layer", {}).get("transposed", False)
        if framework == "onnx":
            import onnx

            schema = onnx.defs.get_schema("ConvTranspose" if transposed else "Conv")
            assert said["name"] in schema.attributes, parameter
            assert not schema.attributes[said["name"]].required
            continue
        if framework == "openvino":
            from openvino import opset13

            operation = (opset13.convolution, opset13.convolution_backprop_data)[transposed]
            found = inspect.signature(operation).parameters[said["name"]].default
        else:
            found = inspect.signature(layers_of(framework)[transposed].__init__).parameters[said["name"]].default
        assert ("required" if found is inspect.Parameter.empty else repr(found)) == said["default"], parameter


def layers_of(framework):
    """A framework's own convolution and its transposed one."""
    if framework == "torch":
        from torch import nn

        return nn.Conv2d, nn.ConvTranspose2d
    if framework == "flax":
        from flax import nnx

        return nnx.Conv, nnx.ConvTranspose
    if framework == "equinox":
        import equinox as eqx

        return eqx.nn.Conv2d, eqx.nn.ConvTranspose2d
    if framework == "mlx":
        from mlx import nn

        return nn.Conv2d, nn.ConvTranspose2d
    from keras import layers

    return layers.Conv2D, layers.Conv2DTranspose
