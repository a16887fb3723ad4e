import numpy as np
from onnx import TensorProto, helper, numpy_helper

tensors = {
    "weight": np.zeros((4, 3, 3, 5), np.float32),  # (out_channels, in_channels / group, H, W)
    "bias": np.zeros(4, np.float32),
}
nodes = [
    helper.make_node(
        "Conv",
        ["x", "weight", "bias"],
        ["y"],
        kernel_shape=[3, 5],
        strides=[2, 3],
        dilations=[1, 1],
        group=1,
        pads=[1, 2, 1, 2],
    ),
]
graph = helper.make_graph(
    nodes,
    "conv",
    inputs=[helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "H", "W"])],
    outputs=[helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, "H_out", "W_out"])],
    initializer=[numpy_helper.from_array(values, name) for name, values in tensors.items()],
)
layer = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
