"""What the calculator page computes, without a browser: on the standard library alone."""

import json
import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from convspec import ConvSpec
from convspec.layers.calculator import MAX_LAYERS, calculate, fields_of, written
from convspec.layers.translation import translate
from convspec.spec import layouts
from convspec.strategies import specs

RESULT = "found['network']['outputs']"
TORCH = "nn.Conv2d(3, 16, (3, 5), stride=2, padding=1)"


def rows(found):
    return dict(found["layers"][0]["rows"])


def test_a_layer():
    found = calculate(TORCH, "1, 3, 32, 30")
    spec = ConvSpec(3, 16, (3, 5), 2, 1)
    assert found["layers"][0]["title"] == repr(spec)
    assert rows(found)["output (NCHW)"] == "1 × 16 × 16 × 14"
    assert rows(found)["output W"] == "⌊(30 + 1 + 1 - 5) / 2⌋ + 1 = 14"
    assert rows(found)["parameters"] == "16·3·3·5 + 16 = 736"
    assert rows(found)["MACs"] == f"16·3·3·5 × 16·14 = {spec.macs((1, 3, 32, 30)):,}"
    assert rows(found)["receptive field"] == "3 × 5 pixels; outputs are 2 pixels apart, the first is centred on (0, 1)"
    assert json.loads(json.dumps(found)) == found


def test_every_framework_has_its_program_and_remarks():
    found = calculate(TORCH, "1, 3, 32, 30")["layers"][0]["frameworks"]
    assert [entry["name"] for entry in found[:4]] == ["PyTorch", "Flax", "Keras", "ONNX"]
    assert [entry["adapter"] for entry in found if entry["origin"]] == ["torch"]
    for entry in found:
        wanted = translate(TORCH, entry["adapter"], input_shape=(1, 3, 32, 30))
        assert entry["source"] == wanted.source
        assert entry["remarks"] == [remark.to_dict() for remark in wanted.remarks]


@pytest.mark.parametrize("size", ["32", "32, 32", "32x32", "1, 32, 32, 3", "(1, 32, 32, 3)"])
def test_sizes_may_be_written_in_many_ways(size):
    found = calculate("keras.layers.Conv2D(16, 3, strides=2, padding='same')", size, "", "3")
    assert found["layout"] == "NHWC"
    assert rows(found)["output (NHWC)"] == "1 × 16 × 16 × 16"
    assert rows(found)["same for this input"] == "padding=((0, 1), (0, 1))"


@pytest.mark.parametrize(
    "size", ["3,32,30", "3×32×30", "1×3×32×30", "32, 30", "1, 32, 30, 3", "32x30x3", "[1, 32, 30, 3]"]
)
def test_a_batch_may_be_left_out_and_nhwc_is_recognised(size):
    found = calculate(TORCH, size)
    first = size.strip("[").startswith(("3,", "3×", "1×", "32, 30"))
    assert rows(found)["output (NCHW)" if first else "output (NHWC)"] == (
        "1 × 16 × 16 × 14" if first else "1 × 16 × 14 × 16"
    )
    assert found.get("note", "") == (
        "" if first else "1 × 32 × 30 × 3 is read as NHWC; the tensors of this layer's framework are NCHW."
    )


def test_a_layout_that_was_chosen_is_not_guessed():
    assert "this looks like NHWC" in calculate(TORCH, "1, 32, 30, 3", "NCHW")["error"]["lines"][0]
    assert "this looks like NCHW" in calculate(TORCH, "3, 32, 30", "NHWC")["error"]["lines"][0]
    assert calculate(TORCH, "3, 32, 3")["layout"] == "NCHW"  # both fit: the framework's own


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ("224, 225", "Drawn for an input of 8 × 9, with the same pads and windows as for yours."),
        ("", "Drawn for an input of 7 × 9."),
        ("6, 7", ""),
    ],
)
def test_the_picture_says_of_which_size_it_is(size, said):
    found = calculate("ConvSpec(3, 8, (3, 5), stride=2, padding='same')", size)["layers"][0]
    assert found["drawn"] == said
    assert found["picture"]


def test_without_a_size_there_are_letters():
    found = calculate(TORCH)
    assert rows(found)["output H"] == "⌊(H + 1 + 1 - 3) / 2⌋ + 1"
    assert "MACs" not in rows(found)


def test_a_chain_of_pasted_lines():
    program = """
        import torch.nn as nn
        self.first = nn.Conv2d(1, 6, 5, padding=2)
        self.second = keras.layers.Conv2D(
            16, 5, strides=2)
    """
    found = calculate(program, "28")
    assert dict(found["rows"]) == {
        "input (NCHW)": "1 × 1 × 28 × 28",
        "output": "1 × 16 × 12 × 12",
        "parameters": "2,572",
        "MACs": "463,200",
        "receptive field": "9 × 9 pixels; outputs are 2 pixels apart, the first is centred on (2, 2)",
        "Linear/Dense after a flatten": "in_features = 2,304",
    }
    assert "Receptive field of 2 layers: 9 elements" in found["picture"]
    assert [rows({"layers": [entry]})["output (NCHW)"] for entry in found["layers"]] == [
        "1 × 6 × 28 × 28",
        "1 × 16 × 12 × 12",
    ]


NETWORK = "nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(864, 10))"


@pytest.mark.parametrize("size", ["28", "28, 28", "1, 1, 28, 28", "1,28,28", "28×28×1"])
def test_a_network_is_a_table(size):
    found = calculate(NETWORK, size)["network"]
    assert found["table"]["head"] == ["layer", "kind", "settings", "output", "parameters", "MACs", "field"]
    assert [row[3] for row in found["table"]["rows"]] == ["1×6×24×24", "1×6×24×24", "1×6×12×12", "1×864", "1×10"]
    assert json.loads(json.dumps(found)) == found
    assert ET.fromstring(found["picture"]).find("{*}desc").text == (
        "Boxes to scale, one for each size on the way: input 1 × 28 × 28; 0 6 × 24 × 24; 2 6 × 12 × 12; 3 864; 4 10."
    )


@pytest.mark.parametrize("size", ["28", "1, 28, 28", "28, 28, 1"])
def test_a_network_of_single_samples_has_no_batch(size):
    text = "eqx.nn.Sequential([eqx.nn.Conv2d(1, 6, 5, key=key), eqx.nn.Lambda(jax.nn.relu), eqx.nn.MaxPool2d(2, 2)])"
    found = calculate(text, size)["network"]
    assert [row[3] for row in found["table"]["rows"]] == ["6×24×24", "6×24×24", "6×12×12"]


def test_a_network_that_does_not_fit_marks_its_row_and_names_mends():
    found = calculate(NETWORK, "32")["network"]
    assert found["table"]["misfit"]
    assert found["table"]["rows"][-1][:2] == ["4", "Linear"]
    assert found["error"]["mends"][0]["words"] == "in_features=1176 in 4 (Linear)"


def test_a_network_without_a_size_has_its_parameters():
    assert [row[3] for row in calculate(NETWORK)["network"]["table"]["rows"]] == ["156", "", "", "", "8,650"]


@pytest.mark.parametrize(
    ("given", "at", "line"),
    [
        (("",), "layer", "no layer: type one"),
        (("nn.Conv2d(3, 16, 3, groups=2)",), "layer", "groups=2 must divide in_channels=3"),
        (("nn.Conv2d(3, 16, kernel)",), "layer", "kernel_size must be a literal"),
        (("nn.Conv2d(3, 16, 3)\nnn.Conv2d(8, 16, 3)",), "layer", "layers 0 and 1 must fit"),
        (("Conv2D(16, 3)",), "in_channels", "give in_channels as well"),
        (("Conv2D(16, 3)", "", "", "three"), "in_channels", "must be a whole number"),
        (("nn.Conv2d(3, 16, 3)", "", "", "4"), "layer", "contradicts"),
        (("nn.Conv2d(3, 16, 3)", "1, 4, 9, 9"), "input", "must be in_channels=3"),
        (("nn.Conv2d(3, 16, 3)", "2"), "input", "the kernel spans 3 cells"),
        (("nn.Conv2d(3, 16, 3)", "a lot"), "input", "must be numbers such as"),
        (("nn.Conv2d(3, 16, 3)", "32", "HWCN"), "input", "unknown layout"),
        (("nn.Conv2d(3, 16, 12345678901)",), "layer", "more than 9 digits"),
        (("nn.Conv2d(3, 16, 3)\n" * 2000,), "layer", "characters, more than"),
        (("nn.Conv2d(3, 3, 3)\n" * (MAX_LAYERS + 1),), "layer", "layers are more than"),
        (('{"a":' * 3000,), "layer", "must be JSON"),
        (("ConvSpec(3, 16)",), "layer", "needs kernel_size"),
        (("ConvSpec(3, 16, 3, strides=2)",), "layer", "did you mean 'stride'"),
    ],
)
def test_what_is_wrong_is_said(given, at, line):
    error = calculate(*given)["error"]
    assert error["at"] == at
    assert any(line in said for said in error["lines"]), error


@settings(deadline=None, max_examples=60)
@given(specs())
def test_the_form_and_the_repr_give_the_same_layer(spec):
    for text in (written(fields_of(spec)), repr(spec), spec.to_json()):
        found = calculate(text)
        assert found["layers"][0]["title"] == repr(spec), text
        assert found["fields"] == fields_of(spec)
        drawn = found["layers"][0]["picture"]
        assert (
            ET.fromstring(drawn).tag.endswith("svg") if drawn else "cannot be read" in found["layers"][0]["no_picture"]
        )


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=60), st.text(max_size=20), st.text(max_size=5), st.text(max_size=5))
@example("0", "", "", "1\x1f")
def test_no_text_is_too_strange(text, size, layout, channels):
    found = calculate(text, size, layout, channels)
    assert "layers" in found or found["error"]["lines"]


@pytest.mark.parametrize("huge", ["999999999, padding=499999999", "3, dilation=999999999", "999999999, 999999999"])
def test_large_numbers_cost_nothing(huge):
    found = calculate(f"nn.Conv2d(3, 16, {huge})")["layers"][0]
    assert found["picture"] == ""
    assert found["no_picture"] == "a picture has at most 64 elements along an axis"


@pytest.mark.parametrize(
    ("text", "size", "shown"),
    [
        (TORCH, "32", "found['layers'][0]['rows'][3][1] == '1 × 16 × 16 × 15'"),
        ("nn.Conv2d(3, 16, kernel)", "32", "'must be a literal' in found['error']['lines'][0]"),
        (NETWORK, "28", f"{RESULT} == [[1, 10]]"),
        (
            "keras.Sequential([keras.Input((9, 9, 1)), layers.Conv2D(2, 3)])",
            "9",
            "found['network']['outputs'] == [[1, 7, 7, 2]]",
        ),
        (
            "nnx.Sequential(nnx.Conv(1, 2, (3, 3), rngs=rngs), nnx.relu)",
            "9",
            "found['network']['outputs'] == [[1, 9, 9, 2]]",
        ),
    ],
)
def test_it_needs_the_standard_library_only(text, size, shown):
    blocked = ["numpy", "rich", "typer", "torch", "flax", "jax", "keras", "tensorflow", "onnx", "onnxruntime"]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.modules.update(dict.fromkeys({blocked}))\n"
         f"from convspec.layers import calculate\nfound = calculate({text!r}, {size!r})\nassert {shown}, found"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_layouts_of_a_chain_are_the_first_layers():
    assert calculate("Conv2D(4, 3)\nnn.Conv2d(4, 5, 3)", "9", "", "2")["layout"] == layouts.CHANNELS_LAST
