import jax.numpy as jnp
from flax import nnx


class Layer(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.conv = nnx.Conv(3, 4, kernel_size=(3, 2), padding="VALID", rngs=rngs)

    def __call__(self, x):
        x = jnp.moveaxis(x, 1, -1)  # channels last, as Flax wants them
        x = jnp.pad(x, ((0, 0), (2, 1), (0, 3), (0, 0)), mode="reflect")
        x = self.conv(x)
        return jnp.moveaxis(x, -1, 1)


layer = Layer(rngs=nnx.Rngs(0))
