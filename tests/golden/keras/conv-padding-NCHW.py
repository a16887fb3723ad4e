import keras

layer = keras.Sequential([
    keras.layers.ZeroPadding2D(((0, 3), (2, 1)), data_format="channels_first"),
    keras.layers.Conv2D(
        4, (3, 5), strides=(2, 3), data_format="channels_first", name="conv"
    ),
])
