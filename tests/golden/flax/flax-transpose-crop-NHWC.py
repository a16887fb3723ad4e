from flax import nnx


class Layer(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.conv = nnx.ConvTranspose(
            3,
            2,
            kernel_size=(2, 3),
            strides=(2, 1),
            padding=((0, 1), (0, 0)),
            transpose_kernel=True,
            rngs=rngs,
        )

    def __call__(self, x):
        x = self.conv(x)
        return x[:, 1:, 1:-2]


layer = Layer(rngs=nnx.Rngs(0))
