import keras
from keras import ops


class PaddedConv2D(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.conv = keras.layers.Conv2D(
            4, (3, 5), strides=(2, 3), data_format="channels_first"
        )

    def call(self, x):
        x = ops.pad(x, ((0, 0), (0, 0), (0, 3), (2, 1)))
        return self.conv(x)


layer = PaddedConv2D()
