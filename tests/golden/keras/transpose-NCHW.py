import keras

layer = keras.layers.Conv2DTranspose(
    4, (3, 5), strides=(2, 3), data_format="channels_first"
)
