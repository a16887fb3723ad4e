"""The part of the adapters' contract that is the same for all, and the plan that is shown and run."""

import pickle
import traceback

import numpy as np
import pytest

from convspec import ConvSpec, FrameworkAbsent, ShapeError
from convspec.contract import (
    Adapter,
    LayerRequest,
    Plan,
    PlanAdapter,
    Support,
    check_layout,
    kernel_axes,
    xla_precision,
)
from convspec.contract.plan_adapter import present
from convspec.errors import UnknownName
from convspec.spec import ComputePrecision


def adapter(**changes):
    fields = dict(
        name="none",
        package="convspec_torch",
        requires=("no_such_framework",),
        distributions=("numpy", "nil"),
        native_layout="NCHW",
        dtypes=("float32",),
        variants=("default", "other"),
    )
    return PlanAdapter(**{**fields, **changes})


def test_a_planned_adapter_fulfils_the_contract():
    assert isinstance(adapter(), Adapter)


def test_support_is_decided_without_running():
    assert adapter().support(ConvSpec(3, 8, (3, 3, 3, 3))) == "unsupported"
    refused = adapter().support(ConvSpec(3, 8, 3), dtype="float64")
    assert refused == "unsupported"
    assert refused.reason == "none has no float64 convolution; it has float32"
    assert repr(refused) == f"unsupported({refused.reason})"


def test_only_the_absence_of_the_framework_itself_is_absence():
    with (
        pytest.raises(FrameworkAbsent, match=r"^adapter 'flax-linen' needs no_such_framework, which is not installed$"),
        present("flax-linen", ("no_such_framework",)),
    ):
        import no_such_framework  # noqa: F401
    with pytest.raises(ModuleNotFoundError) as caught, present("flax", ("no_such_framework",)):
        import another_missing_module  # noqa: F401
    assert not isinstance(caught.value, FrameworkAbsent)
    with pytest.raises(ImportError) as caught, present("flax", ("numpy",)):
        raise ImportError("numpy is broken", name="numpy")
    assert not isinstance(caught.value, FrameworkAbsent)


def test_variants_are_picked_by_name():
    assert adapter().with_variant("other").variant == "other"
    with pytest.raises(UnknownName, match="did you mean 'other'"):
        adapter().with_variant("othr")


def test_versions_are_those_installed():
    assert adapter().versions() == {"numpy": np.__version__}


@pytest.mark.parametrize(
    ("shape", "layout", "message"),
    [
        ((1, 8, 9, 3), "NCHW", r"axis 1 must be 3 channels \(NCHW\), but is 8; axis 3 is 3: this looks like the other"),
        ((1, 3, 8, 9), "NHWC", r"axis 3 must be 3 channels \(NHWC\), but is 9; axis 1 is 3"),
        ((1, 4, 8, 9), "NCHW", r"axis 1 must be 3 channels \(NCHW\), but is 4$"),
        ((3, 8, 9), "NCHW", "has 3 axes, but this layer expects 4: NCHW"),
    ],
)
def test_a_tensor_that_cannot_be_in_that_layout(shape, layout, message):
    with pytest.raises(ShapeError, match=message):
        check_layout(np.zeros(shape), 3, layout, 2)
    check_layout(np.zeros((1, 3, 8, 9)), 3, "NCHW", 2)


def test_kernel_axes_of_regular_and_transposed_layers():
    assert np.zeros((16, 3, 5, 7)).transpose(kernel_axes("*IO", 2, transposed=False)).shape == (5, 7, 3, 16)
    assert np.zeros((3, 16, 5, 7)).transpose(kernel_axes("*OI", 2, transposed=True)).shape == (5, 7, 16, 3)


def test_a_plan_runs_its_own_text_and_tracebacks_show_it():
    plan = Plan(ConvSpec(3, 8, 3), "NCHW", "float32", "def layer(x):\n    return x / 0  # the line at fault\n")
    layer = plan.execute()
    with pytest.raises(ZeroDivisionError) as caught:
        layer(1)
    assert "the line at fault" in "".join(traceback.format_exception(caught.value))
    assert plan.support == "native"
    composed = Plan(ConvSpec(3, 8, 3), "NHWC", "float32", "layer = 1", reasons=("a", "b"))
    assert (composed.support, composed.support.reason) == ("composed", "a; b")


def test_support_survives_pickling():
    support = pickle.loads(pickle.dumps(Support("composed", "why")))
    assert (support, support.reason) == ("composed", "why")


@pytest.mark.parametrize(("request_", "expected"), [
    (LayerRequest(), ComputePrecision("float32", 1, True)),
    (LayerRequest(dtype="float64"), ComputePrecision("float64", 1, True)),
    (LayerRequest(dtype="float16"), ComputePrecision("float32", 2, True)),
    (LayerRequest(dtype="bfloat16", direction="kernel"), ComputePrecision("float32", 1, True)),
    (LayerRequest(dtype="bfloat16", direction="bias"), ComputePrecision("bfloat16", 1, True)),
    (LayerRequest(direction="bias"), ComputePrecision("float32", 1, True)),
    (LayerRequest(dtype="float16", direction="input", input_shape=(1, 3, 5, 5)), ComputePrecision("float32", 9, True)),
    (LayerRequest(dtype="float16", direction="input"), ComputePrecision("float32", 1, True)),
    (LayerRequest(direction="input", input_shape=(1, 3, 5, 5)), ComputePrecision("float32", 1, True)),
    (LayerRequest(device="cuda"), ComputePrecision("float32", 1, True, "tf32")),
    (LayerRequest(device="cuda", precision="strict"), ComputePrecision("float32", 1, True)),
    (LayerRequest(device="cuda", direction="bias"), ComputePrecision("float32", 1, True)),
    (LayerRequest(device="cuda", dtype="float16"), ComputePrecision("float32", 2, True)),
])  # fmt: skip
def test_how_xla_computes(request_, expected):
    spec = ConvSpec(3, 8, 3, padding=1, padding_mode="reflect")
    assert xla_precision(spec, request_) == expected
    dry = ConvSpec(3, 8, 3, bias=False)
    assert xla_precision(dry, LayerRequest(dtype="float16")).output_roundings == 1
