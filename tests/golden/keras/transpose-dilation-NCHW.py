import keras

layer = keras.layers.Conv2DTranspose(
    3, (2, 3), data_format="channels_first", dilation_rate=(3, 1)
)
