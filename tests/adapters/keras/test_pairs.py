"""Random networks of PyTorch and Keras: right ones are ported and agree, mistakes are found and named."""

from __future__ import annotations

import pytest

pytest.importorskip("keras")
pytest.importorskip("tensorflow")
pytest.importorskip("torch")

from convspec_keras import ADAPTER

ADAPTER.configure(threads=1)

from tests.adapters.pairs import assert_named, assert_right  # noqa: E402

pytestmark = [pytest.mark.keras, pytest.mark.torch]


@pytest.mark.parametrize("target", ["keras", "keras-sequential", "keras-subclassed"])
def test_right_pairs_are_ported_and_agree(target):
    assert_right(target, 2)


@pytest.mark.parametrize("kind", ["relu-as-relu6", "concat-order", "symmetric-as-same", "flatten-order"])
def test_a_planted_mistake_is_found_and_named(kind):
    assert_named("keras", kind)


@pytest.mark.parametrize(("kind", "seed"), [("padding-mode-lost", 48), ("flatten-order", 36), ("latent-order", 35),
                                            ("padding-mode-lost", 296), ("kernel-flipped", 236)])  # fmt: skip
def test_a_mistake_after_a_cropped_convolution_is_found(kind, seed):
    assert_named("keras", kind, seed)


@pytest.mark.parametrize(("kind", "seed"), [("relu-as-gelu", 2), ("stride-added", 43), ("pixel-shuffle-order", 20)])
def test_a_mistake_beside_features_that_a_port_has_permuted_is_found(kind, seed):
    assert_named("keras", kind, seed)


@pytest.mark.parametrize("seed", [61, 123])
def test_exchanged_weights_are_named(seed):
    assert_named("keras", "weights-exchanged", seed)


def test_a_difference_that_is_smaller_than_the_rounding_of_a_layers_input_is_named_by_its_step():
    assert_named("keras", "gelu-approximation", 131)


def test_a_dropout_that_is_on_is_named():
    assert_named("keras", "dropout-active")


def test_a_norm_in_training_is_named():
    assert_named("keras", "norm-in-training")
