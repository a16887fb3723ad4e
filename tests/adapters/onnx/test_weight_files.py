"""Arrays of ONNX graphs."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from onnx import helper, numpy_helper

import convspec
from convspec.errors import RequestError

pytestmark = pytest.mark.onnx


def test_the_arrays_of_a_graph(tmp_path):
    kernel = np.random.default_rng(0).standard_normal((4, 3, 2, 5)).astype("f4")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", 1, [1, 3, 9, 9])], [helper.make_tensor_value_info("y", 1, [1, 4, 8, 5])],
        [numpy_helper.from_array(kernel, "w")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph), tmp_path / "a.onnx")
    (match,) = convspec.match_weights(tmp_path / "a.onnx", {"k": kernel.transpose(2, 3, 1, 0)}).matches
    assert (match.a, match.relation.axes) == ("w", (2, 3, 1, 0))


def test_other_content_is_refused(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"none")
    with pytest.raises(RequestError, match=r"a\.onnx"):
        convspec.match_weights(tmp_path / "a.onnx")
