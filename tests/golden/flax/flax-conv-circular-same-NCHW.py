import jax.numpy as jnp
from flax import nnx


class Layer(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.conv = nnx.Conv(
            2, 3, kernel_size=(4, 3), strides=(2, 3), padding="VALID", rngs=rngs
        )

    def __call__(self, x):
        x = jnp.moveaxis(x, 1, -1)  # channels last, as Flax wants them
        sizes = zip(x.shape[1:-1], (4, 3), (2, 3))  # size, kernel, stride
        pads = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in sizes]
        x = jnp.pad(x, ((0, 0), *((p // 2, p - p // 2) for p in pads), (0, 0)), mode="wrap")
        x = self.conv(x)
        return jnp.moveaxis(x, -1, 1)


layer = Layer(rngs=nnx.Rngs(0))
