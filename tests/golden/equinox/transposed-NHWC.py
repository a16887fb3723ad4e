import equinox as eqx
import jax
import jax.numpy as jnp


class ChannelsLastConvTranspose2d(eqx.Module):
    conv: eqx.nn.ConvTranspose2d

    def __init__(self, key):
        self.conv = eqx.nn.ConvTranspose2d(
            4,
            6,
            (3, 2),
            stride=(2, 3),
            padding=((1, 0), (0, 1)),
            output_padding=(1, 2),
            groups=2,
            key=key,
        )

    def __call__(self, x):
        x = jnp.moveaxis(x, -1, 0)
        x = self.conv(x)
        x = jnp.moveaxis(x, 0, -1)
        return x


layer = ChannelsLastConvTranspose2d(key=jax.random.key(0))
