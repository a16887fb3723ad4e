from flax import linen as nn

layer = nn.ConvTranspose(
    4,
    kernel_size=(3, 5),
    strides=(2, 3),
    padding=((1, 2), (4, 2)),
    transpose_kernel=True,
)
