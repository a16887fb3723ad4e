import keras

layer = keras.layers.Conv2DTranspose(2, 4, strides=2, padding="same")
