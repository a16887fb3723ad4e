import keras

layer = keras.layers.DepthwiseConv2D(
    (3, 5), strides=2, padding="same", depth_multiplier=2, data_format="channels_first"
)
