"""Arrays of Flax's files of weights."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("flax")

from flax import serialization

import convspec
from convspec.errors import RequestError

pytestmark = pytest.mark.flax


def test_the_arrays_of_a_state(tmp_path):
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((2, 3, 4, 5)).astype("f4")
    state = {"params": {"conv": {"kernel": kernel, "bias": rng.standard_normal(5).astype("f4")}}, "step": 3}
    (tmp_path / "a.msgpack").write_bytes(serialization.msgpack_serialize(state))
    found = convspec.match_weights(tmp_path / "a.msgpack", {"w": kernel.transpose(3, 2, 0, 1)})
    assert [(m.a, m.b, m.relation.axes) for m in found.matches] == [("params/conv/kernel", "w", (3, 2, 0, 1))]
    assert found.missing == ("params/conv/bias",)


def test_other_content_is_refused(tmp_path):
    (tmp_path / "a.msgpack").write_bytes(b"\xc1")
    with pytest.raises(RequestError, match=r"cannot be read as \.msgpack"):
        convspec.match_weights(tmp_path / "a.msgpack")
