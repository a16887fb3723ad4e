"""Networks to and from this framework: written, run, given the weights, and judged by what both compute."""

import pytest

pytest.importorskip("keras")
pytest.importorskip("torch")

from tests.pairs.translate import judge_translation

pytestmark = [pytest.mark.keras, pytest.mark.torch]


@pytest.mark.parametrize(
    ("source", "target", "seed"), [("torch", "keras", 0), ("torch", "keras", 1), ("keras", "torch", 0)]
)
def test_random_networks_are_proved(source, target, seed):
    assert judge_translation(seed, source, target) == ("proved", "")
