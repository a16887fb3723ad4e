import keras

layer = keras.layers.Conv2DTranspose(
    3, (2, 1), strides=(3, 4), output_padding=0, data_format="channels_first"
)
