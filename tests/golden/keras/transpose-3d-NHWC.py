import keras

layer = keras.layers.Conv3DTranspose(3, (1, 2, 3), strides=(1, 2, 3), use_bias=False)
