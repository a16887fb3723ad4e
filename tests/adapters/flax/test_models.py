"""PyTorch's models in both of Flax's APIs: ported, every layer agreeing; and mistakes, located."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("flax")
pytest.importorskip("torch")

import jax
from flax import linen, nnx

import convspec
from convspec.errors import UnsupportedError
from tests.networks import linen_models, nnx_models, torch_models

pytestmark = [pytest.mark.flax, pytest.mark.torch]

RESNET = np.random.default_rng(0).standard_normal((2, 3, 64, 48), np.float32)
MOBILENET = np.random.default_rng(0).standard_normal((2, 3, 48, 32), np.float32)


def test_a_mobilenet_of_nnx_is_ported_and_its_mistakes_are_located(tmp_path):
    source, target = torch_models.mobilenet(), nnx_models.mobilenet()
    report = convspec.port_weights(source, target, MOBILENET)
    assert report.comparison.agrees, str(report.comparison)
    assert [*report.left, *report.ambiguous, *report.warnings] == []
    report.save(tmp_path / "ported.msgpack")
    target.blocks[1].depthwise.padding = "SAME"
    target.top_norm.epsilon = 1e-3
    found = convspec.compare(source, target, MOBILENET, seconds=0)
    assert [row.b for row in found.rows if row.verdict == "diverges"] == ["blocks/1/depthwise", "top_norm"]
    assert found.first.spec == ["stride (2, 2): pads (1, 1) against (0, 1)"]
    assert "symmetric-as-same" in [finding.id for finding in found.diagnosis]


def test_a_resnet_of_linen_is_ported():
    source, (module, variables) = torch_models.resnet(), linen_models.resnet()
    before = np.array(variables["params"]["Conv_0"]["kernel"])
    report = convspec.port_weights(source, (module, variables), RESNET)
    assert report.comparison.agrees, str(report.comparison)
    assert np.array_equal(variables["params"]["Conv_0"]["kernel"], before)
    assert not np.array_equal(report.model[1]["params"]["Conv_0"]["kernel"], before)


def test_linen_needs_inputs():
    with pytest.raises(UnsupportedError, match="give inputs"):
        convspec.compare(torch_models.resnet(), linen_models.resnet())


@pytest.mark.parametrize(
    "options",
    [
        {"feature_group_count": 2},
        {"input_dilation": (2, 1), "padding": "VALID"},
        {"input_dilation": (2, 1), "feature_group_count": 2, "padding": "VALID"},
    ],
)
def test_kernels_are_written_as_they_are_read(options):
    check(nnx.Conv(4, 6, (3, 5), rngs=nnx.Rngs(0), **options))


@pytest.mark.parametrize("transpose_kernel", [True, False])
def test_kernels_of_transposed_layers_are_written_as_they_are_read(transpose_kernel):
    check(nnx.ConvTranspose(4, 4, (3, 5), transpose_kernel=transpose_kernel, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize(
    "layer",
    [
        linen.ConvTranspose(4, (3, 5)),
        linen.ConvTranspose(4, (3, 5), transpose_kernel=True),
        linen.Conv(6, (3, 5), input_dilation=(2, 1), padding=(0, 0)),
        linen.Conv(6, (3, 5), input_dilation=(2, 1), feature_group_count=2, padding=(0, 0)),
    ],
)
def test_kernels_of_linen_are_written_as_they_are_read(layer):
    from convspec_flax.linen import model

    x = np.ones((1, 9, 9, 4), np.float32)
    opened = model.open((layer, layer.init(jax.random.key(0), x)))
    (part,) = model.parts(opened, [x])
    kernel = np.random.default_rng(0).standard_normal(part.weights["kernel"].shape).astype(np.float32)
    (part,) = model.parts(model.write(opened, {part.path: {"kernel": kernel}}), [x])
    assert np.array_equal(part.weights["kernel"], kernel)


def check(layer):
    from convspec_flax import model

    (part,) = model.parts(layer)
    kernel = np.random.default_rng(0).standard_normal(part.weights["kernel"].shape).astype(np.float32)
    model.write(layer, {part.path: {"kernel": kernel}})
    (part,) = model.parts(layer)
    assert np.array_equal(part.weights["kernel"], kernel)
