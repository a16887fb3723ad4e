import json
from dataclasses import replace
from importlib.resources import files

import jsonschema
import numpy as np
import pytest

import convspec
from convspec import ConvParams, ConvSpec, diagnose, reference
from convspec.diagnosis import Diagnosis
from convspec.errors import ParamsError, ShapeError, UnknownName
from convspec.spec.dtypes import rounded

SPEC = ConvSpec(3, 4, (3, 5), stride=(2, 1), padding=(1, 2))
PARAMS = ConvParams.random(SPEC, 3)
X = np.random.default_rng(0).standard_normal((2, 3, 9, 7)).astype(np.float32)
RIGHT = reference.conv(SPEC, PARAMS, X).astype(np.float32)
DROPPED = reference.conv(replace(SPEC, bias=False), ConvParams(PARAMS.kernel), X).astype(np.float32)


def unknown():
    actual = RIGHT.copy()
    actual[:, 2, :, 3] *= 1.5
    return actual


def test_right_numbers_agree_and_hold_nothing():
    found = diagnose(SPEC, PARAMS, X, RIGHT)
    assert found == Diagnosis(agrees=True)
    assert (len(found), list(found), found.location) == (0, [], None)


def test_a_mistake_is_named_with_its_distance():
    found = diagnose(SPEC, PARAMS, X, DROPPED)
    assert isinstance(found, Diagnosis)
    assert [finding.id for finding in found] == ["bias-dropped"]
    assert found[0] is found[:1][0]
    assert found[0].exact
    assert found[0].distance <= 1
    assert found[0].wrong == 0
    assert np.array_equal(found[0].layer.output().astype(np.float32), DROPPED)
    assert found.location.where == "everywhere"


@pytest.mark.parametrize(("batch", "width"), [(0, 7), (2, 0)])
def test_an_input_without_numbers_is_no_reason_to_fail(batch, width):
    """Mistakes ask for the input's largest number, its mean, …: an empty one has none."""
    x = np.zeros((batch, 3, 9, width), np.float32)
    spec = replace(SPEC, padding=(1, 3))
    right = reference.conv(spec, PARAMS, x).astype(np.float32)
    assert diagnose(spec, PARAMS, x, right).agrees
    found = diagnose(spec, PARAMS, x, right[:, :, :-1])
    assert (found.agrees, found.shapes) == (False, (right.shape, right[:, :, :-1].shape))
    filled = reference.conv(
        replace(spec, padding=0), PARAMS, np.pad(x, ((0, 0), (0, 0), (1, 1), (3, 3)), constant_values=1)
    )
    found = diagnose(spec, PARAMS, x, filled.astype(np.float32))
    assert found.agrees == (batch == 0)
    assert batch == 0 or "padding-filled-with-a-number" in [finding.id for finding in found]


def test_it_works_in_the_other_layout():
    last = [np.moveaxis(a, 1, -1) for a in (X, DROPPED)]
    assert diagnose(SPEC, PARAMS, *last, layout="NHWC")[0].id == "bias-dropped"


def test_a_wrong_shape_is_explained_too():
    found = diagnose(SPEC, PARAMS, X, RIGHT[:, :, :-1])
    assert found[0].id == "row-dropped"
    assert found.location is None
    assert found.shapes == ((2, 4, 5, 7), (2, 4, 4, 7))


def test_a_flattened_output_is_compared_in_its_layouts_order():
    wrong = np.moveaxis(RIGHT, 1, -1).reshape(2, -1)
    assert diagnose(SPEC, PARAMS, X, wrong)[0].id == "flatten-order"
    assert diagnose(SPEC, PARAMS, X, RIGHT.reshape(2, -1)).agrees
    last = np.moveaxis(X, 1, -1)
    assert diagnose(SPEC, PARAMS, last, RIGHT.reshape(2, -1), layout="NHWC")[0].id == "flatten-order"
    assert diagnose(SPEC, PARAMS, last, wrong, layout="NHWC").agrees


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_the_format_of_the_numbers_decides_what_rounding_is(dtype):
    params = ConvParams(rounded(PARAMS.kernel, dtype), rounded(PARAMS.bias, dtype))
    x = rounded(X, dtype)
    y = reference.conv(SPEC, params, x)
    assert diagnose(SPEC, params, x, rounded(y, dtype)).agrees
    assert not diagnose(SPEC, params, x, rounded(y * 1.1, dtype), seconds=0).agrees
    if dtype != "float64":  # float32 numbers that are only as good as a narrow format's
        found = diagnose(SPEC, params, x, rounded(y, dtype).astype(np.float32), dtype="float32", seconds=0)
        assert found[0].id == "output-rounded"


def test_float32_numbers_may_come_in_float64():
    assert diagnose(SPEC, PARAMS, X, RIGHT.astype(np.float64)).agrees
    assert diagnose(SPEC, PARAMS, X.tolist(), RIGHT.tolist()).agrees


def test_tf32_shows_itself_statistically_where_sums_are_long():
    spec = ConvSpec(96, 4, 3)
    params = ConvParams.random(spec, 0)
    x = np.random.default_rng(1).standard_normal((1, 96, 20, 20)).astype(np.float32)
    coarse = reference.conv(spec, ConvParams(rounded(params.kernel, "tf32"), params.bias), rounded(x, "tf32"))
    assert "tf32-inputs" in [finding.id for finding in diagnose(spec, params, x, coarse.astype(np.float32), seconds=0)]
    assert diagnose(spec, params, x, reference.conv(spec, params, x).astype(np.float32)).agrees


def test_what_nothing_explains_is_located_and_the_nearest_listed():
    found = diagnose(SPEC, PARAMS, X, unknown(), seconds=0)
    assert not found.agrees
    assert not found
    assert not found.complete
    assert found.location.wrong == np.count_nonzero(unknown() != RIGHT)
    assert all(0 < finding.wrong < 1 and finding.distance > 1 for finding in found.nearest)
    assert "The time limit was reached" in str(found)


def test_a_nan_is_never_explained_away():
    actual = RIGHT.copy()
    actual[0, 0, 0, 0] = np.nan
    found = diagnose(SPEC, PARAMS, X, actual, seconds=0)
    assert not found.findings
    assert not found.agrees


def test_json():
    schema = json.loads(files("convspec.diagnosis").joinpath("diagnosis.schema.json").read_text("utf-8"))
    for actual in (RIGHT, DROPPED, unknown(), RIGHT[:, :, :-1]):
        text = json.dumps(diagnose(SPEC, PARAMS, X, actual, seconds=0).to_dict(), allow_nan=False)
        jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((SPEC, PARAMS, X[:, :2], RIGHT), ShapeError, "in_channels=3"),
        ((SPEC, ConvParams(PARAMS.kernel), X, RIGHT), ParamsError, "bias must be given"),
        ((SPEC, PARAMS, X, RIGHT[0]), ShapeError, "must have 4 axes"),
        ((SPEC, PARAMS, X, RIGHT[0, 0]), ShapeError, "is not a flattened output"),
    ],
)
def test_bad_input_is_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        diagnose(*arguments)
    with pytest.raises(UnknownName):
        diagnose(SPEC, PARAMS, X, RIGHT, layout="CNHW")


def test_it_is_public():
    assert convspec.diagnose is diagnose


def test_the_document_has_the_error_position_and_the_sentences_their_empty_line():
    found = diagnose(SPEC, PARAMS, X, DROPPED)
    assert found.to_dict()["location"] == found.location.to_dict()
    assert diagnose(SPEC, PARAMS, X, RIGHT).to_dict()["location"] is None
    assert diagnose(SPEC, PARAMS, X, RIGHT).agrees is True
    wrong = diagnose(SPEC, PARAMS, X, unknown(), seconds=0)
    assert wrong.agrees is False
    assert wrong.tried > 50
    assert wrong.shapes == (RIGHT.shape, RIGHT.shape)
    assert not wrong.complete
    assert found.complete


def test_odd_statistics_alone_prove_nothing_wrong():
    """Errors within every element's bound, of no known arithmetic: the numbers stay right."""
    spec = ConvSpec(96, 4, 3)
    params = ConvParams.random(spec, 0)
    x = np.random.default_rng(1).standard_normal((1, 96, 20, 20)).astype(np.float32)
    size = reference.magnitude(spec, params, x)
    signs = np.random.default_rng(2).choice([-1, 1], size.shape)
    shifted = (reference.conv(spec, params, x) + 100 * 2.0**-24 * size * signs).astype(np.float32)
    found = diagnose(spec, params, x, shifted, seconds=0)
    assert found == Diagnosis(agrees=True)


def test_a_mistake_that_explains_all_but_one_element_is_the_nearest():
    flipped = reference.conv(SPEC, ConvParams(PARAMS.kernel[..., ::-1, ::-1], PARAMS.bias), X).astype(np.float32)
    flipped[1, 2, 3, 4] += 1
    found = diagnose(SPEC, PARAMS, X, flipped, seconds=0)
    assert not found.findings
    assert found.nearest[0].id == "kernel-flipped"
    assert found.nearest[0].wrong == 1 / RIGHT.size
    assert len(found.nearest) <= 5
    assert [finding.wrong for finding in found.nearest] == sorted(finding.wrong for finding in found.nearest)
