import keras
from keras import ops


def same_pads(size, kernel, stride):
    """Padding before and after an axis, for an output of ceil(size / stride)."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def circular_pad(x, axis, before, after):
    """Pad one axis with mode "circular"; ops.pad cannot for every axis and backend."""
    size = x.shape[axis]
    if max(before, after) > size:
        raise ValueError(f"circular padding ({before}, {after}) of {size} elements")
    indices = [i % size for i in range(-before, size + after)]
    return ops.take(x, indices, axis=axis)


class PaddedConv3D(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = keras.layers.Conv3D(3, (2, 1, 3), strides=(2, 1, 3))

    def call(self, x):
        pads = [same_pads(*axis) for axis in zip(x.shape[1:4], (2, 1, 3), (2, 1, 3))]
        for axis, (before, after) in enumerate(pads, start=1):
            x = circular_pad(x, axis, before, after)
        return self.conv(x)


layer = PaddedConv3D()
