import keras
import tensorflow as tf

model = keras.Sequential([
    keras.Input((32, 32, 2), batch_size=1),
    keras.layers.Conv2DTranspose(3, (3, 4), strides=(2, 3), output_padding=1),
    keras.layers.Cropping2D(((1, 0), (0, 0))),
])
layer = tf.lite.TFLiteConverter.from_keras_model(model).convert()
