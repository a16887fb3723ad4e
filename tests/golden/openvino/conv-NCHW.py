import numpy as np
import openvino as ov
from openvino import opset13 as ops

x = ops.parameter([-1, 3, -1, -1], np.float32, name="x")
weight = ops.constant(np.zeros((4, 3, 3, 5), np.float32), name="weight")
y = ops.convolution(
    x, weight,
    strides=[2, 1],
    pads_begin=[1, 2],
    pads_end=[0, 3],
    dilations=[1, 2],
)
bias = ops.constant(np.zeros((1, 4, 1, 1), np.float32), name="bias")
y = ops.add(y, bias)
layer = ov.Model([y], [x], "layer")
