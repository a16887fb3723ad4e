"""A small ResNet as linen's users write it: compact, layers made where they are called."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn

from tests.networks.jax_weights import linen_variables

WIDTHS = (4, 6, 8, 10)


class ResNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        def conv_norm(x, width, kernel, stride=1):
            pads = [(kernel // 2, kernel // 2)] * 2
            x = nn.Conv(width, (kernel, kernel), (stride, stride), padding=pads, use_bias=False)(x)
            return nn.BatchNorm(use_running_average=True, epsilon=1e-5)(x)

        x = nn.relu(conv_norm(x, WIDTHS[0], 7, 2))
        x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for stage, width in enumerate(WIDTHS):
            for block in range(2):
                stride = 2 if stage and not block else 1
                y = nn.relu(conv_norm(x, width, 3, stride))
                y = conv_norm(y, width, 3)
                x = nn.relu(y + (conv_norm(x, width, 1, stride) if stride == 2 else x))
        return nn.Dense(7)(x.mean((1, 2)))


def resnet():
    module = ResNet()
    return module, linen_variables(module, jnp.zeros((1, 64, 48, 3)))
