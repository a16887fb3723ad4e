import keras
import tensorflow as tf

model = keras.Sequential([
    keras.Input((32, 32, 4), batch_size=1),
    keras.layers.ZeroPadding2D(((1, 0), (2, 3))),
    keras.layers.Conv2D(6, (3, 2), strides=(2, 1), groups=2),
])
layer = tf.lite.TFLiteConverter.from_keras_model(model).convert()
