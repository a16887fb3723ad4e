"""Networks to and from this framework: written, run, given the weights, and judged by what both compute."""

import pytest

pytest.importorskip("keras")
pytest.importorskip("torch")

import numpy as np
import torch
import torch.nn.functional as F

from convspec import Network, port_weights
from convspec.models import translate_model
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


class Shrinking(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self.conv, self.size = torch.nn.Conv2d(3, 4, 3), size

    def forward(self, x):
        return F.interpolate(self.conv(x), size=self.size, mode="bilinear", antialias=True)


@pytest.mark.parametrize("size", [(5, 4), (20, 6), (22, 24)])
def test_an_antialiased_resize_is_antialiased_where_it_shrinks(size):
    source = Shrinking(size).eval()
    made = translate_model(source, "keras", (2, 3, 13, 14))
    assert made.agrees
    x = np.random.default_rng(0).standard_normal((2, 3, 13, 14)).astype("float32")
    found = np.moveaxis(np.asarray(made.model(np.moveaxis(x, 1, -1))), -1, 1)
    np.testing.assert_allclose(found, source(torch.tensor(x)).detach().numpy(), atol=1e-5)
    assert ("antialias" in made.code.source) == (size != (22, 24))


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
