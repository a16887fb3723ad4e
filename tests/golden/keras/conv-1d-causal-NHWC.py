import keras

layer = keras.layers.Conv1D(3, 3, padding="causal", dilation_rate=2)
