"""The networks as users of Keras write them: functional, channels last."""

from __future__ import annotations

import keras
from keras import layers

from tests.pairs.published.torch_models import EFFICIENTNET


def conv_norm(x, filters, kernel, stride=1, *, epsilon=1e-5, activation=None):
    if stride > 1 and kernel > 1:
        x = layers.ZeroPadding2D(kernel // 2)(x)
    padding = "same" if stride == 1 else "valid"
    x = layers.Conv2D(filters, kernel, stride, padding, use_bias=False)(x)
    x = layers.BatchNormalization(epsilon=epsilon)(x)
    return x if activation is None else layers.Activation(activation)(x)


def resnet_50(width=1):
    x = given = keras.Input((None, None, 3))
    x = conv_norm(x, 64 // width, 7, 2, activation="relu")
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))  # after a ReLU zeros are as good as minus infinity
    for stage, (repeats, channels) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for i in range(repeats):
            channels_, stride = channels // width, 2 if stage and not i else 1
            shortcut = x if i else conv_norm(x, 4 * channels_, 1, stride)
            y = conv_norm(x, channels_, 1, activation="relu")
            y = conv_norm(y, channels_, 3, stride, activation="relu")
            x = layers.ReLU()(layers.Add()([conv_norm(y, 4 * channels_, 1), shortcut]))
    x = layers.Dense(1000)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(given, x)


def same(x, filters, kernel, stride=1, *, depthwise=False, activation="swish"):
    if depthwise:
        x = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False)(x)
    else:
        x = layers.Conv2D(filters, kernel, stride, "same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    return layers.Activation(activation)(x) if activation else x


def mb_conv(x, filters, kernel, stride, expansion):
    inputs = x.shape[-1]
    y = same(x, inputs * expansion, 1) if expansion > 1 else x
    y = same(y, None, kernel, stride, depthwise=True)
    s = layers.GlobalAveragePooling2D(keepdims=True)(y)
    s = layers.Conv2D(max(1, inputs // 4), 1, activation="swish")(s)
    s = layers.Conv2D(inputs * expansion, 1, activation="sigmoid")(s)
    y = same(layers.Multiply()([y, s]), filters, 1, activation=None)
    return layers.Add()([x, y]) if stride == 1 and inputs == filters else y


def efficientnet_b0(width=1):
    given = keras.Input((None, None, 3))
    x = same(given, 32 // width, 3, 2)
    for expansion, channels, repeats, stride, kernel in EFFICIENTNET:
        for i in range(repeats):
            x = mb_conv(x, channels // width, kernel, 1 if i else stride, expansion)
    x = layers.GlobalAveragePooling2D()(same(x, 1280 // width, 1))
    return keras.Model(given, layers.Dense(1000)(layers.Dropout(0.2)(x)))


def u_net(width=1):
    given = x = keras.Input((None, None, 1))
    widths = [n // width for n in (64, 128, 256, 512, 1024)]

    def twice(x, filters):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, activation="relu")(x)
        return x

    left = []
    for level, filters in enumerate(widths):
        x = twice(layers.MaxPooling2D()(x) if level else x, filters)
        left.append(x)
    margins = {}  # the input has one size here, so the crops are numbers
    size = 4
    for level in range(3, -1, -1):
        margins[level] = size
        size = 2 * size + 8
    for level in range(3, -1, -1):
        x = layers.Conv2DTranspose(widths[level], 2, 2)(x)
        beside = layers.Cropping2D(margins[level])(left[level])
        x = twice(layers.Concatenate()([beside, x]), widths[level])
    return keras.Model(given, layers.Conv2D(2, 1)(x))


def dcgan(width=1):
    widths = [n // width for n in (1024, 512, 256, 128)]
    model = keras.Sequential([keras.Input((100,)), layers.Reshape((1, 1, 100))])
    for number, filters in enumerate(widths):
        strides = {"strides": 2, "padding": "same"} if number else {}
        model.add(layers.Conv2DTranspose(filters, 4, use_bias=False, **strides))
        model.add(layers.BatchNormalization(epsilon=1e-5))
        model.add(layers.ReLU())
    model.add(layers.Conv2DTranspose(3, 4, 2, "same", activation="tanh"))
    return model


def res_block(x, channels, kernel):
    for dilation in (1, 3, 5):
        y = layers.LeakyReLU(negative_slope=0.1)(x)
        y = layers.Conv1D(channels, kernel, padding="same", dilation_rate=dilation)(y)
        y = layers.Conv1D(channels, kernel, padding="same")(layers.LeakyReLU(negative_slope=0.1)(y))
        x = layers.Add()([x, y])
    return x


def hifi_gan(width=1):
    """Without weight norm, as for use."""
    channels = 512 // width
    given = keras.Input((None, 80))
    x = layers.Conv1D(channels, 7, padding="same")(given)
    for rate, kernel in ((8, 16), (8, 16), (2, 4), (2, 4)):
        channels //= 2
        x = layers.LeakyReLU(negative_slope=0.1)(x)
        x = layers.Conv1DTranspose(channels, kernel, rate, "same")(x)
        x = layers.Average()([res_block(x, channels, k) for k in (3, 7, 11)])
    x = layers.LeakyReLU(negative_slope=0.01)(x)
    return keras.Model(given, layers.Conv1D(1, 7, padding="same", activation="tanh")(x))


def deeplab_aspp(width=1):
    channels = 256 // width
    given = keras.Input((33, 33, 2048) if width == 1 else (17, 19, 2048 // width))

    def projected(x, kernel=1, rate=1):
        x = layers.Conv2D(channels, kernel, padding="same", dilation_rate=rate, use_bias=False)(x)
        return layers.ReLU()(layers.BatchNormalization(epsilon=1e-5)(x))

    branches = [projected(given), *(projected(given, 3, rate) for rate in (6, 12, 18))]
    pooled = projected(layers.GlobalAveragePooling2D(keepdims=True)(given))
    branches.append(layers.UpSampling2D(given.shape[1:3], interpolation="bilinear")(pooled))
    x = projected(projected(layers.Concatenate()(branches)), 3)
    return keras.Model(given, layers.UpSampling2D(8, interpolation="bilinear")(layers.Conv2D(21, 1)(x)))


def wavenet(width=1):
    given = keras.Input((None, 256))
    x = layers.Conv1D(32 // width, 2, padding="causal")(given)
    skips = []
    for _ in range(3):
        for dilation in (2**i for i in range(10)):
            y = layers.Conv1D(64 // width, 2, padding="causal", dilation_rate=dilation)(x)
            left, right = keras.ops.split(y, 2, axis=-1)
            y = layers.Multiply()([keras.ops.tanh(left), keras.ops.sigmoid(right)])
            skips.append(layers.Conv1D(256 // width, 1)(y))
            x = layers.Add()([x, layers.Conv1D(32 // width, 1)(y)])
    x = layers.ReLU()(layers.Add()(skips))
    x = layers.Conv1D(256 // width, 1, activation="relu")(x)
    return keras.Model(given, layers.Conv1D(256, 1)(x))


def stage(x, filters, stride):
    for step in (stride, 1):
        if step > 1:
            x = layers.Conv3D(filters, 3, step)(layers.ZeroPadding3D(1)(x))
        else:
            x = layers.Conv3D(filters, 3, padding="same")(x)
        x = layers.LeakyReLU(negative_slope=0.01)(layers.GroupNormalization(-1, epsilon=1e-5)(x))
    return x


def nnu_net(width=1, classes=3):
    widths = [n // width for n in (32, 64, 128, 256, 320, 320)]
    given = x = keras.Input((None, None, None, 1))
    left = []
    for level, filters in enumerate(widths):
        x = stage(x, filters, 2 if level else 1)
        left.append(x)
    for filters, beside in zip(widths[-2::-1], left[-2::-1], strict=True):
        x = stage(layers.Concatenate()([layers.Conv3DTranspose(filters, 2, 2)(x), beside]), filters, 1)
    return keras.Model(given, layers.Conv3D(classes, 1)(x))
