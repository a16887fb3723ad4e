"""The words of Keras: networks as people write them, and what Keras makes of the same text."""

from __future__ import annotations

import inspect
import os
import re

import pytest

from tests.adapters.keras.backend import BACKEND  # noqa: F401 – before Keras is imported

import keras  # isort: skip
import numpy as np
from convspec_keras.network import read_summary
from keras import layers, ops

from convspec.errors import ShapeError
from convspec.layers.networks import Network, Row
from tests.adapters.keras.network_texts import Writer

pytestmark = pytest.mark.keras
ALL = "CONVSPEC_NETWORKS" in os.environ
SEEDS = range(int(os.environ.get("CONVSPEC_NETWORKS", "9")))  # networks of each form
APPLICATIONS = ["mobilenet_v2.MobileNetV2"]
IF_ALL = [
    "resnet.ResNet50", "inception_v3.InceptionV3",
    "vgg16.VGG16", "vgg19.VGG19", "mobilenet.MobileNet", "mobilenet_v3.MobileNetV3Small", "xception.Xception",
    "densenet.DenseNet121", "efficientnet.EfficientNetB0", "efficientnet_v2.EfficientNetV2B0", "nasnet.NASNetMobile",
]  # fmt: skip


def made_of(text: str) -> keras.Model:
    """Return the model that Python makes of a text."""
    keras.backend.clear_session()
    names = {"keras": keras, "layers": layers, "ops": ops}
    exec(text, names)
    return names["model"]


def operations_of(model, above=""):
    """Return path, output shape without the batch, and number of parameters of every operation, sorted."""
    found = []
    for one in model.layers if isinstance(model, keras.Sequential) else model.operations:
        if isinstance(one, keras.Model):
            found += operations_of(one, f"{above}{one.name}/")
        elif not isinstance(one, layers.InputLayer):
            count = one.count_params() if isinstance(one, layers.Layer) else 0
            found.append((above + one.name, tuple(one.output.shape[1:]), count))
    return sorted(found)


def of_rows(rows: tuple[Row, ...]):
    return sorted((row.path, row.shape[1:], row.parameters) for row in rows)


def check(text: str, *shapes: tuple[int, ...]) -> None:
    """Hold what is read against what Keras makes of it, which may be a refusal."""
    try:
        made = operations_of(made_of(text))
    except ValueError:
        with pytest.raises(ShapeError):
            Network.parse(text).shapes(*shapes)
        return
    rows = Network.parse(text).shapes(*shapes)
    assert of_rows(rows) == made
    assert not [row for row in rows if row.problem]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_sequential_model(seed):
    writer = Writer(seed)
    check(writer.sequence(), (2, *writer.shape))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_functional_model(seed):
    writer = Writer(seed)
    check(writer.graph(), (2, *writer.shape), (2, *writer.shape))


def calls_of(model, x, monkeypatch):
    """Return name, output shape and parameters of Keras' own layers in the order in which a run first calls them."""
    calls, depth, original = {}, [0], layers.Layer.__call__

    def call(layer, *args, **kwargs):
        own = type(layer).__module__.startswith("keras.src.layers")
        depth[0] += own
        y = original(layer, *args, **kwargs)
        depth[0] -= own
        if own and not depth[0] and layer.built:
            calls.setdefault(layer.name, (layer.name, tuple(y.shape[1:]), layer.count_params()))
        return y

    with monkeypatch.context() as patch:
        patch.setattr(layers.Layer, "__call__", call)
        model(x)
    return list(calls.values())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_class_with_its_call(seed, monkeypatch):
    writer = Writer(seed)
    text, shape = writer.classes(), (2, *writer.shape)
    model = made_of(text)
    calls = calls_of(model, np.zeros(shape, "float32"), monkeypatch)
    rows = Network.parse(text).shapes(shape)
    assert [(row.path.rpartition("/")[2], row.shape[1:], row.parameters) for row in rows if row.is_layer] == calls
    assert sum(row.parameters for row in rows) == model.count_params()
    assert [row.path for row in rows if row.kind == "Parameter"] == ["block/w"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("form", ["sequence", "graph"])
def test_a_summary(seed, form, monkeypatch):
    writer = Writer(seed)
    try:
        model = made_of(getattr(writer, form)())
    except ValueError as error:
        pytest.skip(f"Keras refuses this model, which prints nothing then: {error}")
    wide, narrow = [], []
    for printed, columns in ((wide, 180), (narrow, 90)):
        monkeypatch.setenv("COLUMNS", str(columns))  # wider tables are cut
        model.summary(print_fn=printed.append, line_length=columns, expand_nested=True)
    rows = Network.parse("\n".join(wide)).shapes((2, *writer.shape))
    assert of_rows(rows) == operations_of(model)
    assert [(r.shape, r.parameters) for r in Network.parse("\n".join(narrow)).shapes((2, *writer.shape))] == [
        (r.shape, r.parameters) for r in rows
    ]
    ascii_only = "\n".join(wide).translate(str.maketrans("┃│━─┏┳┓┡╇┩├┼┤┴┘", "||--+++++++++++", ""))
    assert read_summary(ascii_only) == read_summary("\n".join(wide))


@pytest.mark.parametrize("name", APPLICATIONS + IF_ALL * ALL)
def test_the_source_of_a_published_model(name):
    """Some sizes are not known to Keras itself: those are not compared."""
    file, _, function = name.partition(".")
    text = re.sub(r'"""(?:.|\n)*?"""', '""', inspect.getsource(getattr(keras.src.applications, file)))
    keras.backend.clear_session()
    made = operations_of(getattr(keras.applications, function)(weights=None))
    rows = of_rows(Network.parse(f"{text}\nmodel = {function}(weights=None)\n").shapes())
    known = [(p, tuple(m if n is None else n for n, m in zip(s, r[1], strict=True)), c)
             for (p, s, c), r in zip(made, rows, strict=True)]  # fmt: skip
    assert rows == known


PRODUCTS = """
a = keras.Input((6, 16), batch_size=2)
b = keras.Input((9, 12), batch_size=2)
x = layers.MultiHeadAttention(4, 5)(a, b)
x = layers.Attention()([x, x])
x = layers.EinsumDense("abc,cd->abd", output_shape=(None, 8))(x)
x = layers.Dot(axes=(2, 1))([ops.einsum("abc,adc->abd", x, x), x])
model = keras.Model([a, b], layers.LSTM(7, return_sequences=True)(x))
"""


def test_the_cost_of_attention_einsum_and_recurrent_layers():
    shapes = (2, 6, 16), (2, 9, 12)
    attention = 12 * 20 * (16 + 16) + 2 * 18 * 12 * 20 + 2 * 2 * 6 * 9 * 20
    costs = [attention, 2 * 2 * 6 * 6 * 16, 12 * 16 * 8, 2 * 6 * 6 * 8, 2 * 6 * 6 * 8, 12 * 4 * 7 * (8 + 7)]
    assert [row.macs for row in Network.parse(PRODUCTS).shapes(*shapes)] == costs
    live = Network.read(made_of(PRODUCTS), *shapes).shapes(*shapes)
    assert [row.macs for row in live if row.macs] == costs
