import keras

layer = keras.layers.Conv2D(4, (3, 4), padding="same")
