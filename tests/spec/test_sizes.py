"""Sizes beyond 64 bits, or of more axes than an array has: refused in words wherever a size is read."""

import json

import pytest

from convspec import Chain, ConvSpec, corpora
from convspec.contract.isolation import parse_size
from convspec.errors import CorpusError, RequestError, ShapeError, SpecError

DIGITS = "9" * 4000
HUGE = [2**63, 10**30, int(DIGITS), -(10**30)]
FIELDS = {"in_channels": 1, "out_channels": 1, "kernel_size": [3, 3]}
SIZES = ["in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "output_padding"]


@pytest.mark.parametrize("size", HUGE, ids=["63 bits", "30 digits", "4000 digits", "negative"])
@pytest.mark.parametrize("name", SIZES)
def test_a_field_beyond_64_bits_is_named_and_abbreviated(name, size):
    values = [size] if name in ("in_channels", "out_channels", "groups") else [size, [1, size]]
    for value in values:
        with pytest.raises(SpecError, match=rf"^{name}=.* must be at most 2\*\*63 - 1: sizes are 64-bit") as raised:
            ConvSpec.from_dict(FIELDS | {name: value})
        assert len(str(raised.value)) < 120


def test_pads_per_side_are_sizes_too():
    with pytest.raises(SpecError, match=r"^padding=.* must be at most"):
        ConvSpec(1, 1, 3, padding=((0, 0), (0, 10**30)))


def test_the_largest_size_is_valid_and_comes_back():
    spec = ConvSpec(1, 2**63 - 1, 3)
    assert ConvSpec.from_json(spec.to_json()) == spec
    assert spec.num_parameters == 10 * (2**63 - 1)


def test_a_number_that_python_does_not_read_is_refused():
    text = json.dumps(FIELDS).replace("[3, 3]", "9" * 5000)
    with pytest.raises(SpecError, match=r"thousands of digits: it must be at most 2\*\*63 - 1"):
        ConvSpec.from_json(text)
    with pytest.raises(SpecError, match=r"^in_channels=… must be at most"):
        ConvSpec(10**5000, 1, 3)


@pytest.mark.parametrize("fields", [{"ndim": 63}, {"ndim": 10**9}, {"stride": [1] * 63}])
def test_more_axes_than_an_array_has_are_refused_at_once(fields):
    with pytest.raises(SpecError, match="must have at most 62 spatial axes"):
        ConvSpec(**{"in_channels": 1, "out_channels": 1, "kernel_size": 3} | fields)
    assert ConvSpec(1, 1, 1, ndim=62).ndim == 62


def test_a_kernel_spread_beyond_64_bits_is_refused():
    with pytest.raises(SpecError, match=r"dilation=.* must not spread the kernel over 18446744073709551617 pixels"):
        ConvSpec(1, 1, 2**32 + 1, dilation=2**32, ndim=1)


def test_an_input_beyond_64_bits_is_refused():
    with pytest.raises(ShapeError, match=r"an axis of the input must be at most 2\*\*63 - 1"):
        ConvSpec(1, 1, 3).output_shape((1, 1, int(DIGITS), 5))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"spec": FIELDS, "input_shape": [1, 1, int(DIGITS), 5]}, r"input_shape must be at most 2\*\*63 - 1"),
        ({"spec": FIELDS | {"stride": int(DIGITS)}, "input_shape": [1, 1, 5, 5]}, r"stride=9+… must be at most"),
        ({"spec": FIELDS, "input_shape": [1, 1, 2**31, 2**31]}, r"the input of shape .* fewer than 2\*\*60 elements"),
        ({"spec": FIELDS | {"kernel_size": 2**31}, "input_shape": [1, 1, 5, 5]}, r"the kernel of shape .* 2\*\*60"),
        ({"spec": FIELDS | {"padding": 2**31}, "input_shape": [1, 1, 5, 5]}, r"the output of shape .* 2\*\*60"),
    ],
)
def test_a_corpus_line_that_no_memory_can_hold_names_file_line_and_size(tmp_path, line, words):
    file = tmp_path / "mine.jsonl"
    file.write_text("\n" + json.dumps(line))
    with pytest.raises(CorpusError, match=rf"mine\.jsonl:2: .*{words}"):
        corpora.load(file)


def test_a_corpus_line_with_a_number_that_python_does_not_read(tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps({"spec": FIELDS, "input_shape": [1, 1, 5, 5]}).replace("5, 5", "5, " + "9" * 5000))
    with pytest.raises(CorpusError, match=r"mine\.jsonl:1: has a number of thousands of digits"):
        corpora.load(file)


def test_large_sizes_cost_nothing():
    features = Chain([ConvSpec(3, 16, 3)]).flatten((1, 3, 10**6, 10**6))
    assert features.order("NHWC", first=3) == (0, (10**6 - 2) ** 2, 2 * (10**6 - 2) ** 2)
    small = Chain([ConvSpec(3, 4, 3)]).flatten((1, 3, 5, 6))
    for n in (0, 1, 5, 8, 48, 99):
        assert small.order("NHWC", first=n) == small.order("NHWC")[:n]
    with pytest.raises(ShapeError, match="the strides of the transposed layers, 999999999 together"):
        ConvSpec(1, 1, 3, stride=999999999, transposed=True).receptive_field()
    with pytest.raises(RequestError, match="memory must be less than 8 EiB"):
        parse_size(f"{DIGITS}GiB")
