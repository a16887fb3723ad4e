import keras
from keras import ops


def same_pads(size, kernel, stride):
    """Padding before and after an axis, for an output of ceil(size / stride)."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total - total // 2, total // 2


class PaddedConv2D(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = keras.layers.Conv2D(
            4, (3, 4), strides=(2, 3), data_format="channels_first"
        )

    def call(self, x):
        pads = [same_pads(*axis) for axis in zip(x.shape[2:4], (3, 4), (2, 3))]
        x = ops.pad(x, [(0, 0), (0, 0), *pads])
        return self.conv(x)


layer = PaddedConv2D()
