import keras

layer = keras.layers.DepthwiseConv1D(
    4, depth_multiplier=1, data_format="channels_first", dilation_rate=2
)
