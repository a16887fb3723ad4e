"""The ONNX adapters against the oracle, on integers: every comparison is exact."""

from __future__ import annotations

import importlib
import math
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import convspec_onnx
import onnx
from convspec_onnx import ADAPTER, REFERENCE

from convspec import ConvSpec
from convspec.contract import Adapter, LayerRequest, known_gaps
from convspec.corpora.cases import Case
from convspec.errors import FrameworkAbsent, PlacementError
from convspec.spec import layouts
from convspec.spec.parameters import ConvParams
from tests.adapters.onnx.test_quantized_layers import QUANTIZED_GAPS
from tests.adapters.suite import AdapterSuite, covering, gaps_of

pytestmark = pytest.mark.onnx

RUNNERS = {"all": ADAPTER, "off": ADAPTER.with_variant("off"), "reference": REFERENCE}

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
DEADLY = "ort-conv-transpose-3d-of-nothing"


class TestLayers(AdapterSuite):
    runners = RUNNERS
    layers = LAYERS
    layers_in_gaps = (("reference", "transpose-groups"), ("reference", "transpose-depthwise"))
    other_layout_reason = "channels first"
    packages = (("onnx", "onnxruntime"), ("onnx-reference", "onnx"))
    goldens = {
        f"onnx/{name}-{layout}.py": ("all", name, layout, "float32") for name in PROGRAMS for layout in layouts.LAYOUTS
    }
    differentiable = False
    gradient_layers = ("conv",)
    dtype_runs = tuple(
        (runner, name, "NHWC", dtype)
        for runner, dtypes in (
            ("all", ["float16"]), ("off", ["float16"]), ("reference", ["float16", "bfloat16", "float64"])
        )
        for dtype in dtypes for name in PROGRAMS
    )  # fmt: skip
    wrong_tensors = (
        ("NCHW", "NCHW", (2, 7, 8, 3), "looks like the other layout"),
        ("NCHW", "NCHW", (2, 5, 8, 7), "must be 3 channels"),
        ("NCHW", "NCHW", (3, 8, 7), "expects 4: NCHW"),
        ("NCHW", "NHWC", (2, 7, 8, 3), "this model is not NHWC"),
    )
    examples = 150
    gap_examples = {name: [Case(*entry, seed=1)] for name, entry in GAPS.items() if name != DEADLY}

    @pytest.mark.parametrize("native", [name for name, (_, _, kind) in LAYERS.items() if kind == "native"])
    def test_a_native_layer_is_one_node(self, native: str) -> None:
        assert len(ADAPTER.plan(LAYERS[native][0]).execute().graph.node) == 1


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    """The layers are tiny, and threads that wait for one another are slow on a busy machine."""
    ADAPTER.configure(threads=1)


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


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
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


# -- the text --------------------------------------------------------------------------------------------------------


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


def gap_named(name: str) -> tuple[Adapter, known_gaps.Gap]:
    return next((a, gap) for a in (ADAPTER, REFERENCE) for gap in gaps_of(a) if gap.id == name)


def test_every_gap_has_an_example() -> None:
    """Those of other processors too."""
    named = {gap.id for adapter in (ADAPTER, REFERENCE) for gap in known_gaps.declared(adapter)}
    assert {*GAPS, *QUANTIZED_GAPS} == named


def test_the_gap_that_kills_the_process() -> None:
    case = Case(*GAPS[DEADLY])
    adapter, gap = gap_named(DEADLY)
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


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
@pytest.mark.parametrize("dtype", REFERENCE.dtypes)
def test_a_plan_is_of_the_layer_that_was_asked_for(dtype: str, layout: str) -> None:
    spec, *_ = LAYERS["conv"]
    found = REFERENCE.plan(spec, layout, dtype)
    assert (found.spec, found.layout, found.dtype) == (spec, layout, dtype)
