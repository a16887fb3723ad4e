"""Networks to and from this framework: written, run, given the weights, and judged by what both compute."""

import pytest

pytest.importorskip("equinox")
pytest.importorskip("torch")

from tests.pairs.translate import judge_translation

pytestmark = [pytest.mark.equinox, pytest.mark.torch]


@pytest.mark.parametrize(
    ("source", "target", "seed"), [("torch", "equinox", 0), ("torch", "equinox", 3), ("torch", "equinox", 4)]
)
def test_random_networks_are_proved(source, target, seed):
    assert judge_translation(seed, source, target) == ("proved", "")
