import keras

layer = keras.layers.Conv3DTranspose(
    3, (1, 2, 3), strides=(1, 2, 3), data_format="channels_first", use_bias=False
)
