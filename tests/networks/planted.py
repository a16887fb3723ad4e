"""Keras models with the weights of PyTorch's, one classic mistake in each."""

from __future__ import annotations

import numpy as np

import convspec
from tests.networks import keras_models, torch_models

RESNET_INPUT = np.random.default_rng(0).standard_normal((2, 3, 64, 48), np.float32)
MOBILENET_INPUT = np.random.default_rng(0).standard_normal((2, 3, 48, 32), np.float32)


def _ported(source, target, x):
    report = convspec.port_weights(source, target, x)
    assert report.written
    assert not report.left
    return target


def resnet():
    """Without a mistake."""
    return _ported(torch_models.resnet(), keras_models.resnet(), RESNET_INPUT)


def mobilenet():
    """Without a mistake."""
    return _ported(torch_models.mobilenet(), keras_models.mobilenet(), MOBILENET_INPUT)


def resnet_same():
    """``padding='same'`` in the strided convolution of stage 2, where PyTorch has ``padding=1``."""
    return _ported(torch_models.resnet(), keras_models.resnet(same=(1,)), RESNET_INPUT)


def resnet_epsilon():
    """Keras's default epsilon, 0.001, in a norm of stage 3, where PyTorch's is 0.00001."""
    return _ported(torch_models.resnet(), keras_models.resnet(epsilon={2: 1e-3}), RESNET_INPUT)


def mobilenet_flatten():
    """The linear layer's rows as they are in PyTorch, though Keras flattens channels last."""
    model = mobilenet()
    classifier = torch_models.mobilenet().classifier
    model.get_layer("predictions").kernel.assign(classifier.weight.detach().numpy().T)
    return model
