"""Published networks that were written twice by hand: ported, and proved to agree. Here with few channels."""

import numpy as np
import pytest

import convspec
from tests.pairs.published import PAIRS

WIDTH = 8
MARKERS = {"keras": pytest.mark.keras, "nnx": pytest.mark.flax}
LONG = {"ResNet-50", "ConvNeXt-T"}  # a minute together; scripts/published_pairs.py runs them
CASES = [pytest.param(pair, marks=[pytest.mark.torch, MARKERS[pair.target]], id=pair.name)
         for pair in PAIRS if pair.name not in LONG]  # fmt: skip


@pytest.mark.parametrize("pair", CASES)
def test_the_port_is_whole_and_the_models_agree(pair):
    source, target = pair.build(WIDTH)
    inputs = [np.random.default_rng(i).standard_normal(shape, "f4") for i, shape in enumerate(pair.small)]
    report = convspec.port_weights(source, target, inputs if len(inputs) > 1 else inputs[0])
    assert report.complete, str(report)
    assert report.comparison.verdict == "agree"
    assert report.comparison.evidence in ("equal", "proved", "measured")
