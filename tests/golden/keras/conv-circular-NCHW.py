import keras
from keras import ops


def circular_pad(x, axis, before, after):
    """Pad one axis with mode "circular"; ops.pad cannot for every axis and backend."""
    size = x.shape[axis]
    if max(before, after) > size:
        raise ValueError(f"circular padding ({before}, {after}) of {size} elements")
    indices = [i % size for i in range(-before, size + after)]
    return ops.take(x, indices, axis=axis)


class PaddedConv2D(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = keras.layers.Conv2D(
            4, (3, 2), strides=(1, 2), data_format="channels_first"
        )

    def call(self, x):
        x = circular_pad(x, axis=2, before=2, after=1)
        x = circular_pad(x, axis=3, before=5, after=0)
        return self.conv(x)


layer = PaddedConv2D()
