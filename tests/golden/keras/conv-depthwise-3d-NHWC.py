import keras

layer = keras.layers.Conv3D(4, (1, 3, 2), groups=2, use_bias=False)
