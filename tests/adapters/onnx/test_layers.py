"""The ONNX adapters against the oracle, on integers: every comparison is exact."""

from __future__ import annotations

import functools
import importlib
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import convspec_onnx
import onnx
from convspec_onnx import ADAPTER, REFERENCE
from hypothesis import given, settings
from hypothesis import strategies as st

from convspec import ConvSpec, reference, strategies
from convspec.conformance import gap_ledger
from convspec.contract import Adapter, LayerRequest, known_gaps
from convspec.corpora.cases import Case, arrays
from convspec.errors import FrameworkAbsent, PlacementError, ShapeError, UnsupportedError
from convspec.spec import layouts
from convspec.spec.parameters import ConvParams

pytestmark = pytest.mark.onnx

GOLDEN = Path(__file__).parents[2] / "golden" / "onnx"
RUNNERS = {"all": ADAPTER, "off": ADAPTER.with_variant("off"), "reference": REFERENCE}
BOTH = pytest.mark.parametrize("layout", layouts.LAYOUTS)

# name: (layer, input shape, support in NCHW)
LAYERS = {
    "conv": (ConvSpec(3, 4, (3, 5), (2, 3), padding=(1, 2)), (2, 3, 9, 11), "native"),
    "conv-coincidence": (ConvSpec(4, 4, 1), (4, 4, 4, 4), "native"),
    "conv-1d-causal": (ConvSpec(2, 3, 3, padding="causal", dilation=2, ndim=1), (2, 2, 7), "native"),
    "conv-1d-stride": (ConvSpec(2, 6, (4,), 3, padding=((1, 2),), groups=2, bias=False), (1, 2, 11), "native"),
    "conv-3d": (ConvSpec(2, 3, (1, 2, 3), (1, 2, 1), padding=((0, 1), (2, 0), (1, 1))), (2, 2, 3, 4, 5), "native"),
    "conv-asymmetric": (ConvSpec(3, 5, (2, 4), padding=((0, 3), (2, 1)), dilation=(3, 1)), (1, 3, 6, 8), "native"),
    "conv-groups": (ConvSpec(4, 6, (3, 2), groups=2, bias=False), (2, 4, 5, 7), "native"),
    "conv-depthwise": (ConvSpec(3, 6, (3, 5), padding="same", groups=3), (2, 3, 7, 8), "native"),
    "conv-same": (ConvSpec(3, 4, (3, 4), (2, 3), padding="same"), (2, 3, 9, 10), "native"),
    "conv-same-lower": (ConvSpec(3, 4, (3, 4), (2, 3), padding="same_lower"), (2, 3, 9, 10), "native"),
    "conv-same-one-tap": (ConvSpec(3, 4, 1, (2, 4), padding="same"), (2, 3, 9, 8), "native"),
    "conv-same-dilation": (ConvSpec(3, 4, (3, 4), (2, 3), padding="same", dilation=(1, 2)), (2, 3, 9, 10), "composed"),
    "conv-same-lower-dilation": (
        ConvSpec(2, 4, (3, 4), (2, 3), padding="same_lower", dilation=(2, 1)),
        (2, 2, 8, 10),
        "composed",
    ),
    "conv-same-gaps": (ConvSpec(3, 4, (2, 1), (5, 4), padding="same"), (2, 3, 10, 12), "composed"),
    "conv-same-reflect": (
        ConvSpec(2, 3, (3, 5), (2, 3), padding="same", padding_mode="reflect"),
        (1, 2, 8, 10),
        "composed",
    ),
    "conv-reflect": (
        ConvSpec(3, 4, (3, 2), padding=((2, 1), (0, 3)), padding_mode="reflect"),
        (2, 3, 5, 6),
        "composed",
    ),
    "conv-replicate": (ConvSpec(2, 3, 4, padding=((3, 5),), padding_mode="replicate"), (2, 2, 3), "composed"),
    "conv-circular": (
        ConvSpec(3, 4, (3, 2), (1, 2), padding=((2, 1), (5, 0)), padding_mode="circular"),
        (2, 3, 4, 5),
        "composed",
    ),
    "conv-circular-3d": (
        ConvSpec(2, 2, (1, 2, 3), padding=(0, 1, 2), padding_mode="circular"),
        (1, 2, 2, 3, 4),
        "composed",
    ),
    "transpose": (ConvSpec(3, 4, (3, 5), (2, 3), padding=((1, 0), (0, 2)), transposed=True), (2, 3, 4, 5), "native"),
    "transpose-1d": (ConvSpec(2, 3, (4,), 3, padding=1, output_padding=2, transposed=True), (2, 2, 5), "native"),
    "transpose-3d": (ConvSpec(2, 3, (1, 2, 3), (1, 2, 3), transposed=True, bias=False), (1, 2, 2, 3, 4), "native"),
    "transpose-gaps": (ConvSpec(2, 3, (2, 1), (3, 4), transposed=True), (1, 2, 3, 4), "native"),
    "transpose-groups": (ConvSpec(4, 6, (3, 2), (2, 1), groups=2, transposed=True), (2, 4, 3, 5), "native"),
    "transpose-depthwise": (ConvSpec(3, 3, (3, 2), 2, groups=3, transposed=True), (2, 3, 3, 5), "native"),
    "transpose-same": (ConvSpec(3, 2, (3, 4), (2, 3), padding="same", transposed=True), (2, 3, 4, 5), "native"),
    "transpose-same-gaps": (ConvSpec(3, 2, (2, 1), (3, 4), padding="same", transposed=True), (2, 3, 4, 5), "native"),
    "transpose-beyond": (
        ConvSpec(3, 2, (2, 3), (1, 2), dilation=(3, 1), output_padding=(2, 1), transposed=True),
        (2, 3, 4, 5),
        "composed",
    ),
    "transpose-beyond-unbiased": (
        ConvSpec(2, 3, (2,), dilation=3, padding=((1, 1),), output_padding=2, bias=False, transposed=True),
        (1, 2, 4),
        "composed",
    ),
    "transpose-uncropped": (
        ConvSpec(2, 3, (2, 3), dilation=(3, 2), padding=((0, 2), (1, 2)), output_padding=(2, 1), transposed=True),
        (2, 2, 4, 5),
        "composed",
    ),
}
PROGRAMS = ("conv", "conv-same", "conv-same-dilation", "conv-circular", "transpose", "transpose-beyond")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    """The layers are tiny, and threads that wait for one another are slow on a busy machine."""
    ADAPTER.configure(threads=1)


def oriented(x: np.ndarray, layout: str) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)) if layout == "NHWC" else x


def run(adapter: Adapter, case: Case) -> np.ndarray:
    """The output in canonical order."""
    params, x = arrays(case)
    layer = adapter.build(case.spec, params, case.layout, case.dtype)
    y = adapter.apply(layer, oriented(x, case.layout), case.layout)
    return np.moveaxis(y, -1, 1) if case.layout == "NHWC" else y


@functools.cache
def declared(adapter: Adapter) -> tuple[known_gaps.Gap, ...]:
    return known_gaps.applying(adapter, adapter.versions())


def covering(adapter: Adapter, case: Case) -> list[known_gaps.Gap]:
    """The declared gaps that the case matches."""
    support = adapter.support(case.spec, case.layout, case.dtype)
    known = gap_ledger.features(case, support=support, adapter=adapter.name, variant=adapter.variant)
    return [gap for gap in declared(adapter) if gap.when(known)]


def outcome(adapter: Adapter, case: Case) -> tuple[str, str]:
    """Verdict and reason: the output is the oracle's to the last bit, and what the oracle refuses is refused."""
    params, x = arrays(case)
    try:
        expected = reference.conv(case.spec, params, x)
    except ShapeError:
        expected = None
    try:
        y = run(adapter, case)
    except Exception as error:  # noqa: BLE001 – whatever is raised is the outcome
        return ("agree", "") if expected is None else ("error", str(error))
    if expected is None:
        return "disagree", "a result where there is none"
    if y.shape != expected.shape or not np.array_equal(y, expected):
        return "disagree", f"shape {y.shape} against {expected.shape}, or numbers"
    return "agree", ""


def check(adapter: Adapter, case: Case) -> None:
    """The case agrees – or it is declared to fail, and fails as declared."""
    verdict, reason = outcome(adapter, case)
    expected = covering(adapter, case)
    if expected:
        assert any(gap.covers(verdict, reason) for gap in expected), (expected[0].id, verdict, reason)
    else:
        assert verdict == "agree", reason


@BOTH
@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_give_the_oracles_numbers(name: str, runner: str, layout: str) -> None:
    spec, shape, _ = LAYERS[name]
    check(RUNNERS[runner], Case(spec, shape, layout, seed=3))


@pytest.mark.parametrize("runner", RUNNERS)
@settings(max_examples=150, deadline=None)
@given(case=strategies.cases(), layout=st.sampled_from(layouts.LAYOUTS))
def test_any_layer_gives_the_oracles_numbers(runner: str, case: Case, layout: str) -> None:
    check(RUNNERS[runner], case.varied(layout=layout))


@pytest.mark.parametrize(
    ("runner", "dtype"),
    [("all", "float16"), ("off", "float16"), *(("reference", d) for d in ("float16", "bfloat16", "float64"))],
)
@pytest.mark.parametrize("name", PROGRAMS)
def test_other_dtypes(name: str, runner: str, dtype: str) -> None:
    spec, shape, _ = LAYERS[name]
    case = Case(spec, shape, "NHWC", dtype, seed=1)
    check(RUNNERS[runner], case)
    assert run(RUNNERS[runner], case).dtype == arrays(case)[1].dtype


@pytest.mark.parametrize(("transposed", "op"), [(False, "Conv"), (True, "ConvTranspose")])
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_dtypes_that_onnx_runtime_lacks_are_unsupported_in_its_own_words(dtype: str, transposed: bool, op: str) -> None:
    spec = ConvSpec(3, 4, 2, transposed=transposed)
    support = ADAPTER.support(spec, dtype=dtype)
    assert support == "unsupported"
    model = REFERENCE.build(spec, ConvParams.random(spec), dtype=dtype)
    with pytest.raises(Exception, match=r"NOT_IMPLEMENTED : Could not find an implementation for") as raised:
        ADAPTER.apply(model, np.zeros((1, 3, 5, 6), np.float32))
    said = str(raised.value).split(" : ", 2)[2].split(" node")[0]
    assert said in support.reason
    assert op in said


@BOTH
@pytest.mark.parametrize("dtype", REFERENCE.dtypes)
@pytest.mark.parametrize("name", LAYERS)
def test_models_are_valid_and_hold_the_weights_as_they_are(name: str, dtype: str, layout: str) -> None:
    spec, _, _ = LAYERS[name]
    params = ConvParams.random(spec, 5, dtype)
    model = REFERENCE.build(spec, params, layout, dtype)
    onnx.checker.check_model(model, full_check=True)
    held = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    np.testing.assert_array_equal(held["weight"].astype(params.kernel.dtype), params.kernel)
    assert ("bias" in held) == spec.bias
    if spec.bias:
        np.testing.assert_array_equal(held["bias"].astype(params.kernel.dtype), params.bias)
    if dtype == "float32":
        assert next(t for t in model.graph.initializer if t.name == "weight").raw_data == params.kernel.tobytes()


@pytest.mark.parametrize("name", LAYERS)
def test_support(name: str) -> None:
    spec, _, kind = LAYERS[name]
    assert ADAPTER.support(spec) == kind
    assert bool(ADAPTER.support(spec).reason) == (kind == "composed")
    assert ADAPTER.support(spec, "NHWC") == "composed"
    assert "channels first" in ADAPTER.support(spec, "NHWC").reason
    if kind == "native":
        assert len(ADAPTER.plan(spec).execute().graph.node) == 1


@pytest.mark.parametrize(
    "name", ["conv-same", "conv-same-dilation", "conv-same-gaps", "conv-circular", "transpose-beyond"]
)
@BOTH
def test_one_model_serves_every_size(name: str, layout: str) -> None:
    spec, shape, _ = LAYERS[name]
    params, _ = arrays(Case(spec, shape))
    model = ADAPTER.build(spec, params, layout)
    for grown in (shape, (1, *shape[1:-1], shape[-1] + 1), (3, *shape[1:-2], shape[-2] + 5, shape[-1] + 2)):
        _, x = arrays(Case(spec, grown))
        y = ADAPTER.apply(model, oriented(x, layout), layout)
        np.testing.assert_array_equal(oriented(reference.conv(spec, params, x), layout), y)


def test_three_spatial_axes_at_most() -> None:
    support = ADAPTER.support(ConvSpec(1, 1, (1, 1, 1, 1)))
    assert support == "unsupported"
    assert "4 spatial axes" in support.reason


# -- the text --------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("name", PROGRAMS)
def test_golden_sources(name: str, layout: str) -> None:
    """To accept a change: delete the files, run the test (it writes them, and fails), read them."""
    path = GOLDEN / f"{name}-{layout}.py"
    text = ADAPTER.source(LAYERS[name][0], layout)
    if not path.exists():
        path.write_text(text, encoding="utf-8")
        pytest.fail(f"{path.name} was missing and has been written: read it, then run again")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_source_runs_on_its_own(dtype: str) -> None:
    spec, _, _ = LAYERS["conv-circular"]
    script = REFERENCE.source(spec, "NHWC", dtype) + "import onnx\nonnx.checker.check_model(layer, full_check=True)\n"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_build_executes_the_source() -> None:
    spec, _, _ = LAYERS["transpose-beyond"]
    namespace: dict[str, object] = {}
    exec(ADAPTER.source(spec), namespace)
    kernel = np.zeros(spec.kernel_shape, np.float32)
    assert namespace["layer"] == ADAPTER.build(spec, ConvParams(kernel, np.zeros(2, np.float32)))


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize(
    ("layout", "shape", "words"),
    [
        ("NCHW", (2, 7, 8, 3), "looks like the other layout"),
        ("NCHW", (2, 5, 8, 7), "must be 3 channels"),
        ("NCHW", (3, 8, 7), "expects 4: NCHW"),
        ("NHWC", (2, 7, 8, 3), "this model is not NHWC"),
    ],
)
def test_wrong_layouts(runner: str, layout: str, shape: tuple[int, ...], words: str) -> None:
    spec, _, _ = LAYERS["conv"]
    model = ADAPTER.build(spec, ConvParams.random(spec))
    with pytest.raises(ShapeError, match=words):
        RUNNERS[runner].apply(model, np.zeros(shape, np.float32), layout)


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tpu"])
def test_a_device_that_is_not_there(runner: str, device: str) -> None:
    if device.startswith("cuda") and "cuda" in RUNNERS[runner].devices():
        pytest.skip("CUDA is here")
    spec, shape, _ = LAYERS["conv"]
    model = ADAPTER.build(spec, ConvParams.random(spec), device=device)
    with pytest.raises(PlacementError, match=device):
        RUNNERS[runner].apply(model, np.zeros(shape, np.float32), device=device)


def test_a_fallback_to_the_cpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA build on a machine where CUDA cannot start: the provider is listed, the session falls back."""
    layer = importlib.import_module("convspec_onnx.layer")
    real = layer.ort.InferenceSession
    monkeypatch.setattr(layer.ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    asked = []

    def falls_back(model: bytes, options: object, providers: list[tuple[str, dict[str, str]]]) -> object:
        asked.append(providers)
        return real(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(layer.ort, "InferenceSession", falls_back)
    spec, shape, _ = LAYERS["conv"]
    model = ADAPTER.build(spec, ConvParams.random(spec))
    with pytest.raises(PlacementError, match="'cuda:1' but runs on CPUExecutionProvider"):
        ADAPTER.apply(model, np.zeros(shape, np.float32), device="cuda:1")
    assert asked == [[("CUDAExecutionProvider", {"device_id": "1", "use_tf32": "1"})]]


def test_an_answer_in_another_dtype_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        def run(self, _: object, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            return [feed["x"].astype(np.float64)]

    layer = importlib.import_module("convspec_onnx.layer")
    monkeypatch.setattr(layer, "_session", lambda *_: Session())
    spec, shape, _ = LAYERS["conv"]
    with pytest.raises(PlacementError, match="expected float32, got float64"):
        ADAPTER.apply(ADAPTER.build(spec, ConvParams.random(spec)), np.zeros(shape, np.float32))


@pytest.mark.parametrize(("adapter", "missing"), [(ADAPTER, "onnxruntime"), (REFERENCE, "onnx")])
def test_an_absent_framework(adapter: Adapter, missing: str) -> None:
    hidden = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {missing!r}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
import convspec
from convspec.errors import FrameworkAbsent
adapter = convspec.adapter({adapter.name!r})
print(adapter.support(convspec.ConvSpec(1, 1, 1)))
try:
    adapter.devices()
except FrameworkAbsent as error:
    print(error.name)
"""
    done = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["native", missing], done.stderr


def test_the_evaluator_needs_no_onnx_runtime() -> None:
    script = """
import sys
sys.modules["onnxruntime"] = None
import numpy as np, convspec
spec = convspec.ConvSpec(1, 1, 1, bias=False)
adapter = convspec.adapter("onnx-reference")
layer = adapter.build(spec, convspec.ConvParams(np.full((1, 1, 1, 1), 3, np.float32)))
print(adapter.apply(layer, np.ones((1, 1, 1, 1), np.float32)).item())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["3.0"], done.stderr


@pytest.mark.parametrize("adapter", [ADAPTER, REFERENCE])
def test_there_are_no_gradients(adapter: Adapter) -> None:
    spec, shape, _ = LAYERS["conv"]
    x = np.zeros(shape, np.float32)
    with pytest.raises(UnsupportedError, match="forward only"):
        adapter.gradients(adapter.build(spec, ConvParams.random(spec)), x, x)


# -- sessions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_model_changed_in_place_is_run_as_changed(runner: str) -> None:
    spec = ConvSpec(1, 1, 1, bias=False)
    model = ADAPTER.build(spec, ConvParams(np.full((1, 1, 1, 1), 3, np.float32)))
    x = np.full((1, 1, 2, 3), 7, np.float32)
    assert set(RUNNERS[runner].apply(model, x).ravel()) == {21}
    model.graph.initializer[0].raw_data = np.float32(5).tobytes()
    assert set(RUNNERS[runner].apply(model, x).ravel()) == {35}


def test_the_settings_reach_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = importlib.import_module("convspec_onnx.layer")
    monkeypatch.setattr(layer, "_switches", dict(layer._switches))
    spec, shape, _ = LAYERS["conv"]
    for runner, level in (("all", "ORT_ENABLE_ALL"), ("off", "ORT_DISABLE_ALL")):
        adapter = RUNNERS[runner]
        adapter.configure(threads=1)
        model = adapter.build(spec, ConvParams.random(spec))
        session = layer._session(model.SerializeToString(), "cpu", adapter.variant, 1, "shipped")
        options = session.get_session_options()
        assert (options.intra_op_num_threads, options.graph_optimization_level.name) == (1, level)
        hits = layer._session.cache_info().hits
        adapter.apply(model, np.zeros(shape, np.float32))
        assert layer._session.cache_info().hits == hits + 1


def test_subnormals_are_kept() -> None:
    spec = ConvSpec(1, 1, 1, bias=False)
    tiny = np.full((1, 1, 1, 1), math.ldexp(1, -140), np.float32)
    for adapter in RUNNERS.values():
        layer = adapter.build(spec, ConvParams(np.ones((1, 1, 1, 1), np.float32)))
        assert adapter.apply(layer, tiny).item() == math.ldexp(1, -140)
        assert not adapter.compute_precision(spec).flushes_subnormals


@pytest.mark.parametrize(
    ("adapter", "spec", "dtype", "declared"),
    [
        (ADAPTER, ConvSpec(1, 1, 9, transposed=True, bias=False, ndim=1), "float16", "float32"),
        (REFERENCE, ConvSpec(1, 1, 9, transposed=True, bias=False, ndim=1), "float16", "float16"),
        (REFERENCE, ConvSpec(1, 1, 9, transposed=True, bias=False, ndim=1), "bfloat16", "float32"),
        (ADAPTER, ConvSpec(1, 1, 9, bias=False, ndim=1), "float16", "float32"),
        (REFERENCE, ConvSpec(1, 1, 9, bias=False, ndim=1), "float16", "float32"),
        (REFERENCE, ConvSpec(1, 1, 9, bias=False, ndim=1), "bfloat16", "float32"),
    ],
)
def test_half_precision_is_summed_as_declared(adapter: Adapter, spec: ConvSpec, dtype: str, declared: str) -> None:
    """2048 + 1 is 2048 in float16, so the ones in 2048 + 1 + … + 1 - 2048 are lost unless sums are wider."""
    large = {"float16": 2048, "bfloat16": 256}[dtype]
    carrier = np.float16 if dtype == "float16" else np.float32
    kernel = np.ones(spec.kernel_shape, carrier)
    kernel[..., 0], kernel[..., -1] = large, -large
    y = adapter.apply(adapter.build(spec, ConvParams(kernel), dtype=dtype), np.ones((1, 1, 9), carrier))
    # several roundings of the result: partial sums are kept in float16
    arithmetic = adapter.compute_precision(spec, LayerRequest(dtype=dtype))
    assert (arithmetic.accumulator, arithmetic.output_roundings > 1) == ("float32", declared == "float16")
    assert (y.max() == 7 if not spec.transposed else y[0, 0, 8] == 7) == (declared == "float32")


# -- known gaps ------------------------------------------------------------------------------------------------------

# id: the smallest case that fails
GAPS = {
    "ort-conv-transpose-to-nothing": (ConvSpec(1, 1, (1,), padding=((1, 0),), transposed=True), (1, 1, 1)),
    "ort-conv-transpose-output-padding-of-nothing": (
        ConvSpec(1, 1, (4,), 2, output_padding=1, transposed=True),
        (1, 1, 0),
    ),
    "ort-conv-transpose-3d-of-nothing": (ConvSpec(1, 1, 2, transposed=True, ndim=3), (1, 1, 0, 1, 1)),
    "ort-wrap-of-empty-batch": (ConvSpec(1, 1, (2,), padding=1, padding_mode="circular"), (0, 1, 2)),
    "ort-wraps-more-than-once": (ConvSpec(1, 1, (2,), padding=2, padding_mode="circular"), (1, 1, 1)),
    "ort-reflect-of-empty-batch": (ConvSpec(1, 1, (2,), padding=1, padding_mode="reflect"), (0, 1, 1)),
    "evaluator-grouped-conv-transpose": (ConvSpec(2, 4, (1,), groups=2, transposed=True), (1, 2, 1)),
    "evaluator-depthwise-conv-transpose-bias": (ConvSpec(2, 2, (1,), groups=2, transposed=True), (1, 2, 1)),
    "evaluator-conv-transpose-of-nothing": (ConvSpec(1, 1, (1,), transposed=True), (0, 1, 1)),
    "evaluator-conv-transpose-to-less-than-nothing": (
        ConvSpec(1, 1, (1,), padding=((2, 0),), dilation=3, output_padding=2, transposed=True),
        (1, 1, 1),
    ),
    "evaluator-kernel-beyond-input": (ConvSpec(1, 1, (2,)), (1, 1, 1)),
    "evaluator-pads-more-than-there-is": (ConvSpec(1, 1, (1,), padding=1, padding_mode="reflect"), (1, 1, 1)),
}


def gap_named(name: str) -> tuple[Adapter, known_gaps.Gap]:
    return next((a, gap) for a in (ADAPTER, REFERENCE) for gap in declared(a) if gap.id == name)


def test_every_gap_has_an_example() -> None:
    assert sorted(GAPS) == sorted(gap.id for a in (ADAPTER, REFERENCE) for gap in declared(a))


@pytest.mark.parametrize("name", [name for name in GAPS if "3d" not in name])
def test_gaps(name: str) -> None:
    adapter, gap = gap_named(name)
    case = Case(*GAPS[name], seed=1)
    assert gap in covering(adapter, case)
    assert gap.covers(*outcome(adapter, case))


def test_the_gap_that_kills_the_process() -> None:
    case = Case(*GAPS["ort-conv-transpose-3d-of-nothing"])
    adapter, gap = gap_named("ort-conv-transpose-3d-of-nothing")
    assert gap in covering(adapter, case)
    assert case.spec.output_shape(case.input_shape) == (1, 1, 1, 2, 2)
    script = f"""
import convspec, numpy as np
spec = convspec.ConvSpec.from_json({case.spec.to_json()!r})
adapter = convspec.adapter("onnx")
print("starts", flush=True)
adapter.apply(adapter.build(spec, convspec.ConvParams.random(spec)), np.zeros({case.input_shape}, np.float32))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["starts"]
    assert done.returncode < 0


def test_both_adapters_are_found_by_entry_point() -> None:
    import convspec

    assert convspec.adapter("onnx") is convspec_onnx.ADAPTER
    assert convspec.adapter("onnx:off").variant == "off"
    assert convspec.adapter("onnx-reference") is convspec_onnx.REFERENCE
    assert FrameworkAbsent.__mro__[1].__name__ == "ConvspecError"
