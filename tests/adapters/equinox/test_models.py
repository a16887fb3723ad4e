"""Models of Equinox, compared and ported, as the source and as the target; mistakes are located."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("equinox")
pytest.importorskip("torch")

import equinox as eqx
import jax
import jax.numpy as jnp
from convspec_equinox import model as models
from typer.testing import CliRunner

import convspec
from convspec.cli.app import app
from convspec.errors import RequestError
from tests.adapters.equinox.step_networks import KEY, nn
from tests.adapters.equinox.test_trace_steps import network
from tests.adapters.step_traces import same
from tests.networks import equinox_models, torch_models

pytestmark = [pytest.mark.equinox, pytest.mark.torch]

RESNET = np.random.default_rng(0).standard_normal((2, 3, 64, 48), np.float32)


def arrays(model):
    return jax.tree.leaves(eqx.filter(model, eqx.is_array))


def test_a_resnet_is_ported_there_and_back(tmp_path):
    source, target = torch_models.resnet(), equinox_models.resnet()
    report = convspec.port_weights(source, target, RESNET)
    assert report.comparison.agrees, str(report.comparison)
    assert [*report.left, *report.ambiguous, *report.warnings] == []
    assert len(report.comparison.rows) == 41
    assert not same(report.model[0].stem.conv.weight, target[0].stem.conv.weight)
    report.save(tmp_path / "ported.eqx")
    loaded = eqx.tree_deserialise_leaves(tmp_path / "ported.eqx", target)
    assert all(map(same, arrays(loaded), arrays(report.model)))
    fresh = torch_models.ResNet()
    back = convspec.port_weights(loaded, fresh, RESNET)
    assert back.comparison.agrees, str(back.comparison)
    for name, tensor in source.state_dict().items():
        if "num_batches" not in name:
            assert same(fresh.state_dict()[name], tensor), name


def test_a_padding_mistake_is_located():
    source, wrong = torch_models.resnet(), equinox_models.resnet_same()
    target = convspec.port_weights(source, wrong, RESNET, force=True).model
    found = convspec.compare(source, target, RESNET, seconds=0)
    assert not found.agrees
    assert [row.b for row in found.rows if row.verdict == "diverges"] == ["blocks[2].first.conv"]
    assert found.first.spec == ["stride (2, 2): pads (1, 1) against (0, 1)"]


def test_the_commands_take_models_of_equinox(tmp_path):
    names = ["tests.networks.torch_models:resnet", "tests.networks.equinox_models:resnet", "--shape", "2,3,64,48"]
    ported = CliRunner().invoke(app, ["port", *names, "--out", str(tmp_path / "ported.eqx")])
    assert ported.exit_code == 0, ported.output
    assert "41 layers moved; run on the same input, the models agree." in ported.output
    eqx.tree_deserialise_leaves(tmp_path / "ported.eqx", equinox_models.resnet())
    compared = CliRunner().invoke(app, ["compare", *names, "--seconds", "0"])
    assert compared.exit_code == 1, compared.output


@pytest.mark.parametrize("name", ["resnet", "branches", "convnext", "chain"])
def test_what_is_written_is_read_back(name):
    model, inputs, _ = network(name)
    before = models.trace_model(model, inputs).outputs
    parts = [part for part in models.parts(model) if "start" not in part.path]
    new = {part.path: {ours: (a * 2 + 1).astype(a.dtype) for ours, a in part.weights.items()} for part in parts}
    written = models.write(model, new)
    for part in models.parts(written):
        for ours, array in part.weights.items():
            assert np.allclose(array, new.get(part.path, part.weights)[ours], 1e-6), (part.path, ours)
    assert all(map(same, before, models.trace_model(model, inputs).outputs))


def test_statistics_are_kept_in_further_training():
    model, state = nn.make_with_state(lambda: nn.BatchNorm(3, "batch", mode="batch"))()
    mean = np.array([1.0, 2.0, 3.0], np.float32)
    _, state = models.write((model, state), {"": {"mean": mean, "variance": mean}})
    x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 3)), jnp.float32)
    _, state = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)
    (part,) = models.parts((model, state))
    assert np.abs(part.arrays["mean"] - mean).max() < 0.1  # moved by a hundredth of the difference


def test_parameters_that_no_layer_has_are_listed():
    model, _, _ = network("convnext")
    found = models.parameters(model)
    assert found["/gamma"] == (4, 1, 1)
    assert found["depthwise/kernel"] == (4, 1, 7, 7)
    assert found["norm/gain"] == found["norm/shift"] == (4,)
    assert found["prelu/negative_slope"] == ()


def test_a_model_without_its_state_is_refused_in_words():
    model, _ = equinox_models.resnet()
    with pytest.raises(RequestError, match=r"the Equinox model does not take these inputs: .*state"):
        models.trace_model(model, [RESNET])


def test_layers_that_are_one_object_are_written_together():
    shared = nn.Linear(3, 3, key=KEY)
    model = nn.Sequential([shared, nn.Lambda(jax.nn.relu), shared])
    written = models.write(model, {"layers[0]": {"kernel": np.eye(3, dtype=np.float32)}})
    assert same(written.layers[2].weight, np.eye(3))
    calls = models.trace_model(model, [np.ones((2, 3), np.float32)]).calls
    assert [call.path for call in calls] == ["layers[0]", "layers[0]"]
