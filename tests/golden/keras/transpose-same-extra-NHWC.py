import keras

layer = keras.layers.Conv2DTranspose(2, 3, strides=2, padding="same", output_padding=0)
