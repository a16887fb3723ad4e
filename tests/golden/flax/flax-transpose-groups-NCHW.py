import jax.numpy as jnp
from flax import nnx


class Layer(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        # a transposed convolution with groups: the input is dilated by the stride, the kernel flipped
        self.conv = nnx.Conv(
            4,
            6,
            kernel_size=(3, 2),
            input_dilation=(2, 3),
            padding=((1, 2), (1, 1)),
            feature_group_count=2,
            rngs=rngs,
        )

    def __call__(self, x):
        x = jnp.moveaxis(x, 1, -1)  # channels last, as Flax wants them
        x = self.conv(x)
        return jnp.moveaxis(x, -1, 1)


layer = Layer(rngs=nnx.Rngs(0))
