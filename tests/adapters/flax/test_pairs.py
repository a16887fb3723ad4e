"""Random networks of PyTorch and Flax: right ones are ported and agree, mistakes are found and named."""

from __future__ import annotations

import pytest

pytest.importorskip("flax")
pytest.importorskip("equinox")
pytest.importorskip("torch")

from tests.adapters.pairs import assert_named, assert_right

pytestmark = [pytest.mark.flax, pytest.mark.torch]


@pytest.mark.parametrize("target", ["nnx", "linen"])
def test_right_pairs_are_ported_and_agree(target):
    assert_right(target, 48)


def test_a_planted_mistake_is_found_and_named():
    assert_named("nnx", "gelu-approximation", 42)


def test_a_transposed_convolution_of_linen_is_ported():
    assert_right("linen", 0)
