import keras
from keras import ops


def same_pads(size, kernel, stride):
    """Padding before and after an axis, for an output of ceil(size / stride)."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SubsampledConv2D(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = keras.layers.Conv2D(
            4,
            (3, 4),
            data_format="channels_first",
            dilation_rate=(1, 2),
            use_bias=False,
        )
        self.bias = self.add_weight(shape=(4,), initializer="zeros", name="bias")

    def call(self, x):
        pads = [same_pads(*axis) for axis in zip(x.shape[2:4], (3, 7), (2, 3))]
        x = ops.pad(x, [(0, 0), (0, 0), *pads])
        x = self.conv(x)
        x = x[:, :, ::2, ::3]
        return x + ops.reshape(self.bias, (-1, 1, 1))


layer = SubsampledConv2D()
