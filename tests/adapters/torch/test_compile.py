"""The variant ``compile``: layers that Inductor compiles."""

import os
import shutil

import numpy as np
import pytest
import torch
from convspec_torch import ADAPTER
from torch._dynamo.utils import counters
from typer.testing import CliRunner

from convspec import ConvParams, ConvSpec
from convspec.cli.app import app
from convspec.contract import LayerRequest, registry
from convspec.corpora.cases import Case, gradient_arrays
from tests.adapters.suite import assert_exact, to_layout

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning"),  # of Inductor's own imports
]
COMPILED = ADAPTER.with_variant("compile")
needs_compiler = pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="there is no C++ compiler")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
        yield
    torch._dynamo.reset()


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_layers_are_compiled_and_right(layout):
    """Two axes, so that C++ is written: the tensors are moved to channels-last and back."""
    case = Case(ConvSpec(3, 4, (3, 5), (2, 1), (1, 2)), (2, 3, 7, 9), layout)
    assert_exact(COMPILED, case)
    params, x, dy = gradient_arrays(case)
    given = (to_layout(x, layout), to_layout(dy, layout), layout)
    plain, compiled = (one.gradients(one.build(case.spec, params, layout), *given) for one in (ADAPTER, COMPILED))
    for name in ("input", "kernel", "bias"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(compiled, name))


def test_no_layer_runs_uncompiled():
    """All layers of one class share a limit of eight compilations. Layers with one axis need no C++ compiler."""
    spec = ConvSpec(1, 1, 2, ndim=1)
    counters.clear()
    for size in range(3, 13):
        layer = COMPILED.build(spec, ConvParams.exact(spec))
        COMPILED.apply(layer, np.ones((1, 1, size), np.float32))
    assert counters["stats"]["unique_graphs"] == 10
    for size in range(13, 20):
        COMPILED.apply(layer, np.ones((1, 1, size), np.float32))
    with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
        COMPILED.apply(layer, np.ones((1, 1, 20), np.float32))


def test_a_compiler_is_needed_and_the_command_says_so(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    reason = "torch.compile needs a C++ compiler: no-such-compiler is not installed, or set the variable CXX"
    assert COMPILED.support(ConvSpec(1, 1, 3)).reason == reason
    assert ADAPTER.support(ConvSpec(1, 1, 3)) == "native"
    assert f"torch:compile cannot run here: {reason}" in CliRunner().invoke(app, ["adapters"]).stdout


@needs_compiler
def test_it_runs_where_it_is_named():
    assert "torch:compile" not in registry.expanded(["torch:*"])
    assert registry.expanded(["torch:compile"]) == ("torch:compile",)
    said = CliRunner().invoke(app, ["adapters"]).stdout
    assert "torch:compile runs only where it is named, as it takes long" in said


def test_a_reproducer_compiles_the_layer():
    text = COMPILED.script(ConvSpec(3, 4, 3), LayerRequest("NCHW", direction="input"))
    assert "layer = torch.compile(layer, fullgraph=True, dynamic=False)\n" in text
    assert "torch.compile" not in ADAPTER.script(ConvSpec(3, 4, 3), LayerRequest("NCHW"))
