"""ConvSpec: canonical form, equality by meaning, errors, JSON."""

import json
import pickle
from dataclasses import fields, replace
from inspect import signature

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convspec import ConvSpec, SpecError
from convspec.errors import UnknownFieldError
from convspec.spec import FIELDS, add_pads
from convspec.strategies import specs

SAME_MEANING = [
    (dict(kernel_size=3), dict(kernel_size=(3, 3), ndim=2)),
    (dict(kernel_size=(3, 5)), dict(kernel_size=[3, 5], stride=(1, 1), padding="valid", dilation=(1, 1))),
    (dict(kernel_size=(3, 5), padding=(1, 2)), dict(kernel_size=(3, 5), padding=((1, 1), (2, 2)))),
    (dict(kernel_size=(3, 5), padding=(1, 2)), dict(kernel_size=(3, 5), padding="same")),
    (dict(kernel_size=(4, 2), padding="same"), dict(kernel_size=(4, 2), padding=((1, 2), (0, 1)))),
    (dict(kernel_size=(4, 2), padding="same_lower"), dict(kernel_size=(4, 2), padding=((2, 1), (1, 0)))),
    (dict(kernel_size=4, padding="same", dilation=3, ndim=1), dict(kernel_size=(4,), padding=((4, 5),), dilation=3)),
    (dict(kernel_size=3, padding="causal", dilation=2, ndim=1), dict(kernel_size=(3,), padding=((4, 0),), dilation=2)),
    (dict(kernel_size=3, padding="causal", stride=2, ndim=1), dict(kernel_size=(3,), padding=((2, 0),), stride=2)),
    (dict(kernel_size=3, padding_mode="reflect"), dict(kernel_size=3, padding_mode="circular")),
    (dict(kernel_size=4, padding="same", transposed=True), dict(kernel_size=4, padding=((1, 2),) * 2, transposed=True)),
    (dict(kernel_size=np.int64(3), bias=np.True_), dict(kernel_size=3)),
]


@pytest.mark.parametrize(("a", "b"), SAME_MEANING)
def test_one_meaning_is_one_spec(a, b):
    one, other = ConvSpec(4, 6, **a), ConvSpec(4, 6, **b)
    assert one == other
    assert hash(one) == hash(other)
    assert one.to_json() == other.to_json()


DIFFERENT = [
    (dict(padding="same", stride=2), dict(padding="same_lower", stride=2)),
    (dict(padding="same", stride=2), dict(padding=1, stride=2)),
    (dict(padding=((1, 0), (0, 0))), dict(padding=((0, 1), (0, 0)))),
    (dict(padding=1, padding_mode="reflect"), dict(padding=1, padding_mode="replicate")),
    (dict(transposed=True), dict()),
    (dict(bias=False), dict()),
    (dict(groups=2), dict()),
    (dict(stride=2), dict(dilation=2)),
]


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_other_meanings_are_other_specs(a, b):
    assert ConvSpec(4, 6, 3, **a) != ConvSpec(4, 6, 3, **b)


def test_a_word_stays_where_its_numbers_depend_on_the_input():
    spec = ConvSpec(3, 8, 3, stride=2, padding="same")
    assert spec.padding == "same"
    assert spec.explicit((1, 3, 32, 33)).padding == ((0, 1), (1, 1))
    assert spec.explicit((1, 32, 33, 3), layout="NHWC") == spec.explicit((1, 3, 32, 33))


def test_a_flat_pair_is_one_int_per_axis():
    assert ConvSpec(3, 8, 3, padding=(1, 2)).padding == ((1, 1), (2, 2))
    assert ConvSpec(3, 8, 3, padding=((1, 2),)).ndim == 1


INVALID = [
    (dict(in_channels=0), ["in_channels=0"]),
    (dict(out_channels=-3), ["out_channels=-3"]),
    (dict(in_channels=True), ["in_channels=True"]),
    (dict(in_channels=3.0), ["in_channels=3.0"]),
    (dict(kernel_size=0), ["kernel_size=0"]),
    (dict(kernel_size=(3, 0)), ["kernel_size=(3, 0)"]),
    (dict(kernel_size="3"), ["kernel_size='3'"]),
    (dict(kernel_size=()), ["kernel_size=()"]),
    (dict(stride=0), ["stride=0"]),
    (dict(dilation=(1, 0)), ["dilation=(1, 0)"]),
    (dict(padding=-1), ["padding=-1"]),
    (dict(padding=((0, -1), (0, 0))), ["padding=((0, -1), (0, 0))"]),
    (dict(padding="SAME"), ["padding='SAME'"]),
    (dict(padding=((1, 2, 3), (0, 0))), ["padding=((1, 2, 3), (0, 0))"]),
    (dict(padding=(1, (0, 1))), ["padding=(1, (0, 1))"]),
    (dict(padding="causal"), ["padding='causal'"]),
    (dict(groups=0), ["groups=0"]),
    (dict(groups=3), ["groups=3 must divide in_channels=4"]),
    (dict(groups=4), ["groups=4 must divide out_channels=6"]),
    (dict(bias=1), ["bias=1"]),
    (dict(bias="False"), ["bias='False'"]),
    (dict(padding_mode="zero"), ["padding_mode='zero'"]),
    (dict(padding_mode=["zeros"]), ["padding_mode=['zeros']"]),
    (dict(transposed=None), ["transposed=None"]),
    (dict(output_padding=1), ["output_padding=1"]),
    (dict(kernel_size=(3, 3, 3), stride=(1, 2)), ["kernel_size=(3, 3, 3) must have as many axes"]),
    (dict(kernel_size=(3,), ndim=2), ["kernel_size=(3,) must have as many axes"]),
    (dict(ndim=0), ["ndim=0"]),
    (dict(transposed=True, output_padding=2, stride=2), ["output_padding=2"]),
    (dict(transposed=True, output_padding=1, stride=2, padding="same"), ["output_padding=1"]),
    (dict(transposed=True, padding="same_lower"), ["padding='same_lower'"]),
    (dict(transposed=True, padding=1, padding_mode="reflect"), ["padding_mode='reflect'"]),
    (
        dict(in_channels=0, stride=-1, padding="x", bias=None),
        ["in_channels=0", "stride=-1", "padding='x'", "bias=None"],
    ),
]


@pytest.mark.parametrize(
    ("fields", "meant"),
    [
        (dict(padding="SAME_UPPER"), "(did you mean padding='same'?)"),
        (dict(padding="VALID"), "(did you mean padding='valid'?)"),
        (dict(padding="reflect"), "(did you mean padding_mode='reflect'?)"),
        (dict(padding_mode="constant"), "(did you mean padding_mode='zeros'?)"),
        (dict(padding_mode="wrap"), "(did you mean padding_mode='circular'?)"),
        (dict(padding_mode="same"), "(did you mean padding='same'?)"),
        (dict(padding_mode="bessel"), "'circular'"),
        (dict(padding=0.5), "'causal'"),
    ],
)
def test_a_word_of_other_frameworks_is_known(fields, meant):
    with pytest.raises(SpecError) as failure:
        ConvSpec(3, 8, 3, **fields)
    assert str(failure.value).endswith(meant)


@pytest.mark.parametrize(("fields", "blamed"), INVALID)
def test_every_bad_field_is_named_at_once(fields, blamed):
    with pytest.raises(SpecError) as caught:
        ConvSpec(**{"in_channels": 4, "out_channels": 6, "kernel_size": 3, **fields})
    assert all(" must " in problem for problem in caught.value.problems)
    for start in blamed:
        assert any(problem.startswith(start) for problem in caught.value.problems), caught.value.problems
    assert isinstance(caught.value, ValueError)
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems


def test_output_padding_may_reach_up_to_stride_or_dilation():
    assert ConvSpec(3, 4, 3, dilation=3, transposed=True, output_padding=2).output_padding == (2, 2)


@given(specs())
def test_text_forms_read_back(spec):
    assert ConvSpec.from_dict(spec.to_dict()) == spec
    assert ConvSpec.from_json(spec.to_json()) == spec
    assert eval(repr(spec)) == spec
    assert replace(spec) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


@given(specs())
def test_a_worker_has_the_spec_that_the_runner_sent_it(spec):
    found = ConvSpec._of(json.loads(spec.to_json()))
    assert found == spec
    assert hash(found) == hash(spec)
    assert repr(found) == repr(spec)


SCHEMA = jsonschema.Draft202012Validator(ConvSpec.json_schema())


@given(specs())
def test_what_is_written_fits_the_schema(spec):
    SCHEMA.validate(json.loads(spec.to_json()))


@pytest.mark.parametrize(
    "document",
    [
        {"in_channels": 3},
        {"in_channels": 3, "out_channels": 4, "kernel_size": 3, "strides": 2},
        *(
            {"in_channels": 4, "out_channels": 6, "kernel_size": 3, **bad}
            for bad in (
                {"stride": 0},
                {"padding": [[1]]},
                {"padding": "SAME"},
                {"bias": 1},
                {"groups": 1.5},
                {"dilation": []},
            )
        ),
    ],
)
def test_what_the_schema_refuses_is_refused(document):
    with pytest.raises(jsonschema.ValidationError):
        SCHEMA.validate(document)
    with pytest.raises(SpecError):
        ConvSpec.from_dict(document)


def test_unknown_and_missing_fields_are_named():
    with pytest.raises(
        SpecError, match=r"strides=2 must not be given.*did you mean 'stride'.*kernel_size must be given"
    ):
        ConvSpec.from_dict({"in_channels": 3, "out_channels": 4, "strides": 2})


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '"x"', "null"])
def test_text_that_is_no_object(text):
    with pytest.raises(SpecError, match="must be"):
        ConvSpec.from_json(text)


@given(specs(), st.sampled_from(["in_channels", "kernel_size", "padding"]))
def test_specs_are_frozen(spec, name):
    with pytest.raises(AttributeError):
        setattr(spec, name, 1)


def test_derived_numbers():
    spec = ConvSpec(6, 9, (3, 5), dilation=(2, 3), groups=3)
    assert spec.effective_kernel == (5, 13)
    assert spec.kernel_shape == (9, 2, 3, 5)
    assert spec.num_parameters == 9 * 2 * 15 + 9
    assert replace(spec, transposed=True, bias=False).kernel_shape == (6, 3, 3, 5)
    assert not spec.depthwise
    assert ConvSpec(4, 8, 3, groups=4).depthwise
    assert not ConvSpec(1, 8, 3).depthwise


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("strides", "did you mean 'stride'?"),
        ("dilation_rate", "did you mean 'dilation'?"),
        ("filters", "did you mean 'out_channels'?"),
        ("features", "did you mean 'out_channels'?"),
        ("in_features", "did you mean 'in_channels'?"),
        ("kernel", "did you mean 'kernel_size'?"),
        ("feature_group_count", "did you mean 'groups'?"),
        ("group", "did you mean 'groups'?"),
        ("pads", "did you mean 'padding'?"),
        ("use_bias", "did you mean 'bias'?"),
        ("data_format", "pass layout to output_shape, build or apply"),
        ("dtype", "pass dtype to build"),
    ],
)
def test_a_keyword_of_another_framework_names_the_field(name, meant):
    for error in (TypeError, ValueError):
        with pytest.raises(error) as caught:
            ConvSpec(3, 16, 3, **{name: 2})
        assert str(caught.value) == f"{name}=2 must not be given: there is no such field ({meant})"
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems
    with pytest.raises(UnknownFieldError):
        replace(ConvSpec(3, 16, 3), **{name: 2})
    with pytest.raises(SpecError, match=r"there is no such field"):
        ConvSpec.from_dict({"in_channels": 3, "out_channels": 16, "kernel_size": 3, name: 2})


def test_all_unknown_keywords_are_named_and_other_type_errors_stay_pythons():
    with pytest.raises(UnknownFieldError) as caught:
        ConvSpec(3, filters=16, kernel=3, colour="red")
    assert [problem.partition("=")[0] for problem in caught.value.problems] == ["filters", "kernel", "colour"]
    assert caught.value.problems[2].endswith("no such field")
    with pytest.raises(TypeError, match="kernel_size"):
        ConvSpec(3, 16)
    assert (*FIELDS, "ndim") == tuple(field.name for field in fields(ConvSpec))
    assert list(signature(ConvSpec).parameters) == [*FIELDS, "ndim"]


def test_pads_are_added_and_removed():
    spec = ConvSpec(3, 16, (3, 5), padding=((1, 2), (0, 1)))
    wider = add_pads(spec, ((1, 0), (2, 2)))
    assert wider == replace(spec, padding=((2, 2), (2, 3)))
    assert add_pads(wider, ((1, 0), (2, 2)), -1) == spec
    assert add_pads(spec, ((2, 0), (0, 0)), -1) is None
    assert add_pads(replace(spec, padding="same", stride=2), ((1, 1), (1, 1))) is None


def test_sizes_may_be_numpy_arrays():
    spec = ConvSpec(np.int64(3), 4, np.array([3, 5]), np.array([2, 1]), np.array([[0, 1], [2, 2]]))
    assert spec == ConvSpec(3, 4, (3, 5), (2, 1), ((0, 1), (2, 2)))
    assert ConvSpec(3, 4, np.array([3])).ndim == 1
