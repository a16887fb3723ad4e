import keras
from keras import ops


class SplitConv2DTranspose(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv_0 = keras.layers.Conv2DTranspose(
            3, (3, 2), strides=(2, 1), data_format="channels_first", use_bias=False
        )
        self.conv_1 = keras.layers.Conv2DTranspose(
            3, (3, 2), strides=(2, 1), data_format="channels_first", use_bias=False
        )
        self.bias = self.add_weight(shape=(6,), initializer="zeros", name="bias")

    def call(self, x):
        convs = [
            self.conv_0,
            self.conv_1,
        ]
        parts = ops.split(x, 2, axis=1)
        x = ops.concatenate(
            [conv(part) for conv, part in zip(convs, parts)], axis=1
        )
        return x + ops.reshape(self.bias, (-1, 1, 1))


layer = SplitConv2DTranspose()
