import keras

layer = keras.Sequential([
    keras.layers.ZeroPadding1D((1, 2)),
    keras.layers.Conv1D(3, 4, strides=3, name="conv"),
])
