import jax.numpy as jnp
from flax import linen as nn


class Layer(nn.Module):
    def setup(self):
        self.conv = nn.ConvTranspose(
            2,
            kernel_size=(2, 3),
            strides=(2, 1),
            padding=((0, 1), (0, 0)),
            transpose_kernel=True,
        )

    def __call__(self, x):
        x = jnp.moveaxis(x, 1, -1)  # channels last, as Flax wants them
        x = self.conv(x)
        x = x[:, 1:, 1:-2]
        return jnp.moveaxis(x, -1, 1)


layer = Layer()
