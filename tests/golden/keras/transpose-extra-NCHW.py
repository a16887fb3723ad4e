import keras

layer = keras.layers.Conv1DTranspose(
    3, 4, strides=3, output_padding=2, data_format="channels_first"
)
