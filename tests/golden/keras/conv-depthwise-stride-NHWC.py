import keras

layer = keras.layers.Conv2D(6, (3, 5), strides=(2, 1), groups=3)
