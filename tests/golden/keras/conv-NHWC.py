import keras

layer = keras.layers.Conv2D(4, (3, 5), strides=(2, 3), use_bias=False)
