import keras
from keras import ops


class SplitConv2DTranspose(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv_0 = keras.layers.Conv2DTranspose(1, (3, 2), strides=2, use_bias=False)
        self.conv_1 = keras.layers.Conv2DTranspose(1, (3, 2), strides=2, use_bias=False)
        self.conv_2 = keras.layers.Conv2DTranspose(1, (3, 2), strides=2, use_bias=False)

    def call(self, x):
        convs = [
            self.conv_0,
            self.conv_1,
            self.conv_2,
        ]
        parts = ops.split(x, 3, axis=-1)
        return ops.concatenate(
            [conv(part) for conv, part in zip(convs, parts)], axis=-1
        )


layer = SplitConv2DTranspose()
