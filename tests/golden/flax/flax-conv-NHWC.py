from flax import nnx

layer = nnx.Conv(
    3, 4, kernel_size=(3, 5), strides=(2, 3), padding=(1, 2), rngs=nnx.Rngs(0)
)
