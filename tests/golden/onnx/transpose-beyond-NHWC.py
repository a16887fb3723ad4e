import numpy as np
from onnx import TensorProto, helper, numpy_helper

tensors = {
    "weight": np.zeros((3, 2, 2, 3), np.float32),  # (in_channels, out_channels / group, H, W)
    "bias": np.zeros(2, np.float32),
    "pads": np.array([0, 0, 2, 0], np.int64),
    "axes": np.array([2, 3], np.int64),
    "spatial": np.array([1, 2], np.int64),
}
nodes = [
    helper.make_node("Transpose", ["x"], ["x_first"], perm=[0, 3, 1, 2]),
    helper.make_node(
        "ConvTranspose",
        ["x_first", "weight"],
        ["scattered"],
        kernel_shape=[2, 3],
        strides=[1, 2],
        dilations=[3, 1],
        group=1,
        pads=[0, 0, 0, 0],
        output_padding=[0, 1],
    ),
    helper.make_node("Pad", ["scattered", "pads", "", "axes"], ["extended"], mode="constant"),
    helper.make_node("Unsqueeze", ["bias", "spatial"], ["bias_column"]),
    helper.make_node("Add", ["extended", "bias_column"], ["y_first"]),
    helper.make_node("Transpose", ["y_first"], ["y"], perm=[0, 2, 3, 1]),
]
graph = helper.make_graph(
    nodes,
    "conv",
    inputs=[helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "H", "W", 3])],
    outputs=[helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "H_out", "W_out", 2])],
    initializer=[numpy_helper.from_array(values, name) for name, values in tensors.items()],
)
layer = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
