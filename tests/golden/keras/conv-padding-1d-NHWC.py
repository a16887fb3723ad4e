import keras
from keras import ops


class PaddedConv1D(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.conv = keras.layers.Conv1D(3, 4, strides=3)

    def call(self, x):
        x = ops.pad(x, ((0, 0), (1, 2), (0, 0)))
        return self.conv(x)


layer = PaddedConv1D()
