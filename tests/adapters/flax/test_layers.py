"""The Flax adapters, nnx and linen, against the oracle, on integers: every comparison is exact."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("flax")
pytest.importorskip("jax")

import jax
from convspec_flax import ADAPTER, LINEN, layer
from convspec_flax.weights import from_flax, to_flax
from convspec_jax import execution
from flax import linen as nn
from flax import nnx

from convspec import ConvSpec
from convspec.contract import Adapter, LayerRequest
from convspec.corpora.cases import Case
from convspec.errors import PlacementError, RequestError
from convspec.spec import layouts
from convspec.spec.dtypes import rounded
from convspec.spec.parameters import ConvParams
from tests.adapters.jax_gaps import JAX_GAPS
from tests.adapters.suite import AdapterSuite, check

pytestmark = pytest.mark.flax

EACH = pytest.mark.parametrize("adapter", [ADAPTER, LINEN], ids=["nnx", "linen"])

# name: (layer, input shape, support in NHWC, what its padding argument is)
_ENTRIES = {
    "conv": (ConvSpec(3, 4, (3, 5), (2, 3), padding=(1, 2)), (2, 3, 9, 11), "native", "(1, 2)"),
    "conv-coincidence": (ConvSpec(4, 4, 3, padding=2), (4, 4, 4, 4), "native", "2"),
    "conv-1d-causal": (ConvSpec(2, 3, 3, 2, padding="causal", dilation=2, ndim=1), (2, 2, 7), "native", '"CAUSAL"'),
    "conv-3d": (
        ConvSpec(2, 3, (1, 2, 3), (1, 2, 1), padding=((0, 1), (2, 0), (1, 1))),
        (2, 2, 3, 4, 5),
        "native",
        "((0, 1), (2, 0), (1, 1))",
    ),
    "conv-dilation": (ConvSpec(3, 5, (2, 4), dilation=(3, 2), bias=False), (1, 3, 6, 8), "native", '"VALID"'),
    "conv-depthwise": (ConvSpec(3, 6, (3, 4), padding="same", groups=3), (2, 3, 7, 8), "native", '"SAME"'),
    "conv-groups": (ConvSpec(4, 6, (3, 2), (1, 2), groups=2), (2, 4, 5, 7), "native", '"VALID"'),
    "conv-same": (ConvSpec(3, 4, (3, 4), (2, 3), padding="same"), (2, 3, 9, 10), "native", '"SAME"'),
    "conv-same-lower": (
        ConvSpec(3, 4, (3, 4), (2, 3), padding="same_lower", dilation=(1, 2)),
        (2, 3, 9, 10),
        "native",
        '"SAME_LOWER"',
    ),
    "conv-reflect": (
        ConvSpec(3, 4, (3, 2), padding=((2, 1), (0, 3)), padding_mode="reflect"),
        (2, 3, 5, 6),
        "composed",
        '"VALID"',
    ),
    "conv-reflect-own": (
        ConvSpec(3, 2, (3, 4), (2, 1), padding=((1, 1), (1, 2)), padding_mode="reflect"),
        (2, 3, 5, 6),
        "native",
        '"REFLECT"',
    ),
    "conv-circular-own": (
        ConvSpec(2, 3, 4, padding="same", dilation=2, padding_mode="circular", ndim=1),
        (2, 2, 9),
        "native",
        '"CIRCULAR"',
    ),
    "conv-circular-same": (
        ConvSpec(2, 3, (4, 3), (2, 3), padding="same", padding_mode="circular"),
        (2, 2, 7, 8),
        "composed",
        '"VALID"',
    ),
    "conv-replicate-same-lower": (
        ConvSpec(2, 3, (4, 2), (3, 2), padding="same_lower", padding_mode="replicate"),
        (1, 2, 8, 5),
        "composed",
        '"VALID"',
    ),
    "conv-replicate": (
        ConvSpec(2, 3, 4, padding=((3, 5),), padding_mode="replicate"),
        (2, 2, 3),
        "composed",
        '"VALID"',
    ),
    "conv-mode-without-pads": (ConvSpec(2, 3, (1, 2), padding_mode="circular"), (1, 2, 3, 4), "native", '"VALID"'),
    "transpose": (
        ConvSpec(3, 4, (3, 5), (2, 3), padding=((1, 0), (0, 2)), transposed=True),
        (2, 3, 4, 5),
        "native",
        "((1, 2), (4, 2))",
    ),
    "transpose-1d": (
        ConvSpec(2, 3, (4,), 3, padding=1, output_padding=2, transposed=True),
        (2, 2, 5),
        "native",
        "((2, 4),)",
    ),
    "transpose-3d": (
        ConvSpec(2, 3, (1, 2, 3), (1, 2, 3), transposed=True, bias=False),
        (1, 2, 2, 3, 4),
        "native",
        '"VALID"',
    ),
    "transpose-gaps": (ConvSpec(2, 3, (2, 1), (3, 4), transposed=True), (1, 2, 3, 4), "native", "(1, 0)"),
    "transpose-gaps-valid": (
        ConvSpec(2, 3, (2, 1), (3, 4), output_padding=(1, 3), transposed=True),
        (1, 2, 3, 4),
        "native",
        '"VALID"',
    ),
    "transpose-same": (
        ConvSpec(3, 2, (3, 4), (2, 3), padding="same", dilation=(2, 1), transposed=True),
        (2, 3, 4, 5),
        "native",
        '"SAME"',
    ),
    "transpose-same-gaps": (
        ConvSpec(3, 2, (2, 1), (3, 4), padding="same", transposed=True),
        (2, 3, 4, 5),
        "native",
        '"SAME"',
    ),
    "transpose-same-unstrided": (
        ConvSpec(3, 2, (4, 3), padding="same", transposed=True),
        (2, 3, 4, 5),
        "native",
        '"SAME"',
    ),
    "transpose-beyond": (
        ConvSpec(3, 2, (2, 3), (1, 2), dilation=(3, 1), output_padding=(2, 1), transposed=True),
        (2, 3, 4, 5),
        "native",
        "((3, 5), (2, 3))",
    ),
    "transpose-groups": (
        ConvSpec(4, 6, (3, 2), (2, 3), padding=(1, 0), groups=2, output_padding=(1, 0), transposed=True),
        (2, 4, 3, 5),
        "native",
        "((1, 2), (1, 1))",
    ),
    "transpose-groups-unstrided": (
        ConvSpec(4, 2, (3, 2), groups=2, transposed=True, bias=False),
        (2, 4, 3, 5),
        "native",
        "(2, 1)",
    ),
    "transpose-depthwise-same": (
        ConvSpec(3, 6, (2, 4), (3, 2), padding="same", groups=3, transposed=True),
        (2, 3, 3, 5),
        "native",
        "((1, 2), (2, 2))",
    ),
    "transpose-crop": (
        ConvSpec(3, 2, (2, 3), (2, 1), padding=((2, 0), (3, 4)), transposed=True),
        (2, 3, 4, 7),
        "composed",
        "((0, 1), (0, 0))",
    ),
    "transpose-crop-groups": (
        ConvSpec(2, 4, 2, 3, padding=((4, 3),), groups=2, transposed=True),
        (2, 2, 5),
        "composed",
        "0",
    ),
}
LAYERS = {name: entry[:3] for name, entry in _ENTRIES.items()}
PROGRAMS = ("conv", "conv-reflect", "conv-circular-same", "transpose", "transpose-groups", "transpose-crop")
GOLDEN = [(prefix, runner, name) for prefix, runner in (("flax", "nnx"), ("flax-linen", "linen")) for name in PROGRAMS]


class TestLayers(AdapterSuite):
    runners = {"nnx": ADAPTER, "linen": LINEN}
    layers = LAYERS
    other_layout_reason = "channels-last"
    packages = tuple((name, missing) for name in ("flax", "flax-linen") for missing in ("jax", "flax"))
    goldens = {
        f"flax/{prefix}-{name}-{layout}.py": (runner, name, layout, "float32")
        for prefix, runner, name in GOLDEN for layout in layouts.LAYOUTS
    }  # fmt: skip
    gradient_layers = (*PROGRAMS, "conv-depthwise", "conv-same", "transpose-same", "transpose-crop-groups")
    dtype_runs = tuple(
        (runner, name, "NHWC", dtype) for runner in runners for name in PROGRAMS for dtype in ("float16", "bfloat16")
    )
    resized_layers = ("conv-same", "conv-circular-same", "conv-replicate-same-lower", "transpose-crop")
    wrong_tensors = (
        ("NHWC", "NHWC", (2, 3, 7, 8), "looks like the other layout"),
        ("NHWC", "NHWC", (2, 7, 8, 5), "must be 3 channels"),
        ("NHWC", "NHWC", (7, 8, 3), "expects 4: NHWC"),
        ("NHWC", "NCHW", (2, 3, 7, 8), "channels-last tensors only"),
        ("NCHW", "NCHW", (2, 7, 8, 3), "looks like the other layout"),
    )
    empty_batches = PROGRAMS
    sizes = {"max_size": 6}
    gap_examples = JAX_GAPS

    def test_the_padding_argument(self, runner: str, name: str) -> None:
        spec, _, _, padding = _ENTRIES[name]
        assert re.search(rf"\bpadding={re.escape(padding)}(,|\n|\)\n)", self.runners[runner].source(spec, "NHWC"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_summed_in_float32_as_declared(dtype: str) -> None:
    """2048 + 1 is 2048 in float16, so the ones in 2048 + 1 + … + 1 - 2048 would be lost in narrower sums."""
    spec = ConvSpec(1, 1, 9, bias=False, ndim=1)
    large = {"float16": 2048, "bfloat16": 256}[dtype]
    kernel = np.array([large, *[1] * 7, -large], np.float32).reshape(1, 1, 9)
    built = ADAPTER.build(spec, ConvParams(kernel), dtype=dtype)
    assert ADAPTER.apply(built, np.ones((1, 9, 1), np.float32)).item() == 7
    assert ADAPTER.compute_precision(spec, LayerRequest(dtype=dtype)).accumulator == "float32"


def test_subnormals_are_flushed_as_declared() -> None:
    spec = ConvSpec(1, 1, 1, bias=False)
    built = ADAPTER.build(spec, ConvParams(np.ones((1, 1, 1, 1), np.float32)))
    assert ADAPTER.apply(built, np.full((1, 1, 1, 1), 2.0**-140, np.float32)).item() == 0
    assert ADAPTER.compute_precision(spec).flushes_subnormals


def test_arithmetic_by_device_and_precision() -> None:
    spec = ConvSpec(3, 4, 2)
    assert ADAPTER.compute_precision(spec, LayerRequest(device="cuda")).inputs == "tf32"
    assert ADAPTER.compute_precision(spec, LayerRequest(device="cuda", precision="strict")).inputs is None
    assert ADAPTER.compute_precision(spec).inputs is None
    assert ADAPTER.compute_precision(spec, LayerRequest(dtype="float64")).accumulator == "float64"
    assert [
        ADAPTER.compute_precision(spec, LayerRequest(dtype=d)).output_roundings
        for d in ("float32", "float16", "bfloat16")
    ] == [1, 2, 2]


# -- what is built ---------------------------------------------------------------------------------------------------


def test_native_layers_are_the_frameworks_own() -> None:
    spec, _, _ = LAYERS["conv"]
    params = ConvParams.random(spec)
    built = ADAPTER.build(spec, params)
    assert type(built) is nnx.Conv
    np.testing.assert_array_equal(built.kernel[...], params.kernel.transpose(2, 3, 1, 0))
    bound = LINEN.build(spec, params)
    assert type(bound) is nn.Conv
    np.testing.assert_array_equal(bound.variables["params"]["bias"], params.bias)
    composed = ADAPTER.build(spec, params, "NCHW")
    assert isinstance(composed, nnx.Module)
    assert type(composed.conv) is nnx.Conv


@EACH
def test_new_weights_cost_no_compilation(adapter: Adapter, caplog: pytest.LogCaptureFixture) -> None:
    case = Case(ConvSpec(5, 7, (3, 2), padding=((2, 1), (0, 1)), padding_mode="reflect"), (2, 5, 4, 6), seed=1)
    check(adapter, case)
    with jax.log_compiles(), caplog.at_level("WARNING"):
        check(adapter, case.varied(seed=2))
        assert "ompil" not in caplog.text
        check(adapter, case.varied(input_shape=(2, 5, 4, 7)))
        assert "ompil" in caplog.text


@pytest.mark.parametrize("spec", [entry[0] for entry in LAYERS.values()], ids=list(LAYERS))
def test_weights_go_there_and_back(spec: ConvSpec) -> None:
    kernel = ConvParams.random(spec).kernel
    there = to_flax(kernel, transposed=spec.transposed, groups=spec.groups)
    np.testing.assert_array_equal(from_flax(there, transposed=spec.transposed, groups=spec.groups), kernel)


# -- the text --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_source_runs_on_its_own(dtype: str) -> None:
    nnx_spec, linen_spec = LAYERS["conv-circular-same"][0], LAYERS["transpose-crop-groups"][0]
    script = (
        f"{ADAPTER.source(nnx_spec, 'NCHW', dtype)}import jax.numpy as jnp\n"
        f"y = layer(jnp.ones((2, 2, 7, 8), jnp.{dtype}))\nprint(y.shape, y.dtype)\n"
        f"{LINEN.source(linen_spec, 'NHWC', dtype)}import jax\n"
        f"y, _ = layer.init_with_output(jax.random.key(0), jnp.ones((2, 5, 2), jnp.{dtype}))\nprint(y.shape, y.dtype)\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, timeout=90, check=False)
    assert done.stdout.splitlines() == [f"(2, 3, 4, 3) {dtype}", f"(2, 7, 4) {dtype}"], done.stderr


@EACH
@pytest.mark.parametrize("name", LAYERS)
def test_arguments_are_written_only_where_they_differ_from_the_default(name: str, adapter: Adapter) -> None:
    """But ``padding``, always; and ``input_dilation``, which tells a transposed layer even where it is 1."""
    spec, module = LAYERS[name][0], nnx if adapter is ADAPTER else nn
    call = next(
        node
        for node in ast.walk(ast.parse(adapter.source(spec, "NHWC")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {"Conv", "ConvTranspose"}
    )
    parameters = inspect.signature(getattr(module, ast.unparse(call.func).split(".")[-1]).__init__).parameters
    for argument in call.keywords:
        if argument.arg in {"padding", "input_dilation", "rngs"}:
            continue
        value, default = ast.literal_eval(argument.value), parameters[argument.arg].default
        assert value != default
        assert value != (1,) * spec.ndim or argument.arg == "kernel_size"


# -- bad input -------------------------------------------------------------------------------------------------------


@EACH
def test_float64_asks_for_the_switch(adapter: Adapter) -> None:
    assert not jax.config.jax_enable_x64
    spec = ConvSpec(2, 3, 2)
    with pytest.raises(PlacementError, match=r'jax\.config\.update\("jax_enable_x64", True\)'):
        adapter.build(spec, ConvParams.random(spec), dtype="float64")
    assert 'jax.config.update("jax_enable_x64", True)' in adapter.source(spec, "NHWC", "float64")


def test_float64_in_a_worker() -> None:
    script = """
import numpy as np, convspec
from convspec import ConvParams, ConvSpec, reference
spec = ConvSpec(3, 4, (3, 5), (2, 1), padding="same", transposed=True)
params = ConvParams(np.full(spec.kernel_shape, 1 + 2.0**-40), np.full(4, 2.0**-40))
x = np.arange(90.0).reshape(2, 3, 3, 5)
for name in ("flax", "flax-linen"):
    adapter = convspec.adapter(name)
    adapter.configure(dtype="float64", threads=1)
    y = adapter.apply(adapter.build(spec, params, "NCHW", "float64"), x, "NCHW")
    print(y.dtype, np.array_equal(y, reference.conv(spec, params, x)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=90, check=False)
    assert done.stdout.split() == ["float64", "True"] * 2, done.stderr


def test_another_device_or_dtype_than_asked_for_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ConvSpec(2, 3, 2)
    built = ADAPTER.build(spec, ConvParams.random(spec))
    x = np.zeros((1, 4, 5, 2), np.float32)
    monkeypatch.setattr(layer._calls, "_forward", lambda *_: jax.numpy.zeros(3, "float16"))
    with pytest.raises(PlacementError, match="answered in float16"):
        ADAPTER.apply(built, x)
    monkeypatch.setattr(execution, "device_of", lambda name: f"{name} 7")
    with pytest.raises(PlacementError, match="weights are on"):
        ADAPTER.apply(built, x)
    with pytest.raises(PlacementError, match="computed on"):
        execution.fetch(built.kernel[...], built.kernel[...], "cpu")


# -- gaps, caches ----------------------------------------------------------------------------------------------------


def test_a_worker_forgets_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    cleared = []
    monkeypatch.setattr(execution, "_state", {"worker": False, "layers": 0})
    monkeypatch.setattr(execution, "_CLEAR_EVERY", 3)
    monkeypatch.setattr(execution.jax, "clear_caches", lambda: cleared.append(True))
    specs = [ConvSpec(1, 11 + i, 1, ndim=1) for i in range(7)]
    for spec in specs:
        ADAPTER.build(spec, ConvParams.random(spec))
    assert not cleared
    execution.keep_small()
    for spec in specs:
        ADAPTER.build(spec, ConvParams.random(spec))
    assert len(cleared) >= 2


def test_compiled_code_is_kept_only_in_a_private_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    monkeypatch.setattr(execution.jax.config, "update", asked.__setitem__)
    monkeypatch.delenv(execution.FOLDER_VARIABLE, raising=False)
    execution.persist()
    assert not asked
    monkeypatch.setenv(execution.FOLDER_VARIABLE, str(tmp_path / "code"))
    execution.persist()
    folder = Path(asked["jax_compilation_cache_dir"])
    assert folder.parent == tmp_path / "code"
    assert {path.stat().st_mode & 0o777 for path in (folder, folder.parent)} == {0o700}
    (tmp_path / "code").chmod(0o777)
    with pytest.raises(RequestError, match="writable by nobody else"):
        execution.persist()


def test_carriers() -> None:
    spec = ConvSpec(1, 2, 1, ndim=1)
    params = ConvParams.random(spec, dtype="bfloat16")
    built = ADAPTER.build(spec, params, dtype="bfloat16")
    y = ADAPTER.apply(built, np.ones((1, 3, 1), np.float32))
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, rounded(y, "bfloat16"))
