import jax.numpy as jnp
from flax import linen as nn


class Layer(nn.Module):
    def setup(self):
        self.conv = nn.ConvTranspose(
            4,
            kernel_size=(3, 5),
            strides=(2, 3),
            padding=((1, 2), (4, 2)),
            transpose_kernel=True,
        )

    def __call__(self, x):
        x = jnp.moveaxis(x, 1, -1)  # channels last, as Flax wants them
        x = self.conv(x)
        return jnp.moveaxis(x, -1, 1)


layer = Layer()
