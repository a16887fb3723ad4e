import keras

layer = keras.layers.Conv1D(
    3, 3, padding="causal", data_format="channels_first", dilation_rate=2
)
