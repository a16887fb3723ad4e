import keras

layer = keras.layers.DepthwiseConv1D(4, depth_multiplier=1, dilation_rate=2)
