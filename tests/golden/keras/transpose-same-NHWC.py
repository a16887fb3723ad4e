import keras

layer = keras.layers.Conv2DTranspose(2, (3, 4), strides=(2, 3), padding="same")
