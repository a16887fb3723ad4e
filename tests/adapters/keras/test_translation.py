"""Networks to and from this framework: written, run, given the weights, and judged by what both compute."""

import pytest

pytest.importorskip("keras")
pytest.importorskip("torch")

import numpy as np
import torch

from convspec import Network, port_weights
from tests.adapters.keras.network_texts import Writer
from tests.adapters.keras.test_network import made_of
from tests.pairs.translate import judge_translation

pytestmark = [pytest.mark.keras, pytest.mark.torch]


@pytest.mark.parametrize(
    ("source", "target", "seed"),
    [("torch", "keras", 0), ("torch", "keras", 1), ("keras", "torch", 0), ("keras", "torch", 4)],
)
def test_random_networks_are_proved(source, target, seed):
    assert judge_translation(seed, source, target) == ("proved", "")


def random_weights(model, rng):
    for variable in model.weights:
        low = 0.5 if "variance" in variable.path else -0.5
        variable.assign(rng.uniform(low, low + 1, variable.shape).astype("float32"))


@pytest.mark.parametrize("seed", [2, 4, 5, 10, 13, 14])
def test_a_text_of_keras_computes_the_same_in_pytorch(seed):
    writer, rng = Writer(seed), np.random.default_rng(0)
    text, x = writer.sequence(), rng.standard_normal((2, *writer.shape)).astype("float32")
    source = made_of(text)
    random_weights(source, rng)
    code = Network.parse(text).source("torch", x.shape)
    assert code.missing == ()
    scope = {}
    exec(code.source, scope)
    port_weights(source, scope["model"], x, layouts=("NHWC", "NCHW"))
    with torch.no_grad():
        found = scope["model"](torch.tensor(np.moveaxis(x, -1, 1))).numpy()
    expected = source.predict(x, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
