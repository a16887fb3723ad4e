import keras

layer = keras.layers.Conv2DTranspose(3, (2, 3), dilation_rate=(3, 1))
