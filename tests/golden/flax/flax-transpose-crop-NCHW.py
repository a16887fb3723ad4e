import jax.numpy as jnp
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
        x = jnp.moveaxis(x, 1, -1)  # channels last, as Flax wants them
        x = self.conv(x)
        x = x[:, 1:, 1:-2]
        return jnp.moveaxis(x, -1, 1)


layer = Layer(rngs=nnx.Rngs(0))
