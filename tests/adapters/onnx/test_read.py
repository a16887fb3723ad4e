"""Models read back: those that convspec built, and those of other hands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from convspec_onnx import REFERENCE
from convspec_onnx.pads import before
from convspec_onnx.read import convs, read
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from convspec import ConvSpec, reference, strategies
from convspec.corpora.cases import Case, arrays
from convspec.errors import UnsupportedError
from convspec.spec import layouts
from convspec.spec.parameters import ConvParams

pytestmark = pytest.mark.onnx
FLOAT = TensorProto.FLOAT


def model(
    nodes: list[onnx.NodeProto], weight: np.ndarray, shape: list[object], **constants: np.ndarray
) -> onnx.ModelProto:
    """A model from ``x`` of that shape to ``y``, with ``w`` and other constants as initialisers."""
    tensors = [numpy_helper.from_array(v, k) for k, v in {"w": weight, **constants}.items()]
    out = helper.make_tensor_value_info("y", FLOAT, None)
    graph = helper.make_graph(nodes, "other", [helper.make_tensor_value_info("x", FLOAT, shape)], [out], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def kernel(*shape: int) -> np.ndarray:
    return np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)


@settings(max_examples=200, deadline=None)
@given(case=strategies.cases(), layout=st.sampled_from(layouts.LAYOUTS), dtype=st.sampled_from(REFERENCE.dtypes))
def test_what_was_built_is_read_back(case: Case, layout: str, dtype: str) -> None:
    spec = case.spec
    params = ConvParams.random(spec, case.seed, dtype)
    reading = read(REFERENCE.build(spec, params, layout, dtype), layouts.shape_in(case.input_shape, layout, spec.ndim))
    explicit = spec.explicit(case.input_shape)
    if spec.transposed and any(
        e >= s and hi for e, s, (_, hi) in zip(spec.output_padding, spec.stride, explicit.padding, strict=True)
    ):
        # Output padding that ONNX Runtime refuses has been taken from the crop: the same layer in other numbers.
        _, x = arrays(case)
        same = reference.conv(reading.spec, reading.params, x)
        np.testing.assert_array_equal(reference.conv(spec, params, x), same)
    else:
        assert reading.spec in (spec, explicit)
    assert (reading.layout, reading.dtype) == (layout, dtype)
    assert reading.params.kernel.tobytes() == params.kernel.tobytes()
    assert (reading.params.bias is None) == (params.bias is None)
    if params.bias is not None:
        assert reading.params.bias is not None
        assert reading.params.bias.tobytes() == params.bias.tobytes()


def test_size_dependent_pads_need_the_size() -> None:
    spec = ConvSpec(2, 3, (3, 4), (2, 3), padding="same", dilation=2)
    built = REFERENCE.build(spec, ConvParams.random(spec))
    with pytest.raises(UnsupportedError, match="pass input_shape"):
        read(built)
    assert read(built, (1, 2, 8, 9)).spec == spec.explicit((1, 2, 8, 9))


def test_defaults_of_the_attributes() -> None:
    found = read(model([helper.make_node("Conv", ["x", "w"], ["y"])], kernel(4, 3, 2, 5), ["N", 3, "H", "W"]))
    assert found.spec == ConvSpec(3, 4, (2, 5), bias=False)
    np.testing.assert_array_equal(found.params.kernel, kernel(4, 3, 2, 5))


@pytest.mark.parametrize(("word", "padding"), [("SAME_UPPER", "same"), ("SAME_LOWER", "same_lower"), ("VALID", 0)])
def test_auto_pad(word: str, padding: object) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad=word, strides=[2, 3])
    assert read(model([node], kernel(4, 3, 2, 5), ["N", 3, "H", "W"])).spec == ConvSpec(
        3, 4, (2, 5), (2, 3), padding, bias=False
    )


def test_weights_in_constant_nodes() -> None:
    w, b = kernel(4, 3, 2), kernel(4)
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(w)),
        helper.make_node("Constant", [], ["b"], value_floats=b.tolist()),
        helper.make_node("Identity", ["c"], ["k"]),
        helper.make_node("Conv", ["x", "k", "b"], ["y"]),
    ]
    found = read(model(nodes, w, ["N", 3, "W"]))
    assert found.spec == ConvSpec(3, 4, (2,))
    np.testing.assert_array_equal(found.params.kernel, w)
    np.testing.assert_array_equal(found.params.bias, b)


@pytest.mark.parametrize(("word", "pads"), [("NOTSET", (2, 1)), ("SAME_UPPER", (1, 2)), ("SAME_LOWER", (2, 1))])
def test_output_shape_is_resolved_as_the_standard_says(word: str, pads: tuple[int, int]) -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2], output_shape=[8], auto_pad=word)
    proto = model([node], kernel(3, 4, 3), ["N", 3, "W"])  # full length for 5 cells: 11
    assert read(proto, (1, 3, 5)).spec == ConvSpec(3, 4, (3,), 2, (pads,), bias=False, transposed=True)
    with pytest.raises(UnsupportedError, match="output_shape"):
        read(proto)
    (found,) = convs(model([node], kernel(3, 4, 3), ["N", 3, 5]))
    assert found.reading is not None
    assert found.reading.spec.padding == (pads,)


def test_external_data(tmp_path: Path) -> None:
    spec = ConvSpec(3, 4, (2, 3))
    params = ConvParams.random(spec)
    onnx.save(REFERENCE.build(spec, params), tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    assert len(list(tmp_path.iterdir())) > 1
    found = read(tmp_path / "m.onnx")
    assert found.spec == spec
    np.testing.assert_array_equal(found.params.kernel, params.kernel)


def test_convs_of_a_model_and_of_its_branches() -> None:
    inner = helper.make_node("Conv", ["x", "v"], ["z"], name="inner")
    branches = [
        helper.make_graph(
            [inner] if i else [helper.make_node("Identity", ["x"], ["z"])],
            f"branch{i}",
            [],
            [helper.make_tensor_value_info("z", FLOAT, None)],
        )
        for i in (0, 1)
    ]
    nodes = [
        helper.make_node("If", ["flag"], ["h"], name="choice", then_branch=branches[1], else_branch=branches[0]),
        helper.make_node("Relu", ["w"], ["positive"]),
        helper.make_node("Conv", ["h", "positive"], ["g"], name="computed"),
        helper.make_node("ConvTranspose", ["g", "w"], ["y"], group=3, pads=[1, 0], output_padding=[1], strides=[2]),
    ]
    found = convs(model(nodes, kernel(3, 1, 4), ["N", 3, "W"], v=kernel(3, 3, 2), flag=np.array(True)))
    assert [f.path for f in found] == ["choice/inner", "computed", "ConvTranspose_3"]
    assert found[0].reading is not None
    assert found[0].reading.spec == ConvSpec(3, 3, (2,), bias=False)
    assert (found[1].reading, found[1].problem) == (None, "weight 'positive' of Conv is made by Relu")
    assert found[2].reading is not None
    assert found[2].reading.spec == ConvSpec(
        3, 3, (4,), 2, ((1, 0),), groups=3, bias=False, transposed=True, output_padding=1
    )


@pytest.mark.parametrize(
    ("mode", "value", "padding", "note"),
    [
        ("constant", 0.0, ((2, 1),), ""),
        ("edge", 0.0, ((2, 1),), ""),
        ("wrap", 0.0, ((2, 1),), ""),
        ("constant", 3.0, ((0, 0),), "pads with 3.0"),
    ],
)
def test_pads_before_convolutions_are_folded_on_request(mode: str, value: float, padding: object, note: str) -> None:
    nodes = [
        helper.make_node("Constant", [], ["half"], value_ints=[0, 0, 2]),
        helper.make_node("Concat", ["half", "end"], ["pads"], axis=0),
        helper.make_node("Pad", ["x", "pads", "value"], ["h"], mode=mode),
        helper.make_node("Conv", ["h", "w"], ["y"], name="c"),
    ]
    extra = {"end": np.array([0, 0, 1]), "value": np.float32(value)}
    proto = model(nodes, kernel(4, 3, 2), ["N", 3, "W"], **extra)
    (plain,) = convs(proto)
    assert plain.reading is not None
    assert plain.reading.spec.padding == ((0, 0),)
    (found,) = REFERENCE.convs(proto, fold_pads=True)
    assert found.reading is not None
    assert found.reading.spec.padding == padding
    assert note in found.note
    (one,) = before(proto, None)["c"]
    assert isinstance(one, str) == bool(note)


def test_weights_that_follow_from_the_file_are_read_through_its_nodes() -> None:
    values = np.arange(-12, 12, dtype=np.int8).reshape(3, 4, 2)  # (I, O, k)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale"], ["dq"]),
        helper.make_node("Transpose", ["dq"], ["turned"], perm=[1, 0, 2]),
        helper.make_node("Cast", ["turned"], ["half"], to=onnx.TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["k"], to=FLOAT),
        helper.make_node("Conv", ["x", "k"], ["y"]),
        helper.make_node("QLinearConv", ["a", "s", "z", "q", "s", "z", "s", "z"], ["b"], name="integers"),
    ]
    first, second = convs(model(nodes, kernel(1), ["N", 3, "W"], q=values, scale=np.float32(0.5)))
    assert first.reading is not None
    np.testing.assert_array_equal(first.reading.params.kernel, values.transpose(1, 0, 2) * np.float32(0.5))
    assert (second.path, second.reading) == ("integers", None)
    assert "integers, which a ConvSpec cannot express" in second.problem


def test_convolutions_in_functions_are_found() -> None:
    inner = helper.make_node("Conv", ["a", "b"], ["c"], name="inner")
    function = helper.make_function("own", "Block", ["a", "b"], ["c"], [inner], [helper.make_opsetid("", 19)])
    proto = model(
        [helper.make_node("Block", ["x", "w"], ["y"], name="call", domain="own")], kernel(4, 3, 2), ["N", 3, 9]
    )
    proto.functions.append(function)
    proto.opset_import.append(helper.make_opsetid("own", 1))
    (found,) = convs(proto)
    assert found.reading is not None
    assert "inner" in found.path


def test_a_model_without_convolutions_lists_its_operators() -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    with pytest.raises(UnsupportedError, match="no convolutions; its operators: Relu"):
        convs(model([node], kernel(4, 3, 2), ["N", 3, "W"]))


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([("Relu", ["x"], "y")], "0 convolutions, not one; its operators: Relu"),
        ([("Conv", ["x", "w"], "h"), ("Relu", ["h"], "y")], "a Relu after a Conv"),
        ([("Relu", ["x"], "h"), ("Conv", ["h", "w"], "y")], "a Relu before a Conv"),
        ([("Conv", ["x", "w"], "h"), ("Add", ["h", "along_width"], "y")], "a Add after a Conv"),
        ([("Conv", ["x", "w"], "h"), ("Add", ["h", "h"], "y")], "a Add after a Conv"),
        ([("Transpose", ["x"], "h"), ("Conv", ["h", "w"], "y")], "not back after it|does not change between"),
        ([("Conv", ["x", "w"], "h"), ("Identity", ["x"], "y")], "0 nodes read the result 'h'"),
        ([("Conv", ["x", "w"], "h"), ("Add", ["h", "h"], "t"), ("Add", ["h", "t"], "y")], "2 nodes read the result"),
    ],
)
def test_what_is_more_than_one_layer_is_refused(nodes: list[tuple[str, list[str], str]], words: str) -> None:
    made = [helper.make_node(op, inputs, [out]) for op, inputs, out in nodes]
    with pytest.raises(UnsupportedError, match=words):
        read(model(made, kernel(4, 3, 2), ["N", 3, "W"], along_width=kernel(4)))


@pytest.mark.parametrize("mode", ["constant", "edge"])
def test_a_pad_before_a_convolution_that_pads_by_a_word_is_not_folded(mode: str) -> None:
    nodes = [helper.make_node("Pad", ["x", "pads"], ["h"], mode=mode),
             helper.make_node("Conv", ["h", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2])]  # fmt: skip
    with pytest.raises(UnsupportedError, match="before a convolution that pads too"):
        read(model(nodes, kernel(4, 3, 2), ["N", 3, "W"], pads=np.array([0, 0, 1, 0, 0, 1])))
