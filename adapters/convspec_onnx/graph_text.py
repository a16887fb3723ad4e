"""ONNX models as Python code that makes them with ``onnx.helper``."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

# Opset 19 is the first whose Pad has the mode "wrap". A lower opset is better: more runtimes load the model, and more
# of their graph optimisations support its operators.
OPSET = 19
_IR_VERSIONS = {19: 9, 20: 9, 21: 10, 22: 10, 23: 11}
NUMPY_TYPES = {"float32": "np.float32", "float64": "np.float64", "float16": "np.float16",
               "bfloat16": "ml_dtypes.bfloat16"}  # fmt: skip
_ONNX_TYPES = {"float32": "FLOAT", "float64": "DOUBLE", "float16": "FLOAT16", "bfloat16": "BFLOAT16"}
_WIDTH = 100


def make_node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: object) -> str:
    """Return the code that makes a node, in one line."""
    arguments = [_quoted(op), _quoted(list(inputs)), _quoted(list(outputs))]
    arguments += [f"{name}={_quoted(value)}" for name, value in attributes.items()]
    return f"helper.make_node({', '.join(arguments)}),"


def model_text(
    variable: str, name: str, tensors: Sequence[str], nodes: Sequence[str], inputs: Mapping[str, Sequence[object]],
    outputs: Mapping[str, Sequence[object]], opset: int = OPSET, dtype: str = "float32",
) -> str:  # fmt: skip
    """Return the program that makes a model of these tensors and nodes; a ``raise`` among the nodes is a statement."""
    given, made = (
        "".join(f'helper.make_tensor_value_info("{tensor}", TensorProto.{_ONNX_TYPES[dtype]}, {_quoted(list(shape))}), '
                for tensor, shape in entries.items())[:-2] for entries in (inputs, outputs)
    )  # fmt: skip
    constants = "\n".join(f"    {line}" for line in tensors)
    steps, version = "\n".join(_wrapped(line) for line in nodes), _IR_VERSIONS[opset]
    return f"""\
{"import ml_dtypes" if dtype == "bfloat16" else ""}
import numpy as np
from onnx import TensorProto, helper, numpy_helper

tensors = {{
{constants}
}}
nodes = [
{steps}
]
graph = helper.make_graph(
    nodes,
    "{name}",
    inputs=[{given}],
    outputs=[{made}],
    initializer=[numpy_helper.from_array(values, name) for name, values in tensors.items()],
)
{variable} = helper.make_model(graph, opset_imports=[helper.make_opsetid("", {opset})], ir_version={version})
""".lstrip("\n")


def _wrapped(line: str) -> str:
    """Return a node among others, a long one with an argument a line; a statement between two lists."""
    if line.startswith("raise "):
        return f"]\n{line}\nnodes += ["
    if len(line) <= _WIDTH:
        return f"    {line}"
    call = ast.parse(line.rstrip(","), mode="eval").body
    assert isinstance(call, ast.Call)
    arguments = [ast.unparse(one).replace("'", '"') for one in (*call.args, *call.keywords)]
    return "    helper.make_node(\n" + "".join(f"        {one},\n" for one in arguments) + "    ),"


def _quoted(value: object) -> str:
    return repr(value).replace("'", '"')
