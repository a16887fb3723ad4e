"""Networks with a planted mistake: the layer that fails is named, and what mends it works when it is applied."""

import pytest

from tests.networks import broken


@pytest.mark.parametrize("kind", broken.KINDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_layer_is_named_and_mended(kind, seed):
    assert broken.judge(seed, kind) == ""
