import equinox as eqx
import jax

layer = eqx.nn.Conv2d(
    3,
    4,
    (3, 5),
    stride=(2, 1),
    padding=((1, 0), (2, 3)),
    dilation=(1, 2),
    key=jax.random.key(0),
)
