import numpy as np
from onnx import TensorProto, helper, numpy_helper

tensors = {
    "weight": np.zeros((4, 3, 3, 4), np.float32),  # (out_channels, in_channels / group, H, W)
    "bias": np.zeros(4, np.float32),
    "one": np.array([1], np.int64),
    "two": np.array([2], np.int64),
    "zero": np.array([0], np.int64),
    "strides": np.array([2, 3], np.int64),
    "reach": np.array([2, 6], np.int64),
    "axes": np.array([2, 3], np.int64),
}
nodes = [
    helper.make_node("Shape", ["x"], ["size"], start=2),
    helper.make_node("Sub", ["size", "one"], ["last"]),
    helper.make_node("Mod", ["last", "strides"], ["covered"]),
    helper.make_node("Sub", ["reach", "covered"], ["missing"]),
    helper.make_node("Max", ["missing", "zero"], ["total"]),
    helper.make_node("Div", ["total", "two"], ["less"]),
    helper.make_node("Sub", ["total", "less"], ["more"]),
    helper.make_node("Concat", ["less", "more"], ["pads"], axis=0),
    helper.make_node("Pad", ["x", "pads", "", "axes"], ["padded"], mode="constant"),
    helper.make_node(
        "Conv",
        ["padded", "weight", "bias"],
        ["y"],
        kernel_shape=[3, 4],
        strides=[2, 3],
        dilations=[1, 2],
        group=1,
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
