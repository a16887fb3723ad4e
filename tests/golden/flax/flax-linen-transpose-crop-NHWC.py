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
        x = self.conv(x)
        return x[:, 1:, 1:-2]


layer = Layer()
