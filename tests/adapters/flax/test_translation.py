"""Networks to and from this framework: written, run, given the weights, and judged by what both compute."""

import pytest

pytest.importorskip("flax")
pytest.importorskip("torch")

from tests.pairs.translate import judge_translation

pytestmark = [pytest.mark.flax, pytest.mark.torch]


@pytest.mark.parametrize(
    ("source", "target", "seed"), [("torch", "nnx", 0), ("torch", "linen", 1), ("nnx", "torch", 0)]
)
def test_random_networks_are_proved(source, target, seed):
    assert judge_translation(seed, source, target) == ("proved", "")
