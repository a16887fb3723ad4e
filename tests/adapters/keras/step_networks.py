"""Networks as people write them in Keras, small: what traces of steps are tested on."""

from __future__ import annotations

import keras
from keras import layers as L
from keras import ops


def sequential():
    """A VGG of few channels, with activations by name and as layers."""
    return keras.Sequential(
        [keras.Input((12, 10, 3)), L.Rescaling(0.5, -1), L.ZeroPadding2D(((1, 0), (2, 1))),
         L.Conv2D(4, 3, activation="relu"), L.BatchNormalization(), L.MaxPooling2D(3, 2, "same"),
         L.Conv2D(6, 3, padding="same"), L.LeakyReLU(), L.AveragePooling2D(2), L.Dropout(0.3), L.Flatten(),
         L.Dense(8, activation="gelu"), L.LayerNormalization(), L.Dense(3, activation="softmax")]
    )  # fmt: skip


def resnet(channels=(4, 6), size=16, blocks=2):
    """Residual blocks with squeeze-and-excitation, as a functional model."""
    x = start = keras.Input((size, size, 3))
    x = L.Activation("relu")(L.BatchNormalization()(L.Conv2D(channels[0], 3, 2, "same", use_bias=False)(x)))
    for stage, c in enumerate(channels):
        for number in range(blocks):
            stride = 2 if stage and not number else 1
            y = L.ReLU()(L.BatchNormalization()(L.Conv2D(c, 3, stride, "same", use_bias=False)(x)))
            y = L.BatchNormalization()(L.Conv2D(c, 3, padding="same", use_bias=False)(y))
            gate = L.Dense(2, activation="relu")(L.GlobalAveragePooling2D()(y))
            gate = L.Reshape((1, 1, c))(L.Dense(c, activation="sigmoid")(gate))
            x = L.Conv2D(c, 1, stride, use_bias=False)(x) if stride == 2 else x
            x = ops.relu(L.Multiply()([y, gate]) + x)
    return keras.Model(start, L.Dense(5)(L.GlobalAveragePooling2D()(x)))


def heads():
    """Shared heads on two inputs of a pyramid, several results by name."""
    low, high = keras.Input((8, 7, 4), name="low"), keras.Input((4, 4, 4), name="high")
    classes, boxes = L.Conv2D(3, 3, padding="same", name="classes"), L.Conv2D(4, 1, name="boxes")
    flat = [L.Reshape((-1, 3))(classes(x)) for x in (low, high)]
    return keras.Model([low, high], {"boxes": boxes(low), "classes": L.Concatenate(axis=1)(flat)})


class Block(L.Layer):
    """A separable block with a learnt scale, whose first operand it is."""

    def __init__(self, c, **kwargs):
        super().__init__(**kwargs)
        self.norm = L.GroupNormalization(2, name="norm")
        self.conv = L.SeparableConv2D(c, 3, padding="same", activation="silu", name="conv")
        self.gamma = self.add_weight(shape=(c,), initializer="ones", name="gamma")

    def call(self, x, training=False):
        y = self.conv(self.norm(x))
        return self.gamma * L.Dropout(0.2)(y, training=training) + x


class Nested(keras.Model):
    """Users' layers within a nested model, called twice, with branches on values and shapes."""

    def __init__(self):
        super().__init__()
        self.stem = keras.Sequential([L.DepthwiseConv2D(3, depth_multiplier=2, name="stem"), L.ELU()], name="start")
        self.block, self.squeeze = Block(6, name="block"), L.Lambda(lambda x: ops.mean(x, axis=(1, 2)), name="squeeze")
        self.head = L.Dense(3, name="head")

    def call(self, x, training=False):
        x = self.block(self.stem(x))
        if ops.shape(x)[1] > 3 and ops.max(x) > -1e9:
            x = self.block(x, training=training)
        pooled = self.squeeze(x)
        return self.head(pooled), x[:, ::2, -1]


def unet():
    """Skips that are cropped and joined; transposed convolutions and resizing."""
    start = keras.Input((12, 12, 2))
    skip = L.Conv2D(4, 3, activation="relu")(start)
    y = L.Conv2D(6, 3, padding="same", activation="tanh")(L.MaxPooling2D()(skip))
    y = L.Conv2DTranspose(4, 2, 2, activation="leaky_relu")(y)
    y = L.Conv2D(4, 3)(L.Concatenate()([skip, y]))
    y = L.UpSampling2D(2, interpolation="bilinear")(L.Cropping2D(((1, 0), (0, 2)))(y))
    return keras.Model(start, L.PReLU(shared_axes=[1, 2])(y))


def wavenet():
    """Causal convolutions with gates; the last residual has no effect."""
    x = start = keras.Input((20, 2))
    skips = []
    for dilation in (1, 2, 4):
        both = L.Conv1D(8, 2, padding="causal", dilation_rate=dilation)(x)
        a, b = ops.split(both, 2, axis=-1)
        gated = ops.tanh(a) * ops.sigmoid(b)
        skips.append(L.Conv1D(4, 1)(gated))
        x = x + L.Conv1D(2, 1)(gated)
    return keras.Model(start, L.GlobalMaxPooling1D()(L.Add()(skips)))


def volumes():
    """A 3-D network."""
    return keras.Sequential(
        [keras.Input((6, 8, 7, 4)), L.Conv3D(6, 3, 2, "same"), L.GroupNormalization(-1), L.PReLU(),
         L.MaxPooling3D((1, 2, 2)), L.UpSampling3D(2), L.Conv3DTranspose(2, 3), L.GlobalAveragePooling3D(keepdims=True)]
    )  # fmt: skip


class Positions(L.Layer):
    """Learnt positions, of which no layer knows."""

    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], name="table")

    def call(self, x):
        return ops.add(x, self.table)


def tokens():
    """A transformer's parts: embeddings with positions, a matrix product along the tokens, attention."""
    ids = keras.Input((6,), dtype="int32")
    x = Positions()(L.Embedding(11, 8)(ids))
    y = L.RMSNormalization()(x)
    x = x + L.MultiHeadAttention(2, 4)(y, y)
    y = L.Permute((2, 1))(L.EinsumDense("btc,ts->bsc", (5, 8))(x))
    return keras.Model(ids, L.UnitNormalization()(L.EinsumDense("...i,io->...o", 3, bias_axes="o")(y)))


NETWORKS = {  # name: (builder, shapes of the inputs, operations without a word)
    "sequential": (sequential, [(2, 12, 10, 3)], []),
    "resnet": (resnet, [(2, 16, 16, 3)], []),
    "heads": (heads, [(2, 8, 7, 4), (2, 4, 4, 4)], []),
    "nested": (Nested, [(2, 9, 8, 3)], ["greater"]),
    "unet": (unet, [(1, 12, 12, 2)], []),
    "wavenet": (wavenet, [(2, 20, 2)], []),
    "volumes": (volumes, [(1, 6, 8, 7, 4)], []),
    "tokens": (tokens, [(2, 6)], ["MultiHeadAttention"]),
}
