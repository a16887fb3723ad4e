"""The same two models as Keras's users write them: functional, channels last, pads as layers of their own."""

from __future__ import annotations

import keras
from keras import layers

WIDTHS = (4, 6, 8, 10)
BLOCKS = ((1, 4, 1, 1), (3, 6, 2, 2), (3, 8, 2, 2))


def conv(x, filters, kernel, stride, name, *, same=False):
    """A convolution without bias; where it strides, padded on both sides as PyTorch does, unless ``same``."""
    if stride == 1 or same or kernel == 1:
        return layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=name)(x)
    x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    return layers.Conv2D(filters, kernel, stride, use_bias=False, name=name)(x)


def norm(x, name, epsilon=1e-5):
    return layers.BatchNormalization(epsilon=epsilon, name=name)(x)


def block(x, filters, stride, name, *, same, epsilon):
    shortcut = x
    if stride != 1 or x.shape[-1] != filters:
        shortcut = norm(conv(x, filters, 1, stride, f"{name}_0_conv"), f"{name}_0_bn")
    y = layers.ReLU()(norm(conv(x, filters, 3, stride, f"{name}_1_conv", same=same), f"{name}_1_bn", epsilon))
    y = norm(conv(y, filters, 3, 1, f"{name}_2_conv"), f"{name}_2_bn")
    return layers.ReLU()(layers.Add()([shortcut, y]))


def resnet(same=(), epsilon=None):
    """``same`` and ``epsilon``: stages whose strided convolution, or first norm, is written carelessly."""
    epsilon = epsilon or {}
    inputs = keras.Input((64, 48, 3))
    x = layers.ReLU()(norm(conv(inputs, WIDTHS[0], 7, 2, "stem_conv"), "stem_bn"))
    x = layers.MaxPooling2D(3, 2, name="stem_pool")(layers.ZeroPadding2D(1, name="stem_pool_pad")(x))
    for i, filters in enumerate(WIDTHS):
        options = {"same": i in same, "epsilon": epsilon.get(i, 1e-5)}
        x = block(x, filters, 1 if i == 0 else 2, f"stage{i + 1}_block1", **options)
        x = block(x, filters, 1, f"stage{i + 1}_block2", same=False, epsilon=1e-5)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(7, name="predictions")(x), name="resnet")


def inverted_residual(x, filters, stride, expansion, name):
    y, hidden = x, x.shape[-1] * expansion
    if expansion != 1:
        y = layers.ReLU(6.0)(norm(conv(y, hidden, 1, 1, f"{name}_expand"), f"{name}_expand_bn"))
    if stride == 2:
        y = layers.ZeroPadding2D(1, name=f"{name}_pad")(y)
    padding = "valid" if stride == 2 else "same"
    y = layers.DepthwiseConv2D(3, stride, padding=padding, use_bias=False, name=f"{name}_depthwise")(y)
    y = layers.ReLU(6.0)(norm(y, f"{name}_depthwise_bn"))
    y = norm(conv(y, filters, 1, 1, f"{name}_project"), f"{name}_project_bn")
    return layers.Add()([x, y]) if stride == 1 and x.shape[-1] == filters else y


def mobilenet():
    inputs = keras.Input((48, 32, 3))
    x = layers.ReLU(6.0)(norm(conv(inputs, 5, 3, 2, "stem"), "stem_bn"))
    for stage, (expansion, filters, repeats, stride) in enumerate(BLOCKS):
        for i in range(repeats):
            x = inverted_residual(x, filters, stride if i == 0 else 1, expansion, f"block{stage + 1}_{i + 1}")
    x = layers.ReLU(6.0)(norm(conv(x, 10, 1, 1, "top"), "top_bn"))
    return keras.Model(inputs, layers.Dense(7, name="predictions")(layers.Flatten()(x)), name="mobilenet")
