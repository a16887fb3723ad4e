import numpy as np
import openvino as ov
from openvino import opset13 as ops

x = ops.parameter([-1, 4, -1, -1], np.float32, name="x")
weight = ops.constant(np.zeros((2, 2, 3, 3, 2), np.float32), name="weight")
y = ops.group_convolution_backprop_data(
    x, weight,
    strides=[2, 3],
    pads_begin=[1, 0],
    pads_end=[0, 1],
    dilations=[1, 1], output_padding=[1, 2],
)
bias = ops.constant(np.zeros((1, 6, 1, 1), np.float32), name="bias")
y = ops.add(y, bias)
layer = ov.Model([y], [x], "layer")
