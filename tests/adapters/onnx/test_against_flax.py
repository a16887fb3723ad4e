"""Graphs that jax2onnx made of Flax models, nnx and linen, against the models."""

from __future__ import annotations

import warnings

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("flax")
import jax
import jax.numpy as jnp
import onnx
from flax import linen, nnx

from tests.adapters.onnx import faulty
from tests.adapters.onnx.verifying import audited, saved
from tests.networks.jax_weights import linen_variables, nnx_model

pytestmark = [pytest.mark.onnx, pytest.mark.slow]
SHAPE = (2, 32, 24, 3)


class Images(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(3, 8, (3, 5), strides=2, padding="SAME", use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(8, use_running_average=True, rngs=rngs)
        self.depthwise = nnx.Conv(8, 8, (3, 3), feature_group_count=8, padding="VALID", rngs=rngs)
        self.point = nnx.Conv(8, 6, (1, 1), rngs=rngs)
        self.up = nnx.ConvTranspose(6, 4, (3, 3), strides=(2, 2), rngs=rngs)
        self.dense = nnx.Linear(4, 5, rngs=rngs)

    def __call__(self, x):
        x = jax.nn.relu(self.norm(self.first(x)))
        return self.dense(self.up(self.point(jax.nn.relu(self.depthwise(x)))))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.BatchNorm(use_running_average=True)(linen.Conv(8, (3, 3), strides=2, use_bias=False)(x)))
        return linen.Conv(5, (1, 1))(linen.Conv(8, (3, 5), feature_group_count=8, padding="VALID")(x))


def images():
    model = nnx_model(Images)
    model.eval()
    return model


def exported(function, path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jax2onnx = pytest.importorskip("jax2onnx")
        onnx.save(jax2onnx.to_onnx(function, [SHAPE], **options), path)
    return path


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    model = images()
    return model, exported(model, tmp_path_factory.mktemp("flax") / "m.onnx")


def test_an_nnx_model_agrees(right):
    model, path = right
    report = audited(path, source=model)
    assert not report.unexpected, report.unexpected
    assert [node.matched for node in report.nodes] == ["first", "depthwise", "point", "up"]


def test_a_graph_that_takes_the_channels_first_agrees(tmp_path):
    model = images()
    report = audited(exported(model, tmp_path / "m.onnx", inputs_as_nchw=[0]), source=model)
    assert not report.unexpected, report.unexpected


def test_a_linen_module_with_its_variables_agrees(tmp_path):
    module = Linen()
    variables = linen_variables(module, jnp.zeros(SHAPE))
    report = audited(exported(lambda x: module.apply(variables, x), tmp_path / "m.onnx"), source=(module, variables))
    assert not report.unexpected, report.unexpected
    assert [node.matched for node in report.nodes] == ["Conv_0", "Conv_2", "Conv_1"]


FAULTS = [(0, faulty.one_sign), (0, faulty.epsilon_wrong), (1, faulty.flipped), (2, faulty.bias_lost)]


@pytest.mark.parametrize(("place", "fault"), FAULTS, ids=[faulty.names("nnx", *fault) for fault in FAULTS])
def test_a_planted_fault_is_seen_and_its_node_named_first(right, tmp_path, place, fault):
    model, path = right
    proto = onnx.load(path)
    node = faulty.convs(proto)[place]
    fault(proto, node)
    report = audited(saved(proto, tmp_path / "faulty.onnx"), source=model)
    assert report.first_divergence == node.name, report.unexpected[:3]
