"""Examples of the gaps that Flax and Equinox both have from JAX."""

from convspec import ConvSpec
from convspec.corpora.cases import Case

JAX_GAPS = {
    "jax-kernel-beyond-input": [Case(ConvSpec(2, 3, (2, 5), padding=(0, 1)), (1, 2, 4, 2), "NHWC")],
    "jax-crop-beyond-output": [Case(ConvSpec(2, 3, (2, 1), padding=(2, 0), transposed=True), (1, 2, 2, 3), "NHWC")],
    "jax-reflect-repeats": [Case(ConvSpec(2, 3, 2, padding=((3, 0),), padding_mode="reflect"), (1, 2, 3), "NHWC")],
    "jax-wrap-repeats": [Case(ConvSpec(2, 3, 2, padding=((0, 4),), padding_mode="circular"), (1, 2, 3), "NHWC")],
    "jax-spreads-nothing-over-nothing": [Case(ConvSpec(2, 3, (3,), stride=2, transposed=True), (1, 2, 0), "NHWC")],
}
