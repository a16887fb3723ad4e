import keras

layer = keras.layers.Conv1D(4, 3, strides=2, padding="causal", groups=2)
