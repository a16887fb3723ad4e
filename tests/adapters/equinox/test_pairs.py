"""Random networks of PyTorch and Equinox: right ones are ported and agree, mistakes are found and named."""

from __future__ import annotations

import pytest

pytest.importorskip("equinox")
pytest.importorskip("flax")
pytest.importorskip("torch")

from tests.adapters.pairs import assert_named, assert_right

pytestmark = [pytest.mark.equinox, pytest.mark.torch]


def test_a_right_pair_is_ported_and_agrees():
    assert_right("equinox", 48)


def test_a_planted_mistake_is_found_and_named():
    assert_named("equinox", "kernel-flipped", 46)
