"""The oracle against the models, inputs and expected outputs that the onnx wheel ships."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convspec import ConvParams, ConvSpec, reference
from convspec.reference import error_bounds
from convspec.spec.dtypes import ComputePrecision

pytestmark = pytest.mark.onnx
onnx = pytest.importorskip("onnx", reason="the wheel's test data are what this compares with")

FOLDERS = ("pytorch-converted", "pytorch-operator", "simple")


def graphs() -> dict[str, Any]:
    """Every model in those folders that has a convolution in it, by folder and name."""
    data = Path(onnx.__file__).parent / "backend" / "test" / "data"
    found = {}
    for path in sorted(file for folder in FOLDERS for file in (data / folder).glob("*/model.onnx")):
        model = onnx.load(path)
        if any("Conv" in node.op_type for node in model.graph.node):
            found[f"{path.parent.parent.name}/{path.parent.name}"] = (path.parent, model)
    return found


GRAPHS = graphs()
# A model with other operators than the convolution would say nothing certain about the convolution. There is none.
LEFT_OUT = {name for name, (_, model) in GRAPHS.items() if len(model.graph.node) != 1}


def spec_of(node: Any, kernel: np.ndarray, *, bias: bool) -> ConvSpec:
    """The node's attributes as ONNX defines them: ``pads`` are all starts, then all ends."""
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    transposed, ndim = node.op_type == "ConvTranspose", kernel.ndim - 2
    known = {"dilations", "group", "kernel_shape", "pads", "strides"} | ({"output_padding"} if transposed else set())
    assert set(given) <= known
    assert given["kernel_shape"] == list(kernel.shape[2:])
    first, second = kernel.shape[0], kernel.shape[1] * given["group"]
    return ConvSpec(
        in_channels=first if transposed else second,
        out_channels=second if transposed else first,
        kernel_size=given["kernel_shape"],
        stride=given["strides"],
        padding=tuple(zip(given["pads"][:ndim], given["pads"][ndim:], strict=True)),
        dilation=given["dilations"],
        groups=given["group"],
        bias=bias,
        transposed=transposed,
        output_padding=given.get("output_padding", 0),
        ndim=ndim,
    )


def tensor(path: Path) -> np.ndarray:
    return onnx.numpy_helper.to_array(onnx.load_tensor(path))


def test_what_the_wheel_ships_is_found() -> None:
    converted = [name for name in GRAPHS if name.startswith("pytorch-converted/")]
    assert len(converted) >= 28
    assert sum("ConvTranspose" in name for name in converted) >= 2
    assert set() == LEFT_OUT


@pytest.mark.parametrize("name", sorted(set(GRAPHS) - LEFT_OUT))
def test_expected_output(name: str) -> None:
    folder, model = GRAPHS[name]
    (node,) = model.graph.node
    values = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    sets = sorted(folder.glob("test_data_set_*"))
    assert sets
    for data in sets:
        free = [i.name for i in model.graph.input if i.name not in values]
        values |= {name: tensor(data / f"input_{k}.pb") for k, name in enumerate(free)}
        x, *weights = (values[name] for name in node.input)
        params = ConvParams(*weights)
        spec = spec_of(node, params.kernel, bias=params.bias is not None)
        expected = tensor(data / "output_0.pb")
        assert expected.dtype == x.dtype == np.float32
        y, G = reference.conv(spec, params, x), reference.magnitude(spec, params, x)
        assert y.shape == expected.shape
        assert np.any(expected)
        bound = error_bounds.bounds(
            "float32", error_bounds.products(spec), ComputePrecision("float32", output_roundings=2)
        )
        excess = np.abs(expected - y) - (bound.relative * G + bound.absolute)
        assert excess.max() <= 0
        # The same bound must reject a kernel that is a thousandth too large.
        larger = reference.conv(spec, ConvParams(params.kernel * (1 + 2.0**-10), params.bias), x)
        assert (np.abs(expected - larger) > bound.relative * G + bound.absolute).any()
