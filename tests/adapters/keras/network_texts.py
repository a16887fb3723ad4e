"""Random networks as Keras' users write them: sequences, graphs and classes."""

from __future__ import annotations

from random import Random

ACTIVATIONS = ["'relu'", "'tanh'", "'softmax'", "None", "keras.activations.gelu", "layers.LeakyReLU(0.2)", "'swish'"]
OF_IMAGES = [
    "Conv2D({c}, {k}, strides={s}, padding={p}, activation={a}, use_bias={b})",
    "Conv2D({c}, ({k}, 1), dilation_rate=2)",
    "Conv2D({c}, {k}, {s}, {p})", "Conv2DTranspose({c}, {k}, strides={s}, padding={p})",
    "Conv2DTranspose({c}, 3, strides=2, padding={p}, output_padding=1)", "DepthwiseConv2D({k}, {s}, {p}, {s})",
    "SeparableConv2D({c}, {k}, strides={s}, padding={p}, activation={a}, depth_multiplier={s})", "MaxPool2D()",
    "MaxPooling2D({k}, strides={s}, padding={p})", "AveragePooling2D(({k}, 2), padding={p})", "ZeroPadding2D({k})",
    "ZeroPadding2D(((1, 0), (2, {k})))", "Cropping2D(1)", "Cropping2D(((0, 1), (1, 0)))", "UpSampling2D({k})",
    "UpSampling2D((2, 1), interpolation='bilinear')", "BatchNormalization(center={b})", "LayerNormalization()",
    "LayerNormalization([1, 2, 3], scale={b})", "GroupNormalization(-1)", "UnitNormalization()", "Activation({a})",
    "ReLU(6.)", "LeakyReLU()", "PReLU(shared_axes=[1, 2])", "PReLU()", "ELU()", "Softmax()", "Dropout(0.3)",
    "SpatialDropout2D(0.1)", "GaussianNoise(0.1)", "Rescaling(1. / 255, offset=-1)", "Resizing(9, 7)", "Dense({c})",
    "RandomFlip('horizontal')", "RandomRotation(0.1)", "CenterCrop(3, 3)", "Identity()", "Permute((2, 1, 3))",
    "Conv2D(filters={c}, kernel_size={k}, data_format='channels_first', padding='same')",
]  # fmt: skip
OF_SEQUENCES = [
    "Conv1D({c}, {k}, padding='causal', dilation_rate={s})", "Conv1D({c}, {k}, strides={s}, activation={a})",
    "Conv1DTranspose({c}, {k}, strides={s}, padding={p})", "SeparableConv1D({c}, {k}, padding={p})", "MaxPool1D({s})",
    "AveragePooling1D({k}, strides={s}, padding={p})", "ZeroPadding1D((1, {k}))", "Cropping1D(1)", "UpSampling1D({k})",
    "Dense({c}, activation={a})", "BatchNormalization()", "SpatialDropout1D(0.1)", "LSTM({c}, return_sequences=True)",
    "GRU({c}, return_sequences=True)", "SimpleRNN({c}, return_sequences=True)", "RMSNormalization()",
    "Bidirectional(layers.LSTM({c}, return_sequences=True))", "TimeDistributed(layers.Dense({c}))", "Permute((2, 1))",
    "DepthwiseConv1D({k})",
]  # fmt: skip
OF_VOLUMES = ["Conv3D({c}, {k}, padding={p}, strides={s})", "MaxPool3D(2, padding='same')", "Conv3DTranspose({c}, 2)",
              "ZeroPadding3D(1)", "BatchNormalization()", "UpSampling3D()"]  # fmt: skip
OF_VECTORS = ["Dense({c}, activation={a}, use_bias={b})", "Dropout(0.5)", "BatchNormalization()", "Activation('relu')"]
TO_VECTOR = {
    5: ["Flatten()", "GlobalAveragePooling3D()"],
    4: ["Flatten()", "GlobalAveragePooling2D()", "GlobalMaxPool2D()"],
    3: ["Flatten()", "GlobalMaxPooling1D()", "LSTM({c})", "Bidirectional(layers.GRU({c}))"],
}
BY_RANK = {5: OF_VOLUMES, 4: OF_IMAGES, 3: OF_SEQUENCES, 2: OF_VECTORS}
SHAPES = {5: (5, 6, 4, 2), 4: (11, 12, 4), 3: (13, 6), 2: (7,)}


class Writer:
    """Random networks of one seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.rank = self.random.choice([5, 4, 4, 4, 4, 3, 3, 2])
        self.shape = SHAPES[self.rank]

    def fill(self, text: str) -> str:
        pick = self.random.choice
        values = {"c": pick([4, 6, 8]), "k": pick([1, 2, 3]), "s": pick([1, 1, 2]), "p": pick(["'same'", "'valid'"]),
                  "a": pick(ACTIVATIONS), "b": pick([True, False])}  # fmt: skip
        return f"layers.{text.format(**values)}"

    def some_layers(self, count: int) -> list[str]:
        return [self.fill(self.random.choice(BY_RANK[self.rank])) for _ in range(count)]

    def chain(self) -> list[str]:
        """Return layers one after another, that end in a vector."""
        made = self.some_layers(self.random.randint(1, 5))
        if self.rank > 2:
            made.append(self.fill(self.random.choice(TO_VECTOR[self.rank])))
            self.rank = 2
        return [*made, *self.some_layers(self.random.randint(1, 2))]

    def sequence(self) -> str:
        made = [f"keras.Input(shape={self.shape})", *self.chain()]
        if self.random.random() < 0.4:
            return f"model = keras.Sequential([{', '.join(made)}])"
        return "\n".join(["model = keras.Sequential()", *(f"model.add({text})" for text in made)])

    def graph(self) -> str:
        lines = [f"inputs = keras.Input(shape={self.shape})", f"other = keras.Input({self.shape})", "x = inputs"]
        for _ in range(self.random.randint(1, 4)):
            lines += self.random.choice([self._plain, self._residual, self._branches, self._joined, self._nested])()
        return "\n".join([*lines, *(f"x = {text}(x)" for text in self.chain()),
                          "model = keras.Model([inputs, other], x)"])  # fmt: skip

    def _plain(self) -> list[str]:
        return [f"x = {text}(x)" for text in self.some_layers(2)]

    def _residual(self) -> list[str]:
        same = {5: "Conv3D", 4: "Conv2D", 3: "Conv1D"}.get(self.rank)
        inner = f"{same}(x.shape[-1], 3, padding='same')" if same else "Dense(x.shape[1])"
        merge = self.random.choice(["layers.add([x, y])", "x + y", "layers.Multiply()([x, y])", "ops.maximum(x, y)",
                                    "layers.Average()([x, y])", "x - y * 2"])  # fmt: skip
        return [f"y = layers.{inner}(x)", "y = ops.relu(y)", f"x = {merge}"]

    def _branches(self) -> list[str]:
        joined = self.random.choice(["layers.Concatenate()(parts)", "layers.concatenate(parts)",
                                     "ops.concatenate(parts, axis=-1)"])  # fmt: skip
        one, two = (f"layers.Dense({n})(x)" for n in (3, 5))
        return [f"parts = [{one}, {two}, x]", f"x = {joined}"]

    def _joined(self) -> list[str]:
        return ["z = layers.Dense(4)(other)", "x = layers.Dense(4)(x)",
                "if x.shape[1:] == z.shape[1:]:\n    x = layers.Add()([x, z])"]  # fmt: skip

    def _nested(self) -> list[str]:
        return [f"block = keras.Sequential([{', '.join(self.some_layers(2))}])", "x = block(x)"]

    def classes(self) -> str:
        made = self.chain()
        text = [f"        self.layer{i} = {one}" for i, one in enumerate(made)]
        calls = [f"        x = self.layer{i}(x)" for i in range(len(made))]
        return "\n".join([
            "class Block(keras.layers.Layer):", "    def __init__(self, units, **kwargs):",
            "        super().__init__(**kwargs)", "        self.units = units",
            "    def build(self, shape):", "        self.w = self.add_weight(shape=(shape[-1], self.units))",
            "        self.dense = layers.Dense(self.units)",
            "    def call(self, x):", "        return ops.matmul(x, self.w) + self.dense(x)",
            "class Net(keras.Model):", "    def __init__(self):", "        super().__init__()", *text,
            "        self.block = Block(3)", "    def call(self, x, training=None):", *calls,
            "        return self.block(x)", "model = Net()",
        ])  # fmt: skip
