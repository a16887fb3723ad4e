import keras

layer = keras.layers.Conv2D(
    4, (3, 5), strides=(2, 3), data_format="channels_first", use_bias=False
)
