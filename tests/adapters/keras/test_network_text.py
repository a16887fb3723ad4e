"""Texts of Keras' users that are read without Keras: spellings, what is not known, printed summaries."""

from __future__ import annotations

import pytest
from convspec_keras.network import read_summary

from convspec import Network
from convspec.errors import CallError
from convspec.layers import NetworkError


def rows(text, *shapes):
    return Network.parse(text).shapes(*shapes)


def shapes(text, *given):
    return [(row.path, row.shape, row.parameters) for row in rows(text, *given)]


LENET = [("conv2d", (1, 26, 26, 8), 80), ("max_pooling2d", (1, 13, 13, 8), 0), ("flatten", (1, 1352), 0),
         ("dense", (1, 10), 13530)]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "keras.Sequential([keras.Input((28, 28, 1)), layers.Conv2D(8, 3, activation='relu'), layers.MaxPool2D(), "
        "layers.Flatten(), layers.Dense(10, activation='softmax')])",
        "from tensorflow.keras.models import Sequential\nfrom tensorflow.keras.layers import Conv2D, MaxPooling2D\n"
        "from tensorflow.keras.layers import Flatten, Dense\nmodel = Sequential()\n"
        "model.add(Conv2D(8, kernel_size=(3, 3), activation='relu', input_shape=(28, 28, 1)))\n"
        "model.add(MaxPooling2D(pool_size=(2, 2)))\nmodel.add(Flatten())\nmodel.add(Dense(10, activation='softmax'))\n"
        "model.compile(loss='mse', optimizer='adam')\nmodel.fit(x_train, y_train, epochs=12)\nprint(model.summary())",
        "import tensorflow as tf\nmodel = tf.keras.Sequential([tf.keras.layers.InputLayer(input_shape=(28, 28, 1)),"
        "tf.keras.layers.Conv2D(8, 3, activation=tf.nn.relu), tf.keras.layers.MaxPooling2D(),\n"
        "tf.keras.layers.Flatten(), tf.keras.layers.Dense(10)])",
        "Sequential([Conv2D(8, 3, input_shape=(28, 28, 1)), MaxPooling2D(), Flatten(), Dense(10)])",
        "def build(classes):\n    i = Input(shape=(28, 28, 1))\n    x = Conv2D(8, 3)(i)\n    x = MaxPooling2D()(x)\n"
        "    return Model(inputs=i, outputs=Dense(classes)(Flatten()(x)))\nmodel = build(classes=10)",
        "class Net(keras.Model):\n    def __init__(self, **kw):\n        super().__init__(**kw)\n"
        "        self.c, self.p = Conv2D(8, 3), MaxPooling2D()\n        self.f, self.d = Flatten(), Dense(10)\n"
        "    def call(self, x, training=False):\n        return self.d(self.f(self.p(self.c(x))))",
    ],
    ids=["list", "add", "tf.keras", "bare names", "function", "class"],
)  # fmt: skip
def test_spellings_of_one_network(text):
    assert shapes(text, (1, 28, 28, 1)) == LENET


def test_the_shape_that_a_text_declares_is_taken_where_none_is_given():
    assert shapes("Sequential([Conv2D(8, 3, input_shape=(28, 28, 1)), MaxPooling2D(), Flatten(), Dense(10)])") == LENET


def test_open_sizes_are_those_of_the_shape_that_is_given():
    text = "i = Input((None, None, 3))\nx = Conv2D(4, 3, padding='same')(i)\nmodel = Model(i, x)"
    assert shapes(text, (2, 9, 7, 3)) == [("conv2d", (2, 9, 7, 4), 112)]
    trace = Network.parse(text).trace()
    assert trace.rows[0].shape == (1, 224, 224, 4)
    assert trace.notes == ("sizes that an input leaves open are taken as 224",)


def test_what_a_functions_caller_would_say_is_not_known():
    (row,) = rows("def build(units):\n    return keras.Sequential([layers.Dense(units)])", (1, 4))
    assert row.shape is None
    assert row.problem == "it depends on units"


def test_inputs_are_in_the_models_order_and_nested_models_have_paths():
    text = """
small = keras.Input((4,), name="small")
large = keras.Input((9,))
encoder = keras.Model(large, layers.Dense(4, name="code")(large), name="encoder")
again = keras.Input((9,))
z = layers.Concatenate()([encoder(again), small])
model = keras.Model([again, small], [z, encoder(again)])
"""
    assert shapes(text, (3, 9), (3, 4)) == [
        ("encoder/code", (3, 4), 40), ("concatenate", (3, 8), 0), ("encoder/code", (3, 4), 0)
    ]  # fmt: skip


def test_layers_of_a_model_are_reused_by_their_outputs():
    text = """
i = keras.Input((8, 8, 3))
x = layers.Conv2D(4, 3, name="first")(i)
base = keras.Model(i, layers.Conv2D(8, 3)(x))
model = keras.Model(base.input, [base.get_layer("first").output, base.layers[-1].output])
"""
    assert shapes(text) == [("first", (1, 6, 6, 4), 112), ("conv2d", (1, 4, 4, 8), 296)]


def test_a_layer_without_a_step_has_its_shape_and_parameters():
    assert shapes("Sequential([Embedding(50, 8), Bidirectional(LSTM(4)), Dense(2)])", (1, 6)) == [
        ("embedding", (1, 6, 8), 400), ("bidirectional", (1, 8), 416), ("dense", (1, 2), 18)
    ]  # fmt: skip


def test_an_unknown_layer_of_the_framework_is_not_known_and_the_rest_is_read():
    text = "i = Input((8, 8, 3))\nx = Conv2D(4, 3)(i)\nx = tf.signal.fft2d(x)\nmodel = Model(i, layers.ReLU()(x))"
    problems = [row.problem for row in rows(text)]
    assert problems[0] == ""
    assert "fft2d is not known" in problems[1]


def test_an_activation_is_a_step_of_its_layers_row():
    (row,) = rows("layers.Dense(3, activation=layers.LeakyReLU(alpha=0.1))", (1, 2))
    assert row.words == "linear 2 → 3, leaky ReLU, slope 0.1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("layers.Conv2D(8, 3, stride=2)", "did you mean 'strides'"),
        ("layers.Conv2D(8, 3, padding='sane')", "padding='sane'"),
        ("layers.Dense()", "needs units"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named(text, words):
    with pytest.raises(CallError, match=words):
        rows(text, (1, 8, 8, 3))


def test_a_layer_that_does_not_fit_is_named_as_keras_names_it():
    with pytest.raises(NetworkError) as caught:
        rows("Sequential([Conv2D(4, 3), Conv2D(4, 3), Conv2D(4, 3)])", (1, 5, 5, 3))
    assert caught.value.path == "conv2d_2"


KERAS_2 = """
Model: "model"
__________________________________________________________________________________________________
 Layer (type)                   Output Shape         Param #     Connected to
==================================================================================================
 input_1 (InputLayer)           [(None, 224, 224, 3  0           []
                                )]

 conv1_conv (Conv2D)            (None, 112, 112, 64  9472        ['input_1[0][0]']
                                )

 global_average_pooling2d (Glob  (None, 64)          0           ['conv1_conv[0][0]']
 alAveragePooling2D)

==================================================================================================
Total params: 9,472
"""
KERAS_1 = """
_________________________________________________________________
Layer (type)                 Output Shape              Param #
=================================================================
conv2d_1 (Conv2D)            (None, 26, 26, 32)        320
_________________________________________________________________
global_average_pooling2d (Gl (None, 32)                0
_________________________________________________________________
dense_2 (Dense)              (None, 10)                1,290
=================================================================
Total params: 1,610
"""


def test_summaries_of_earlier_versions():
    printed = read_summary(KERAS_2)
    assert not printed.ordered
    assert [(one.path, one.call, one.shape, one.parameters) for one in printed.layers] == [
        ("conv1_conv", "Conv2D", (None, 112, 112, 64), 9472),
        ("global_average_pooling2d", "GlobalAveragePooling2D", (None, 64), 0),
    ]
    assert shapes(KERAS_1, (5, 28, 28, 1)) == [
        ("conv2d_1", (5, 26, 26, 32), 320), ("global_average_pooling2d", (5, 32), 0), ("dense_2", (5, 10), 1290)
    ]  # fmt: skip


def test_other_texts_are_no_summary():
    assert read_summary("model = keras.Sequential([layers.Dense(3)])\nmodel.summary()") is None
