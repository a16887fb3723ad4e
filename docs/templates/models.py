"""A model and its port: ``convspec gate`` calls both functions."""

import torch
from torch import nn


def source():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1), nn.Conv2d(6, 4, (3, 5))
    ).eval()


def port():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1), nn.Conv2d(6, 4, (3, 5))
    ).eval()
