import keras

layer = keras.layers.Conv2D(
    6, (3, 2), data_format="channels_first", dilation_rate=(1, 3), groups=2
)
