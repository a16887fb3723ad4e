"""Networks read from their text: what runs, what does not fit, what cannot be read. The words are PyTorch's."""

import pickle
import time

import pytest

from convspec import Network, ShapeError
from convspec.errors import CallError
from convspec.layers import NetworkError, find_mends, summarize

LENET = """
class LeNet(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 5, padding=5 // 2)
        self.conv2 = nn.Conv2d(width, 16, 5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = torch.flatten(x, 1)
        return self.fc1(x)
"""


def rows(text, *shapes):
    return Network.parse(text).shapes(*shapes)


def error_of(text, *shapes):
    network = Network.parse(text)
    with pytest.raises(NetworkError) as caught:
        network.shapes(*shapes)
    return network, caught.value


def test_the_rows_of_a_class_are_its_calls_in_order():
    found = rows(LENET, (2, 1, 28, 28))
    assert [(row.path, row.kind, row.shape, row.parameters) for row in found] == [
        ("conv1", "Conv2d", (2, 6, 28, 28), 156),
        ("relu_0", "relu", (2, 6, 28, 28), 0),
        ("pool", "MaxPool2d", (2, 6, 14, 14), 0),
        ("conv2", "Conv2d", (2, 16, 10, 10), 2416),
        ("relu_1", "relu", (2, 16, 10, 10), 0),
        ("pool", "MaxPool2d", (2, 16, 5, 5), 0),
        ("flatten_0", "flatten", (2, 400), 0),
        ("fc1", "Linear", (2, 120), 48120),
    ]
    assert [row.macs for row in found if row.macs] == [2 * 6 * 28 * 28 * 25, 2 * 16 * 10 * 10 * 150, 2 * 400 * 120]


def test_without_an_input_the_text_alone_is_told():
    found = Network.parse(LENET).shapes()
    assert [row.shape for row in found] == [None] * 8
    assert [row.parameters for row in found] == [156, 0, 0, 2416, 0, 0, 0, 48120]


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())", ["0", "1"]),
        ("net = nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 3)), nn.ReLU())", ["0.0", "1"]),
        ("nn.Sequential(OrderedDict([('a', nn.Conv2d(1, 2, 3)), ('b', nn.ReLU())]))", ["a", "b"]),
        ("nn.Conv2d(1, 2, 3)\nnn.ReLU()", ["0", "1"]),
        ("nn.Conv2d(1, 2, 3),\nnn.ReLU(),\n", ["0", "1"]),
        ("conv = nn.Conv2d(1, 2, 3)\nact = nn.ReLU()", ["conv", "act"]),
        ("    self.conv = nn.Conv2d(1, 2, 3)\n    self.act = nn.ReLU()", ["conv", "act"]),
        ("layers = []\nfor n in (1, 2):\n    layers += [nn.Conv2d(n, n + 1, 3)]\nnn.Sequential(*layers)", ["0", "1"]),
        ("make = lambda n: nn.Conv2d(n, 2, 3)\nnn.Sequential(make(1), nn.ReLU() if True else None)", ["0", "1"]),
    ],
)
def test_a_sequence_in_every_spelling(text, paths):
    found = rows(text, (3, 1, 9, 11))
    assert [row.path for row in found] == paths
    assert found[0].shape == (3, 2, 7, 9)


def test_blocks_branches_and_lists_of_layers():
    text = """
def conv(i, o, **kw):
    return nn.Conv2d(i, o, 3, padding=1, **kw)

class Block(nn.Module):
    def __init__(self, n, stride=1):
        super().__init__()
        self.a, self.b = conv(n, n, stride=stride), conv(n, n)
        self.down = nn.Conv2d(n, n, 1, stride=stride) if stride != 1 else None

    def forward(self, x):
        y = self.b(F.relu(self.a(x)))
        return F.relu(y + (x if self.down is None else self.down(x)))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = conv(3, 4)
        self.blocks = nn.ModuleList([Block(4, stride=s) for s in (1, 2)])

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return x
"""
    found = rows(text, (1, 3, 8, 10))
    assert [row.path for row in found] == [
        "stem", "blocks.0.a", "blocks.0.relu_0", "blocks.0.b", "blocks.0.add_0", "blocks.0.relu_1", "blocks.1.a",
        "blocks.1.relu_0", "blocks.1.b", "blocks.1.down", "blocks.1.add_0", "blocks.1.relu_1",
    ]  # fmt: skip
    assert found[-1].shape == (1, 4, 4, 5)
    assert len(found[10].inputs) == 2


def test_a_layer_that_is_called_again_has_its_parameters_once():
    found = rows("class N(nn.Module):\n def __init__(self):\n  self.c = nn.Conv2d(2, 2, 1)\n def forward(self, x):\n"
                 "  return self.c(self.c(x))", (1, 2, 3, 4))  # fmt: skip
    assert [row.parameters for row in found] == [6, 0]
    assert [row.again for row in found] == [False, True]


@pytest.mark.parametrize(
    ("text", "shape", "path", "words", "mend"),
    [
        (LENET, (1, 1, 32, 32), "fc1", "fc1 expects 400 features, but gets 576 = 16 × 6 × 6", "in_features=576 in fc1"),
        (LENET, (1, 3, 28, 28), "conv1", "conv1 expects 1 channels, but gets 3", "in_channels=3 in conv1"),
        (LENET, (1, 28, 28, 1), "conv1", "has its channels last", "an input of 1 × 1 × 28 × 28: channels first"),
        (LENET, (1, 28, 28), "conv1", "the batch axis seems to be missing", "1 × 1 × 28 × 28: with a batch axis"),
        (LENET, (1, 1, 8, 8), "conv2", "the kernel spans 5 cells", "an input of 1 × 1 × 28 × 28"),
        (LENET.replace("x, 1)", "x)"), (2, 1, 28, 28), "fc1", "gets 800", "start_dim=1 in flatten_0"),
        ("nn.Sequential(nn.Conv2d(1, 6, 5), nn.Linear(216, 9))", (1, 1, 10, 10), "1",
         "1 (Linear) expects 216 features, but gets a tensor of 1 × 6 × 6 × 6", "a flatten before 1 (Linear)"),
        ("nn.Sequential(nn.Conv2d(1, 6, 5), nn.Conv2d(7, 2, 3))", (1, 1, 10, 10), "1",
         "1 (Conv2d) expects 7 channels, but gets 6", "out_channels=7 in 0 (Conv2d)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_with_a_mend_that_works(text, shape, path, words, mend):
    network, error = error_of(text, shape)
    assert error.path == path
    assert isinstance(error, ShapeError)
    mends = find_mends(network, error, [shape])
    assert words in mends.sentence
    named = next(one for one in mends.found if mend in str(one))
    assert named.complete
    mended = Network.parse(named.apply(text))
    assert mended.shapes(*(named.input_shapes or [shape]))
    if named.input_shapes is None:
        assert mended.text != text


@pytest.mark.parametrize(
    ("text", "shape", "written"),
    [
        ("import jax.numpy as jnp\nclass N(eqx.Module):\n def __init__(self, key):\n"
         "  self.a = eqx.nn.Conv2d(1, 2, 3, key=key)\n  self.b = eqx.nn.Linear(32, 3, key=key)\n"
         " def __call__(self, x):\n  return self.b(self.a(x))\n", (1, 6, 6), "self.b(jnp.ravel(self.a(x)))"),
        ("class N(nnx.Module):\n def __init__(self, rngs):\n"
         "  self.a = nnx.Conv(1, 2, (3, 3), padding='VALID', rngs=rngs)\n"
         "  self.b = nnx.Linear(32, 3, rngs=rngs)\n def __call__(self, x):\n  x = self.a(x)\n  return self.b(x)\n",
         (2, 6, 6, 1), "self.b(x.reshape(x.shape[0], -1))"),
    ],
    ids=["equinox", "nnx"],
)  # fmt: skip
def test_a_flatten_is_written_in_the_words_of_the_framework(text, shape, written):
    network, error = error_of(text, shape)
    mend = next(one for one in find_mends(network, error, [shape]).found if "a flatten" in str(one))
    mended = mend.apply(text)
    assert written in mended
    assert Network.parse(mended).shapes(shape)


def test_the_sizes_are_followed_back_to_the_input():
    network, error = error_of(LENET, (1, 1, 32, 32))
    sentence = find_mends(network, error, [(1, 1, 32, 32)]).sentence
    assert sentence.endswith("the sizes are 32 → 16 (pool) → 12 (conv2) → 6 (pool)")


def test_the_rows_before_the_one_that_does_not_fit_are_kept():
    document = summarize(Network.parse(LENET), (1, 1, 32, 32))
    assert [row["path"] for row in document["rows"]][-1] == "flatten_0"
    assert document["error"]["path"] == "fc1"
    assert document["error"]["line"] == 8
    assert document["error"]["row"]["settings"] == "linear 400 → 120"


def test_a_flatten_of_the_batch_axis_is_said_where_it_happens_to_fit():
    document = summarize(Network.parse(LENET.replace("x, 1)", "x)")), (1, 1, 28, 28))
    assert document["notes"] == ["flatten_0 flattens the batch axis too: 1 × 16 × 5 × 5 becomes 400; begin at axis 1"]


def test_the_receptive_field_is_that_of_the_chain():
    from convspec import Chain

    document = summarize(Network.parse(LENET), (1, 1, 28, 28))
    fields = [row["receptive field"] for row in document["rows"]]
    specs = [row.steps[0] for row in Network.parse(LENET).shapes() if row.kind == "Conv2d"]
    assert fields[0] == list(Chain(specs[:1]).receptive_field().size)
    assert fields == [[5, 5], [5, 5], [6, 6], [14, 14], [14, 14], [16, 16], None, None]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "no framework that is read here has it"),
        ("nn.Sequential(nn.Conv2d(1, 2", "not a valid Python text"),
        ("nn.Conv2d(1, 2, 3, strides=2)\nnn.ReLU()", "no argument 'strides' (did you mean 'stride'?)"),
        ("nn.Sequential(*[nn.ReLU()] * 10**9)", "too large"),
        ("nn.Sequential(*[nn.ReLU() for i in range(10**7)])", "a list of more than"),
        ("i = 0\nwhile True:\n    i += 1\nnn.ReLU()", "more than 200,000 steps"),
        ("f = lambda: f()\nf()\nnn.ReLU()", "nested too deeply"),
        ("class Net(nn.Module):\n def __init__(self, n):\n  self.c = nn.Conv2d(n, n, 1)\n"
         " def forward(self, x):\n  return self.c(x)", "needs n"),
        ("nn.ReLU()\n\x1b[31m", "control character"),
        ("2 ** 2 ** 100, nn.ReLU()", "an exponent above 40"),
        ("nn.Sequential(nn.utils.spectral_norm())", "cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told_with_its_place(text, words):
    begin = time.monotonic()
    with pytest.raises(CallError) as caught:
        Network.parse(text).shapes((1, 3, 8, 8))
    assert words in str(caught.value)
    assert time.monotonic() - begin < 20


def test_nothing_is_evaluated(tmp_path):
    mark = tmp_path / "mark"
    Network.parse(f"__import__('os').system('touch {mark}')\nopen({str(mark)!r}, 'w')\nnn.Sequential(nn.ReLU())")
    assert not mark.exists()


def test_what_is_not_known_is_a_row_that_says_so():
    found = rows("class N(nn.Module):\n def forward(self, x):\n  return F.relu(torch.mystery(x))", (1, 2, 3))
    assert [(row.shape, bool(row.problem)) for row in found] == [(None, True), (None, False)]
    assert "mystery is not known" in found[0].problem


def test_an_error_survives_pickling():
    _, error = error_of(LENET, (1, 1, 32, 32))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.path, again.rows) == (str(error), error.path, error.rows)


@pytest.mark.parametrize(("text", "title"), [
    ("import haiku as hk\nnet = hk.Sequential([hk.Conv2D(32, 3), jax.nn.relu])", "Haiku"),
    ("hk.Sequential([hk.Conv2D(32, 3), hk.Flatten()])", "Haiku"),
    ("import paddle.nn as nn\nnn.Sequential(nn.Conv2D(3, 8, 3), nn.ReLU())", "PaddlePaddle"),
    ("import mlx.nn as nn\nnn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())", "MLX"),
    ("from mindspore import nn\nnn.SequentialCell(nn.Conv2d(3, 64, 3), nn.ReLU())", "MindSpore"),
    ("tlx.nn.Sequential(tlx.nn.Conv2d(32, (3, 3)))", "TensorLayerX"),
])  # fmt: skip
def test_a_network_of_a_library_that_is_not_read_is_refused_by_name(text, title):
    with pytest.raises(CallError, match=f"{title} is no framework that is read here"):
        Network.parse(text)


def test_another_library_that_is_imported_too_does_not_matter():
    (row,) = rows("import torch\nimport mlx.core as mx\ntorch.nn.Conv2d(3, 8, 3)", (1, 3, 5, 5))
    assert row.shape == (1, 8, 3, 3)


@pytest.mark.parametrize(("text", "shape", "words"), [
    ("nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm1d(4))", (1, 3, 8, 8), "2 or 3 axes"),
    ("nn.Sequential(nn.Flatten(), nn.Unflatten(2, (3, 4)))", (1, 12), "axis 2 must be an axis of the input"),
    ("class N(nn.Module):\n    def forward(self, x):\n        return x.unbind(5)", (1, 2, 3), "axis 5"),
])  # fmt: skip
def test_an_input_for_which_a_layer_has_no_meaning_is_an_error_without_mends(text, shape, words):
    network, error = error_of(text, shape)
    mends = find_mends(network, error, [shape])
    assert words in str(error)
    assert str(error).endswith(mends.sentence)
    assert not mends.found


FUNCTIONAL = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
    def forward(self, x):
        x = F.conv2d(x, self.weight - self.weight.mean(), None, padding=1)
        x, _ = F.max_pool2d(x, 2, return_indices=True)
        return x / x.std(dim=1, keepdim=True)
"""


def test_what_steps_do_not_say_is_missing_in_the_code_of_another_framework():
    network = Network.parse(FUNCTIONAL)
    assert [row.parameters for row in network.shapes((1, 3, 8, 8))] == [108, 0, 0, 0, 0, 0, 0]
    code = network.source("torch", (1, 3, 8, 8))
    assert [path for path, _ in code.missing] == ["conv2d_0", "max_pool2d_0", "std_0"]


def test_a_branch_that_depends_on_a_shape_is_read_once_the_shape_is_known():
    text = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
    def forward(self, x):
        if x.shape[-1] % 2:
            x = F.pad(x, (0, 1))
        return self.conv(x)
"""
    network = Network.parse(text)
    assert network.shapes((1, 1, 8, 7))[-1].shape == (1, 2, 6, 6)
    assert network.shapes((1, 1, 8, 8))[-1].shape == (1, 2, 6, 6)
    with pytest.raises(CallError, match="cannot be told"):
        network.shapes()


def test_what_an_unknown_function_does_to_a_list_is_noted():
    trace = Network.parse("layers = [nn.ReLU()]\nextend(layers)\nmodel = nn.Sequential(*layers)").trace((1, 2))
    assert trace.notes == ("what extend(layers) does to its arguments is not known",)


SCRIPT = """%matplotlib inline
import torch
import torch.utils.checkpoint as cp
base = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(3, 3))
class Net(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body
    def forward(self, x):
        return cp.checkpoint(self.body, x)
net = Net(nn.Sequential(*list(base.children())[:-1], nn.Flatten()))
net.to("cuda" if torch.cuda.is_available() else "cpu")
print(net(torch.randn(1, 3, 8, 8)).shape)
for epoch in range(2):
    for inputs, labels in loader:
        loss = criterion(net(inputs), labels)
"""


def test_a_script_that_trains_its_network_is_read():
    trace = Network.parse(SCRIPT).trace((1, 3, 8, 8))
    assert [(row.path, row.shape, row.parameters) for row in trace.rows] == [
        ("body.0", (1, 4, 6, 6), 112), ("body.1", (1, 4, 6, 6), 0), ("body.2", (1, 144), 0),
    ]  # fmt: skip
    assert trace.notes == ("the loop over loader is left out",)


def test_a_misfit_with_an_input_that_the_text_declares_is_shown_as_any_other():
    text = (
        "inputs = keras.Input((32, 32, 3))\nx = layers.Conv2D(16, 3, padding='same')(inputs)\n"
        "y = layers.Conv2D(16, 3, strides=2, padding='same')(x)\nmodel = keras.Model(inputs, layers.add([x, y]))\n"
    )
    document = summarize(Network.parse(text))
    assert document["error"]["path"] == "add"
    assert [mend["words"] for mend in document["error"]["mends"]] == ["strides=1 in conv2d_1"]
