import keras

layer = keras.layers.Conv2D(
    6, (3, 5), strides=(2, 1), data_format="channels_first", groups=3
)
