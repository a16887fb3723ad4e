import keras

layer = keras.layers.Conv2D(
    4, (3, 4), strides=(2, 3), padding="same", data_format="channels_first"
)
