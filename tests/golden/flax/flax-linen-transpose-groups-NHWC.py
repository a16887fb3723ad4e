from flax import linen as nn

# a transposed convolution with groups: the input is dilated by the stride, the kernel flipped
layer = nn.Conv(
    6,
    kernel_size=(3, 2),
    input_dilation=(2, 3),
    padding=((1, 2), (1, 1)),
    feature_group_count=2,
)
