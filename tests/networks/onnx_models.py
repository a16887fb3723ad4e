"""The two models as ONNX graphs, node by node: NCHW, pads as attributes, BatchNormalization behind Conv."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTHS = (4, 6, 8, 10)
BLOCKS = ((1, 4, 1, 1), (3, 6, 2, 2), (3, 8, 2, 2))


class Graph:
    """Nodes and weights, collected."""

    def __init__(self):
        self.nodes, self.weights = [], []
        self.random = np.random.default_rng(5)

    def node(self, op, name, *inputs, **attributes):
        self.nodes.append(helper.make_node(op, list(inputs), [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def weight(self, name, *shape):
        self.weights.append(numpy_helper.from_array(self.random.random(shape, np.float32) + np.float32(0.5), name))
        return name

    def conv(self, x, name, inputs, outputs, kernel, stride=1, groups=1):
        w = self.weight(f"{name}.w", outputs, inputs // groups, kernel, kernel)
        pads = [kernel // 2] * 4
        return self.node("Conv", name, x, w, strides=[stride] * 2, pads=pads, group=groups, kernel_shape=[kernel] * 2)

    def norm(self, x, name, channels):
        arrays = [self.weight(f"{name}.{word}", channels) for word in ("scale", "b", "mean", "var")]
        return self.node("BatchNormalization", name, x, *arrays, epsilon=1e-5)

    def gemm(self, x, features, classes):
        return self.node(
            "Gemm", "fc", x, self.weight("fc.w", classes, features), self.weight("fc.b", classes), transB=1
        )

    def model(self, shape, result):
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])]
        outputs = [helper.make_tensor_value_info(result, TensorProto.FLOAT, ["n", 7])]
        graph = helper.make_graph(self.nodes, "net", inputs, outputs, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def resnet():
    g = Graph()
    x = g.node("Relu", "relu", g.norm(g.conv("x", "conv", 3, WIDTHS[0], 7, 2), "norm", WIDTHS[0]))
    x = g.node("MaxPool", "pool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    inputs = WIDTHS[0]
    for stage, width in enumerate(WIDTHS):
        for block in range(2):
            name, stride = f"s{stage}b{block}", 2 if stage and not block else 1
            skip = x
            if stride == 2:
                skip = g.norm(g.conv(x, f"{name}skip", inputs, width, 1, stride), f"{name}skipnorm", width)
            y = g.norm(g.conv(x, f"{name}c1", inputs, width, 3, stride), f"{name}n1", width)
            y = g.node("Relu", f"{name}r1", y)
            y = g.norm(g.conv(y, f"{name}c2", width, width, 3), f"{name}n2", width)
            x, inputs = g.node("Relu", f"{name}r2", g.node("Add", f"{name}add", skip, y)), width
    x = g.node("Flatten", "flatten", g.node("GlobalAveragePool", "mean", x))
    return g.model((3, 64, 48), g.gemm(x, inputs, 7))


def mobilenet():
    g = Graph()
    for bound, value in (("low", 0.0), ("high", 6.0)):
        g.weights.append(numpy_helper.from_array(np.float32(value), bound))

    def layer(x, name, *sizes, act=True, **options):
        y = g.norm(g.conv(x, name, *sizes, **options), f"{name}norm", sizes[1])
        return g.node("Clip", f"{name}clip", y, "low", "high") if act else y

    x, inputs = layer("x", "stem", 3, 5, 3, 2), 5
    for stage, (expansion, outputs, repeats, stride) in enumerate(BLOCKS):
        for i in range(repeats):
            name, hidden = f"s{stage}b{i}", inputs * expansion
            y = layer(x, f"{name}expand", inputs, hidden, 1) if expansion > 1 else x
            y = layer(y, f"{name}depth", hidden, hidden, 3, stride if i == 0 else 1, groups=hidden)
            y = layer(y, f"{name}project", hidden, outputs, 1, act=False)
            x = g.node("Add", f"{name}add", x, y) if inputs == outputs and (i or stride == 1) else y
            inputs = outputs
    return g.model((3, 48, 32), g.gemm(g.node("Flatten", "flatten", layer(x, "top", inputs, 10, 1)), 240, 7))


def checked(model):
    """The model, if it keeps ONNX's rules."""
    onnx.checker.check_model(model, full_check=True)
    return model
