"""A script, run in a process of its own: a Keras network, saved and converted in four precisions into this folder."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

L = keras.layers
PRECISIONS = ("float32", "float16", "dynamic", "int8")


def network():
    x = given = keras.Input((24, 20, 3), batch_size=1)
    x = L.Conv2D(8, 3, strides=2, padding="same", name="stem")(x)
    x = L.ReLU()(L.BatchNormalization(name="norm")(x))
    x = L.ReLU(6.0)(L.DepthwiseConv2D(3, padding="same", name="depthwise")(x))
    skip = x = L.Conv2D(16, 1, name="pointwise", activation="relu")(x)
    x = L.Conv2D(16, 3, dilation_rate=2, name="dilated")(L.ZeroPadding2D(2)(x))
    x = L.Conv2D(16, 3, groups=4, padding="same", name="grouped", activation="relu")(L.Add()([x, skip]))
    x = L.MaxPooling2D(2)(L.Conv2DTranspose(8, 3, strides=2, padding="same", name="up")(x))
    x = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, padding="same", name="last")(x))
    return keras.Model(given, L.Dense(5, activation="softmax", name="head")(x))


def convert(model, precision):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        rng = np.random.default_rng(3)
        inputs = [rng.standard_normal((1, 24, 20, 3)).astype(np.float32) for _ in range(8)]
        converter.representative_dataset = lambda: ([x] for x in inputs)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def main():
    model, rng = network(), np.random.default_rng(0)
    for layer in model.layers:
        weights = [0.3 * rng.standard_normal(array.shape) for array in layer.get_weights()]
        if layer.name == "norm":
            weights = [0.5 + np.abs(array) for array in weights]
        layer.set_weights(weights)
    model.save("network.keras")
    for precision in PRECISIONS:
        Path(f"{precision}.tflite").write_bytes(convert(model, precision))


if __name__ == "__main__":
    main()
