import numpy as np
from onnx import TensorProto, helper, numpy_helper

tensors = {
    "weight": np.zeros((4, 3, 3, 2), np.float32),  # (out_channels, in_channels / group, H, W)
    "bias": np.zeros(4, np.float32),
    "pads": np.array([2, 5, 1, 0], np.int64),
    "axes": np.array([2, 3], np.int64),
}
nodes = [
    helper.make_node("Transpose", ["x"], ["x_first"], perm=[0, 3, 1, 2]),
    helper.make_node("Pad", ["x_first", "pads", "", "axes"], ["padded"], mode="wrap"),
    helper.make_node(
        "Conv",
        ["padded", "weight", "bias"],
        ["y_first"],
        kernel_shape=[3, 2],
        strides=[1, 2],
        dilations=[1, 1],
        group=1,
    ),
    helper.make_node("Transpose", ["y_first"], ["y"], perm=[0, 2, 3, 1]),
]
graph = helper.make_graph(
    nodes,
    "conv",
    inputs=[helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "H", "W", 3])],
    outputs=[helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "H_out", "W_out", 4])],
    initializer=[numpy_helper.from_array(values, name) for name, values in tensors.items()],
)
layer = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
