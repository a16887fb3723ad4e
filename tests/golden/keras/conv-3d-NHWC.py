import keras

layer = keras.layers.Conv3D(3, (1, 2, 3), strides=(1, 2, 1))
