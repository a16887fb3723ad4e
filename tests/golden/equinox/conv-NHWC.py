import equinox as eqx
import jax
import jax.numpy as jnp


class ChannelsLastConv2d(eqx.Module):
    conv: eqx.nn.Conv2d

    def __init__(self, key):
        self.conv = eqx.nn.Conv2d(
            3,
            4,
            (3, 5),
            stride=(2, 1),
            padding=((1, 0), (2, 3)),
            dilation=(1, 2),
            key=key,
        )

    def __call__(self, x):
        x = jnp.moveaxis(x, -1, 0)
        x = self.conv(x)
        x = jnp.moveaxis(x, 0, -1)
        return x


layer = ChannelsLastConv2d(key=jax.random.key(0))
