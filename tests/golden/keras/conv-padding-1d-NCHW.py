import keras

layer = keras.Sequential([
    keras.layers.ZeroPadding1D((1, 2), data_format="channels_first"),
    keras.layers.Conv1D(3, 4, strides=3, data_format="channels_first", name="conv"),
])
