import keras

layer = keras.layers.Conv2D(6, (3, 2), dilation_rate=(1, 3), groups=2)
