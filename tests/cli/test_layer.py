"""``convspec source`` and ``convspec show`` as a user meets them: their whole text, as it was read once."""

import ast
import json
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from convspec import ConvSpec
from convspec.cli.app import app
from convspec.layers import sentences

GOLDEN = Path(__file__).parents[1] / "golden"
TORCH = "nn.Conv2d(3, 16, 3, stride=2, padding=1)"
SOURCES = {
    "torch_to_keras": [TORCH, "--to", "keras", "--input", "1,3,32,30"],
    "torch_valid_to_keras": ["nn.Conv2d(3, 16, 3, stride=2, padding='valid')", "--to", "keras"],
    "keras_to_torch": [
        "Conv2D(16, 3, strides=2, padding='same', activation='relu')",
        "--to",
        "torch",
        "--in-channels",
        "3",
    ],
    "flax_to_onnx": ["nnx.Conv(3, 16, (3, 4), strides=2, rngs=nnx.Rngs(0))", "--to", "onnx"],
    "torch_transposed_to_flax": ["nn.ConvTranspose2d(4, 6, 3, 2, 1, 1)", "--to", "flax"],
    "onnx_to_linen": ["Conv(W=[6, 2, 3, 5], B=[6], group=2, pads=[0, 1, 2, 3])", "--to", "flax-linen"],
    "json_to_torch": [ConvSpec(3, 8, 3).to_json(), "--to", "torch"],
}
SHOWN = {
    "strided": [TORCH, "--input", "1,3,32,30", "--flatten"],
    "causal": ["Conv1D(4, 3, padding='causal', dilation_rate=2)", "--in-channels", "2"],
    "transposed": ["nn.ConvTranspose2d(4, 6, (3, 4), 2, 1, 1)", "--input", "1x4x5x6"],
    "grouped_3d": ["nn.Conv3d(4, 6, (3, 2, 1), 2, 1, groups=2, bias=False, padding_mode='circular')"],
    "same": [ConvSpec(3, 8, (3, 5), (2, 3), "same").to_json(), "--input", "2,33,40,3", "--layout", "NHWC"],
    "chain": ["nn.Conv2d(1, 6, 5, padding=2)", "Conv2D(16, 5, 2)", "--input", "1,1,28,28", "--flatten"],
}  # fmt: skip

NETWORK = """class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(64 * 7 * 7, 120)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = torch.flatten(x, 1)
        return self.fc1(x)
"""
NETWORKS = {"network": ("1,1,32,32", 0), "network_misfit": ("1,1,28,28", 1)}


def command(*arguments, stdin=""):
    return CliRunner().invoke(app, list(arguments), input=stdin)


def compare(path, text):
    """CONVSPEC_UPDATE_GOLDEN=1 writes the file anew, for a person to read."""
    if os.environ.get("CONVSPEC_UPDATE_GOLDEN"):
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("form", ["txt", "md"])
def test_golden_network(name, form, tmp_path):
    shape, status = NETWORKS[name]
    (tmp_path / "net.py").write_text(NETWORK)
    more = ["--markdown", "-"] if form == "md" else []
    done = command("show", f"{tmp_path / 'net.py'}:Net", "--input", shape, *more)
    assert done.exit_code == status
    compare(GOLDEN / "show" / f"{name}.{form}", done.stdout)


def test_a_network_as_json():
    done = command("show", "-", "--input", "1,1,28,28", "--json", "-", stdin=NETWORK)
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert [row["output"] for row in document["rows"]][-1] == [1, 2304]
    assert [mend["words"] for mend in document["error"]["mends"]] == [
        "in_features=2304 in fc1", "padding=1 in conv2", "an input of 1 × 1 × 32 × 32",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere/net.py"], "nowhere/net.py"),
        (["{net}:Other"], "the text has no 'Other'"),
        (["nn.Sequential(nn.Conv2d(1, 2, 3, strides=2))"], "did you mean 'stride'"),
        (["hk.Sequential([hk.Conv2D(1, 2)])"], "no framework that is read here"),
        (["nn.Sequential(nn.ReLU())", "--input", "1,2", "--input", "1,3"], "the network has 1 input(s), and 2 shapes"),
    ],
)
def test_a_network_that_cannot_be_read_is_a_wrong_request(arguments, words, tmp_path):
    (tmp_path / "net.py").write_text(NETWORK)
    done = command("show", *(a.format(net=tmp_path / "net.py") for a in arguments))
    assert done.exit_code == 2
    assert words in done.stderr


@pytest.mark.parametrize("name", SOURCES)
def test_golden_source(name):
    done = command("source", *SOURCES[name])
    assert done.exit_code == 0, done.stderr
    ast.parse(done.stdout)  # remarks are comments: it stays a program
    assert max(map(len, done.stdout.splitlines())) <= 100
    compare(GOLDEN / "source" / f"{name}.txt", done.stdout)


@pytest.mark.parametrize("name", SHOWN)
def test_golden_show(name):
    done = command("show", *SHOWN[name], "--adapters", "flax,keras,onnx,torch")
    assert done.exit_code == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert not re.search(r"[ \t]$", done.stdout, re.M)
    compare(GOLDEN / "show" / f"{name}.txt", done.stdout)


def test_source_is_also_data(tmp_path):
    file = tmp_path / "it.json"
    done = command("source", TORCH, "--to", "keras", "--json", str(file))
    assert "keras.layers.Conv2D" in done.stdout
    data = json.loads(file.read_text())
    assert ConvSpec.from_dict(data["spec"]) == ConvSpec(3, 16, 3, 2, 1)
    assert {"composed", "kernel-order"} <= {remark["id"] for remark in data["remarks"]}
    assert json.loads(command("source", TORCH, "--to", "keras", "--json", "-").stdout)["source"] in done.stdout


def test_what_cannot_be_said_is_status_2_with_the_reason():
    done = command("source", ConvSpec(3, 8, (3,) * 4).to_json(), "--to", "torch")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "torch cannot express this layer: torch has no convolution with 4 spatial axes" in done.stderr


def test_layers_of_a_chain_get_their_channels_from_the_one_before():
    layers = '["Conv2D(8, 3)", "Conv2D(16, 3)", {"in_channels": 16, "out_channels": 4, "kernel_size": 1}]'
    done = command("show", layers, "--in-channels", "3", "--json", "-")
    data = json.loads(done.stdout)
    assert [entry["spec"]["in_channels"] for entry in data["layers"]] == [3, 8, 16]


def test_show_is_also_data():
    data = json.loads(command("show", TORCH, "--input", "1,3,32,30", "--flatten", "--json", "-").stdout)
    assert data["output"] == [1, 16, 16, 15]
    assert data["frameworks"]["keras"]["kernel"] == [3, 3, 3, 16]
    assert data["flatten"]["in_features"] == 16 * 16 * 15
    assert data["sizes"] == {"H": "⌊(32 + 1 + 1 - 3) / 2⌋ + 1 = 16", "W": "⌊(30 + 1 + 1 - 3) / 2⌋ + 1 = 15"}
    assert data["drawing"]["lines"]


def test_the_shape_is_in_the_layout_of_the_first_layer_unless_told_otherwise():
    keras, shape = "layers.Conv2D(8, 3, activation='relu', input_shape=(28, 30, 1))", ["--input", "2,28,30,1"]
    shown = json.loads(command("show", keras, *shape, "--json", "-").stdout)
    assert (shown["layout"], shown["output"]) == ("NHWC", [2, 26, 28, 8])
    first = json.loads(command("show", keras, "--input", "2,1,28,30", "--layout", "NCHW", "--json", "-").stdout)
    assert first["output"] == [2, 8, 26, 28]
    chain = json.loads(command("show", keras, "nn.Conv2d(8, 4, 3)", *shape, "--json", "-").stdout)
    assert chain["output"] == [2, 24, 26, 4]


def test_what_show_writes_of_a_layer_it_reads():
    spec = ConvSpec(4, 6, (3, 5), (2, 1), 1, groups=2, bias=False)
    written = json.loads(command("show", repr(spec), "--json", "-").stdout)["frameworks"]
    for name in ("equinox", "flax", "torch"):
        again = command("show", written[name]["constructor"], "--json", "-")
        assert ConvSpec.from_dict(json.loads(again.stdout)["spec"]) == spec, name


def test_the_code_of_a_composed_layer_is_whole():
    shown = command("show", TORCH).stdout
    assert "keras.layers.ZeroPadding2D(1),\n                keras.layers.Conv2D(16, 3, strides=2" in shown


def test_a_spec_may_come_by_standard_input():
    assert command("show", "-", stdin=TORCH).stdout == command("show", TORCH).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", TORCH, "nn.Conv2d(7, 8, 3)"], "layer 0 has out_channels=16, layer 1 in_channels=7; set layer 0's"),
        (["show", TORCH, "--input", "1,4,32,32"], "axis 1 (C of NCHW) must be in_channels=3, but is 4"),
        (["show", TORCH, "--input", "1,3,four"], "must be sizes like 1,3,32,32"),
        (["show", TORCH, "--flatten"], "--flatten needs --input"),
        (["show", "[1, "], "must be JSON"),
        (["show", "Conv2D(16, 3)"], "give in_channels as well"),
        (["show", "[]"], "must hold at least one layer"),
        (["source", "nn.Conv(3, 16, 3)", "--to", "torch"], "write nnx.Conv or linen.Conv"),
        (["source", TORCH, "--to", "kears"], "did you mean 'keras'"),
        (["source", TORCH, "--to", "keras", "--layout", "NHCW"], "unknown layout"),
    ],
)
def test_a_wrong_request_is_status_2(arguments, words):
    done = command(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("convspec: ")
    assert words in done.stderr


@pytest.mark.parametrize("text", ["nn.Conv2d(3, 16, '\x1b[31m')", "nn.Conv2d(3, n, 3) # \x1b[31m", "\x9b31m("])
def test_no_escape_sequence_of_a_text_reaches_the_terminal(text):
    done = command("source", text, "--to", "keras")
    assert done.exit_code == 2
    assert not {"\x1b", "\x9b"} & set(done.stderr)


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        (ConvSpec(3, 4, (3, 5), (2, 3), ((1, 0), (2, 2)), (2, 1)), (17, 23)),
        (ConvSpec(3, 4, (3, 5), (2, 3), "same", (2, 1)), (17, 23)),
        (ConvSpec(3, 4, (3, 5), (2, 3), ((1, 0), (2, 2)), (2, 1), transposed=True, output_padding=(1, 2)), (4, 6)),
        (ConvSpec(3, 4, (3, 5), (2, 3), "same", transposed=True), (4, 6)),
        (ConvSpec(3, 4, 3), (5, 7)),
    ],
)
def test_formulas_are_true(spec, size):
    shape = spec.output_shape((1, 3, *size))
    for (letter, formula), wanted in zip(sentences.size_formulas(spec, size), shape[2:], strict=True):
        left, right = formula.split(", ")[0].split(" = ")
        code = left.replace("·", "*").replace("/", "//").translate(str.maketrans("⌊⌋", "()"))
        code = re.sub(r"⌈(\d+) // (\d+)⌉", r"-(-\1 // \2)", code)
        assert eval(code) == int(right) == wanted, (letter, formula)
    assert [letter for letter, _ in sentences.size_formulas(spec)] == ["H", "W"]


def test_every_field_that_matters_has_its_sentence():
    spec = ConvSpec(4, 6, (3, 5), 2, 1, 2, 2, False, transposed=True, output_padding=1)
    assert [name for name, _, _ in sentences.meanings(spec)] == [
        *("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation"),
        *("groups", "output_padding", "bias"),
    ]
    circular = ConvSpec(1, 1, 3, padding=1, padding_mode="circular")
    border = "the pads repeat the pixels of the opposite side"
    assert ("padding_mode", "circular", border) in [*sentences.meanings(circular)]
    assert (
        sentences.summary(ConvSpec(4, 8, 3, groups=4)) == "A 2-D depthwise convolution: 8 filters of 1 × 3 × 3 numbers."
    )
    assert sentences.parameter_formula(ConvSpec(64, 128, 3)) == "128·64·3·3 + 128 = 73,856"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (dict(stride=1), "the window moves 1 pixel per step"),
        (dict(stride=2), "the window moves 2 pixels per step, so the output is about half the size"),
        (dict(stride=3), "the window moves 3 pixels per step, so the output is about a third of the size"),
        (dict(stride=8), "the window moves 8 pixels per step, so the output is about 1/8 of the size"),
        (dict(stride=(2, 3)), "the window moves 2 × 3 pixels per step, so the output is about 2 × 3 times smaller"),
        (dict(stride=2, ndim=1), "the window moves 2 elements per step, so the output is about half the size"),
        (
            dict(stride=2, transposed=True),
            "neighbouring inputs are written 2 pixels apart, so the output is about twice the size",
        ),
        (
            dict(stride=(2, 3), transposed=True),
            "neighbouring inputs are written 2 × 3 pixels apart, so the output is about 2 × 3 times larger",
        ),
    ],
)
def test_the_stride_is_explained_by_its_effect(fields, words):
    assert {name: text for name, _, text in sentences.meanings(ConvSpec(1, 1, 3, **fields))}["stride"] == words


def test_show_writes_the_picture(tmp_path):
    file = tmp_path / "layer.svg"
    done = command("show", TORCH, "--input", "1,3,32,30", "--svg", str(file))
    assert done.exit_code == 0, done.stderr
    assert file.read_text("utf-8").startswith("<svg ")
    assert "What the numbers mean" in done.stdout
    chain = command("show", "nn.Conv1d(1, 6, 5, padding=2)", "nn.Conv1d(6, 16, 5)", "--svg", "-")
    assert chain.stdout.startswith("<svg ")
    assert "Receptive field of 2 layers: 9 elements" in chain.stdout


def test_show_reads_a_spec_as_its_repr_writes_it():
    spec = ConvSpec(3, 8, (3, 5), (2, 3), "same")
    assert command("show", repr(spec)).stdout == command("show", spec.to_json()).stdout
