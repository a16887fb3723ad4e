"""Probes: what they hand to a layer is what they promise; ``tests/meta`` shows what they see."""

from __future__ import annotations

import numpy as np
import pytest

from convspec import ConvSpec, reference
from convspec.reference import error_bounds
from convspec.reference.accuracy_probes import LADDER, AccuracyClass, declared, judge_class, measure, probes
from convspec.spec.dtypes import DTYPES, ComputePrecision, format_of, representable, rounded

LAYERS = [
    (ConvSpec(6, 4, (3, 5), (2, 3), ((1, 2), (0, 1)), groups=2), (2, 6, 11, 13)),
    (ConvSpec(6, 4, (3, 5), (2, 3), 1, groups=2, transposed=True, output_padding=(1, 0)), (2, 6, 5, 7)),
    (ConvSpec(300, 5, 3, padding=1, bias=False), (1, 300, 5, 6)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("spec", "shape"), LAYERS)
def test_probes_have_the_layers_shapes_and_the_formats_numbers(spec, shape, dtype):
    found = probes(spec, shape, dtype)
    assert [probe.name for probe in found] == ["input", "kernel", "accumulator"]
    for probe in found:
        probe.params.check(spec)
        assert probe.x.shape == shape
        assert probe.x.dtype == probe.params.kernel.dtype == format_of(dtype).carrier
        assert representable(probe.x, dtype)
        assert representable(probe.params.kernel, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("spec", "shape"), LAYERS)
def test_every_output_of_the_one_hot_probes_is_a_number_of_the_format_with_all_its_digits(spec, shape, dtype):
    coarser = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}[dtype] - 1
    for probe in probes(spec, shape, dtype)[:2]:
        y = probe.expected[probe.expected != 0]
        assert y.size
        assert np.array_equal(rounded(y, dtype), y)
        mantissas = np.ldexp(np.frexp(y)[0], coarser)
        assert np.all(mantissas != np.round(mantissas))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("spec", "shape"), LAYERS)
def test_the_accumulators_sums_are_exact_in_the_fine_format_and_not_in_the_coarse_one(spec, shape, dtype):
    probe = probes(spec, shape, dtype)[2]
    size = reference.magnitude(spec, probe.params, probe.x)
    unit = 2.0**-10 if dtype == "float64" else 1
    assert np.array_equal(probe.expected / unit, np.round(probe.expected / unit))
    assert size.max() / unit <= 2.0 ** (53 if dtype == "float64" else 24)
    coarse = rounded(probe.expected, "float32" if dtype == "float64" else "tf32")
    assert not np.array_equal(coarse, probe.expected)
    if dtype == "float16":
        assert np.abs(probe.expected).max() < format_of(dtype).largest


def test_the_class_is_the_coarser_of_the_two():
    assert AccuracyClass("tf32", "float32").name == "tf32"
    assert AccuracyClass("float32", "float16").name == "float16"
    assert AccuracyClass(None, "float32").name == "float32"
    assert AccuracyClass(None, None).name is None


def test_the_ladder_is_ordered_by_digits():
    digits = [format_of(name).digits for name in LADDER]
    assert digits == sorted(digits, reverse=True)


def test_what_is_declared_is_what_the_probes_can_show():
    assert declared(ComputePrecision("float32"), "float32") == AccuracyClass("float32", "float32")
    assert declared(ComputePrecision("float64"), "float32") == AccuracyClass("float32", "float32")
    assert declared(ComputePrecision("float32", inputs="tf32"), "float32") == AccuracyClass("tf32", "float32")
    assert declared(ComputePrecision("float32"), "bfloat16") == AccuracyClass("bfloat16", "float32")
    assert declared(ComputePrecision("float16"), "float32") == AccuracyClass("float16", "float16")


def test_a_finer_class_than_the_declared_one_is_a_wrong_declaration():
    found = judge_class(AccuracyClass("float32", "float32"), ComputePrecision("float32", inputs="tf32"), "float32")
    assert found.verdict == "disagree"
    assert found.reason == "precision: measured inputs float32, declared tf32"
    assert found.accuracy_class == "float32"


def test_truncated_inputs_are_named_as_rounded_ones_are():
    spec, shape = LAYERS[0]
    found = probes(spec, shape)
    outputs = {p.name: p.expected.astype(np.float32) for p in found}
    for name in ("input", "kernel"):
        outputs[name] = (outputs[name].view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
    assert measure(found, outputs) == AccuracyClass("tf32", "float32")


def cut(values, dtype, digits):
    """The values with so many binary digits, the others cut off, not rounded."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.trunc(np.ldexp(mantissa, digits)), exponent - digits).astype(format_of(dtype).carrier)


COARSE = [("float32", "tf32"), ("float32", "bfloat16"), ("float64", "float32"), ("float64", "tf32"),
          ("float64", "bfloat16"), ("float16", "bfloat16")]  # fmt: skip


@pytest.mark.parametrize(("dtype", "name"), COARSE)
@pytest.mark.parametrize(("spec", "shape"), LAYERS)
@pytest.mark.parametrize("how", ["cut", "rounded"])
@pytest.mark.parametrize("part", ["input", "kernel"])
def test_inputs_or_weights_of_a_coarser_format_are_named_cut_or_rounded(spec, shape, dtype, name, how, part):
    """bfloat16 comes of float32 by leaving 16 bits out, tf32 by leaving 13 out: many kernels do just that."""
    found = probes(spec, shape, dtype)
    outputs = {p.name: p.expected.astype(format_of(dtype).carrier) for p in found}
    assert measure(found, outputs).inputs == dtype
    coarse = cut(outputs[part], dtype, format_of(name).digits) if how == "cut" else rounded(outputs[part], name)
    outputs[part] = coarse.astype(format_of(dtype).carrier)
    measured = measure(found, outputs)
    assert measured.inputs == name
    claim = ComputePrecision("float64" if dtype == "float64" else "float32", inputs=name)
    assert judge_class(measured, claim, dtype).verdict == "agree"
    plain = judge_class(measured, ComputePrecision(claim.accumulator), dtype)
    assert plain.verdict == "disagree"
    assert plain.reason.startswith(f"precision: measured inputs {name}, declared {dtype}")


def test_an_error_beyond_every_format_has_no_class():
    spec, shape = LAYERS[0]
    found = probes(spec, shape)
    outputs = {"input": (found[0].expected * 1.02).astype(np.float32)}
    assert measure(found, outputs) == AccuracyClass(None, None)
    outputs["input"][np.unravel_index(np.argmax(found[0].expected != 0), outputs["input"].shape)] = np.nan
    assert measure(found, outputs) == AccuracyClass(None, None)


def test_float16_loses_the_digits_of_small_numbers_and_tf32_does_not():
    spec, shape = LAYERS[0]
    found = probes(spec, shape)
    right = found[0].expected
    assert (np.abs(right[right != 0]) < 2.0**-14).any()
    half = {"input": rounded(right, "float16").astype(np.float32)}
    assert measure(found, half).inputs == "float16"
    assert measure(found, {"input": rounded(right, "tf32").astype(np.float32)}).inputs == "tf32"


@pytest.mark.parametrize(("dtype", "name"), [("float32", "float16"), ("float32", "bfloat16"), ("float64", "float32"),
                                             ("float64", "float16"), ("float16", "float16"),
                                             ("bfloat16", "bfloat16")])  # fmt: skip
@pytest.mark.parametrize("how", ["cut", "rounded"])
def test_sums_of_a_coarser_format_are_named(dtype, name, how):
    spec, shape = LAYERS[2]
    found = probes(spec, shape, dtype)
    right = found[2].expected
    form = format_of("tf32" if name == "float16" and dtype != "float16" else name)
    # a float16 layer's own last rounding is no proof: its sums must differ from the rightly rounded ones
    sums = cut(right * (1 + 2.0**-7), dtype, form.digits) if how == "cut" else rounded(right * (1 + 2.0**-7), form.name)
    measured = measure(found, {"accumulator": sums.astype(format_of(dtype).carrier)})
    assert measured == AccuracyClass(None, name)


def test_only_some_probes_may_have_run():
    spec, shape = LAYERS[0]
    found = probes(spec, shape)
    assert measure(found, {"input": found[0].expected.astype(np.float32)}) == AccuracyClass("float32", None)


def test_too_short_sums_show_no_accumulator():
    spec = ConvSpec(1, 4, (1, 2))
    assert error_bounds.products(spec) == 2
    found = probes(spec, (1, 1, 9, 9), "float16")
    outputs = {p.name: rounded(p.expected, "float16") for p in found}
    assert measure(found, outputs).accumulator is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_numbers_of_the_probes_are_around_one_and_some_of_a_wide_format_are_tiny(dtype):
    """float16 must not lose digits by its range; in a wider format, tiny numbers show that it was float16."""
    spec = ConvSpec(3, 5, 3)
    x, kernel = probes(spec, (2, 3, 40, 40), dtype)[0].x, probes(spec, (2, 3, 40, 40), dtype)[1].params.kernel
    for values in (x, kernel[kernel != 0]):
        sizes = np.abs(values)
        tiny = sizes < 2.0**-10
        assert ((sizes[~tiny] >= 0.5) & (sizes[~tiny] < 4)).all()
        assert ((sizes[tiny] >= 2.0**-20) & (sizes[tiny] < 2.0**-19)).all()
    exponents = np.unique(np.frexp(x)[1]).tolist()
    assert exponents == [*([-19] if dtype != "float16" else []), 0, 1, 2]
    assert (x > 0).any()
    assert (x < 0).any()


def test_the_evidence_has_both_parts_as_measured_and_as_declared():
    found = judge_class(AccuracyClass("float32", None), ComputePrecision("float32", inputs="tf32"), "float32")
    assert found.evidence == {
        "inputs": {"measured": "float32", "declared": "tf32"},
        "accumulator": {"measured": None, "declared": "float32"},
    }
    unknown = judge_class(AccuracyClass(None, "float16"), ComputePrecision("float32", output_roundings=3), "float32")
    assert (unknown.verdict, unknown.accuracy_class) == ("agree", "float16")  # partial sums may have the dtype
    with pytest.raises(ValueError, match="no accuracy class"):
        judge_class(AccuracyClass(None, None), ComputePrecision("float32"), "float32")


def test_a_float64_layer_has_a_finer_accumulator_to_show():
    assert declared(ComputePrecision("float64"), "float64") == AccuracyClass("float64", "float64")
    assert declared(ComputePrecision("float32"), "float64") == AccuracyClass("float32", "float32")
    assert declared(ComputePrecision("float32", output_roundings=2), "float32").accumulator == "float32"
    assert declared(ComputePrecision("float32", output_roundings=3), "float32").accumulator is None


def test_without_outputs_there_is_no_class():
    spec, shape = LAYERS[0]
    assert measure(probes(spec, shape), {}) == AccuracyClass(None, None)
