"""Configurations of Keras models as text: rows and parameters are those of the models."""

import pytest

pytest.importorskip("keras")

import keras
from keras import layers

from convspec import Network
from convspec.errors import CallError

pytestmark = pytest.mark.keras


def sequential():
    return keras.Sequential([
        keras.Input((12, 10, 3)), layers.Conv2D(8, 3, activation="relu", name="c"), layers.MaxPooling2D(),
        layers.BatchNormalization(), layers.Flatten(), layers.Dense(5),
    ])  # fmt: skip


def functional():
    x = keras.Input((8, 8, 3))
    shared = layers.Conv2D(3, 3, padding="same")
    y = shared(shared(x))
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.SeparableConv2D(3, 3, padding="same")])
    y = layers.Add()([inner(y), x])
    return keras.Model(x, [layers.Concatenate()([x, y]), layers.GlobalAveragePooling2D()(y)])


@pytest.mark.parametrize(("make", "shape"), [(sequential, (2, 12, 10, 3)), (functional, (2, 8, 8, 3))])
@pytest.mark.parametrize("form", ["json", "dictionary", "call"])
def test_a_configuration_is_read_as_the_model(make, shape, form):
    model = make()
    text = {"json": model.to_json(), "dictionary": repr(model.get_config()),
            "call": f"model = keras.Model.from_config({model.get_config()!r})\nmodel.summary()"}[form]  # fmt: skip
    rows = Network.parse(text).shapes(shape)
    assert sum(row.parameters for row in rows) == model.count_params()
    last = [tensor.shape for tensor in model.outputs][-1]
    assert rows[-1].shape == (2, *last[1:])


def test_a_configuration_of_older_keras_is_read():
    conv = {"class_name": "Conv2D", "name": "c", "inbound_nodes": [[["x", 0, 0, {}]]],
            "config": {"name": "c", "filters": 4, "kernel_size": [3, 3], "padding": "same"}}  # fmt: skip
    add = {
        "class_name": "Add",
        "name": "a",
        "config": {"name": "a"},
        "inbound_nodes": [[["c", 0, 0, {}], ["c", 0, 0, {}]]],
    }
    given = {"class_name": "InputLayer", "name": "x", "inbound_nodes": [],
             "config": {"batch_input_shape": [None, 8, 8, 3], "name": "x"}}  # fmt: skip
    model = {"name": "m", "layers": [given, add, conv], "input_layers": [["x", 0, 0]], "output_layers": [["a", 0, 0]]}
    rows = Network.parse(repr({"class_name": "Model", "config": model})).shapes((1, 8, 8, 3))
    assert [(row.path, row.shape) for row in rows] == [("c", (1, 8, 8, 4)), ("a", (1, 8, 8, 4))]
    model["layers"].pop()
    with pytest.raises(CallError, match="read tensors that no node gives"):
        Network.parse(repr({"class_name": "Model", "config": model}))
