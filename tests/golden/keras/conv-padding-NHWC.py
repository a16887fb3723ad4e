import keras

layer = keras.Sequential([
    keras.layers.ZeroPadding2D(((0, 3), (2, 1))),
    keras.layers.Conv2D(4, (3, 5), strides=(2, 3), name="conv"),
])
