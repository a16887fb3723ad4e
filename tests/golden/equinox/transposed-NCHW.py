import equinox as eqx
import jax

layer = eqx.nn.ConvTranspose2d(
    4,
    6,
    (3, 2),
    stride=(2, 3),
    padding=((1, 0), (0, 1)),
    output_padding=(1, 2),
    groups=2,
    key=jax.random.key(0),
)
