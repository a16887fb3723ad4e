"""Test your own function with the pack: ``python example.py DIR``.

This one convolves images (N, C, H, W) with zero padding, without groups; other layers are unsupported.
"""

import sys

import numpy as np

from vectors import Refused, Unsupported, run


def my_conv2d(x, kernel, stride, pads, dilation):
    """Return a convolution as one product of windows and weights."""
    top, bottom, left, right = pads
    span = [(k - 1) * d + 1 for k, d in zip(kernel.shape[2:], dilation)]
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, span, (2, 3))
    windows = windows[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    return np.einsum("nchwab,ocab->nohw", windows, kernel)


def conv(v, x, kernel, bias):
    """Translate a vector into a call of the function under test."""
    if x.ndim != 4 or not v.first or v.transposed or v.groups > 1 or v.mode != "zeros":
        raise Unsupported
    try:
        y = my_conv2d(x, kernel, v.stride, v.pads, v.dilation)
    except ValueError as error:  # of NumPy, where the window is larger than the padded input
        raise Refused(str(error)) from None
    return y if bias is None else y + bias[:, None, None]


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], conv=conv))
