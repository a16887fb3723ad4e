from flax import nnx

# a transposed convolution with groups: the input is dilated by the stride, the kernel flipped
layer = nnx.Conv(
    4,
    6,
    kernel_size=(3, 2),
    input_dilation=(2, 3),
    padding=((1, 2), (1, 1)),
    feature_group_count=2,
    rngs=nnx.Rngs(0),
)
