"""Layers moved from one framework to another and back; both are imported in this one process."""

from __future__ import annotations

from itertools import permutations

import pytest

pytest.importorskip("torch")
pytest.importorskip("flax")
pytest.importorskip("keras")
pytest.importorskip("onnx")

import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import convspec
from convspec import ConvParams, ConvSpec, strategies
from convspec.errors import UnsupportedError
from convspec.models.run_model import adapter_for
from convspec.spec import layouts
from tests.adapters import round_trip

pytestmark = pytest.mark.onnx  # the last of the four whose tests are run

ADAPTERS = ("torch", "flax", "flax-linen", "keras", "onnx")
EXAMPLES = 40, 15  # on ONNX and PyTorch alone, which need a hundredth of the time, and with the others


def examples(first, second):
    return EXAMPLES[not {first, second} <= {"torch", "onnx"}]


@pytest.mark.parametrize(("first", "second"), list(permutations(ADAPTERS, 2)))
def test_there_and_back_is_the_same(first, second):
    a, b = convspec.adapter(first), convspec.adapter(second)
    reached = []

    @settings(max_examples=examples(first, second), deadline=None, suppress_health_check=list(HealthCheck))
    @given(strategies.cases(), st.sampled_from(["float32", "float16"]))
    def law_of(case, dtype):
        ndim = case.spec.ndim
        own, other = (layouts.shape_in(case.input_shape, x.native_layout, ndim) for x in (a, b))
        support = [x.support(case.spec, x.native_layout, dtype) for x in (a, b)]
        assume("unsupported" not in support)
        params = ConvParams.random(case.spec, case.seed, dtype)
        there = convspec.port(a.build(case.spec, params, dtype=dtype), second, input_shape=own)
        back = convspec.port(there, first, input_shape=other)
        assert adapter_for(back).name == first
        found = a.read(back, own)
        assert round_trip.equivalent(found.spec.explicit(case.input_shape), case.spec, case.input_shape)
        if support == ["native"] * 2:
            assert round_trip.meaning(found.spec.explicit(case.input_shape)) == round_trip.meaning(
                case.spec.explicit(case.input_shape)
            )
        assert (found.layout, found.dtype) == (a.native_layout, dtype)
        assert round_trip.same_bits(found.params.kernel, params.kernel)
        assert round_trip.same_bits(found.params.bias, params.bias)
        reached.append(case)

    law_of()
    assert len(reached) >= examples(first, second) // 2


def test_the_layout_of_the_new_layer():
    layer = torch.nn.Conv2d(3, 4, (3, 5), (2, 3), padding=(1, 2))
    for layout in (None, "NCHW", "NHWC"):
        ported = convspec.port(layer, "flax", layout)
        shape = layouts.shape_in((1, 3, 8, 9), layout or "NHWC", 2)
        found = convspec.adapter("flax").read(ported, shape)
        assert (found.layout, found.spec) == (layout or "NHWC", ConvSpec(3, 4, (3, 5), (2, 3), (1, 2)))


def test_convs_of_a_model_of_any_framework():
    model = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Conv1d(3, 4, 5))
    (found,) = convspec.convs(model)
    assert (found.path, found.reading.spec) == ("1", ConvSpec(3, 4, 5, ndim=1))
    exported = convspec.port(model[1], "onnx-reference")
    assert adapter_for(exported).name == "onnx"
    (again,) = convspec.convs(exported)
    assert again.reading.spec == found.reading.spec
    with pytest.raises(UnsupportedError, match="pass input_shape"):
        convspec.port(model, "flax")
