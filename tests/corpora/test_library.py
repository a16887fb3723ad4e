"""Corpora: what is in them, what a file may hold, and how a bad one is refused."""

import functools
import gzip
import importlib.util
import io
import itertools
import json
import sys
import time
from pathlib import Path

import pytest

from convspec import Case, Chain, ConvSpec, corpora
from convspec.corpora import architectures
from convspec.corpora.features import traits
from convspec.errors import ConvspecError, CorpusError, RequestError, ShapeError, UnknownName

ROOT = Path(__file__).parents[2]
LINE = '{"spec": {"in_channels": 3, "out_channels": 5, "kernel_size": [2, 3]}, "input_shape": [1, 3, 6, 8]}'
CASE = Case(ConvSpec(3, 5, (2, 3)), (1, 3, 6, 8))


# -- what is in them -----------------------------------------------------------------------------------------------


def test_tutorial_has_the_known_output_shapes():
    outputs = [c.spec.output_shape(c.input_shape) for c in corpora.load("tutorial")]
    assert outputs == [(1, 32, 28, 28), (1, 16, 16, 16), (1, 128, 64, 64)]


@pytest.mark.parametrize("name", corpora.names())
def test_every_corpus_holds_cases_with_names(name):
    cases = corpora.load(name)
    assert cases
    assert all(case.name for case in cases)


@pytest.mark.parametrize("name", ["tutorial", "features", "pairwise", "threewise", "architectures"])
def test_curated_cases_and_their_names_are_distinct(name):
    cases = corpora.load(name)
    assert len(set(cases)) == len({case.name for case in cases}) == len({case.id for case in cases}) == len(cases)


# Published totals, those of the fully connected layers and of batch normalisation taken off.
TOTALS = {
    architectures.lenet5: (156 + 2_416 + 48_120, None),
    architectures.alexnet: (60_965_224 - 58_631_144, 665_784_864),
    architectures.vgg16: (14_714_688, 15_346_630_656),
    architectures.resnet50: (25_557_032 - 2_049_000 - 53_120, 4_089_184_256 - 2_048_000),
    architectures.mobilenet_v2: (3_504_872 - 1_281_000 - 34_112, 300_774_272 - 1_280_000),
    architectures.unet: (31_030_658, None),
    architectures.c3d: (27_655_936, 38_496_632_832),
}


@pytest.mark.parametrize("network", TOTALS, ids=lambda network: network.__name__)
def test_architectures_have_the_published_totals(network):
    parameters, macs = TOTALS[network]
    layers = list(network())
    assert sum(case.spec.num_parameters for case in layers) == parameters
    assert macs is None or sum(case.spec.macs(case.input_shape) for case in layers) == macs


@pytest.mark.parametrize(
    ("network", "output"),
    [
        (architectures.lenet5, (1, 120, 1, 1)),
        (architectures.unet, (1, 2, 388, 388)),
        (architectures.dcgan_generator, (1, 3, 64, 64)),
        (architectures.deeplab_v3_head, (1, 21, 33, 33)),
        (architectures.c3d, (1, 512, 2, 7, 7)),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_architectures_end_in_the_published_shape(network, output):
    *_, last = network()
    assert last.spec.output_shape(last.input_shape) == output


def test_a_wavenet_stack_sees_1024_samples():
    gates = [c.spec for c in architectures.wavenet() if "stack1 gate" in c.name]
    same_width = [ConvSpec.from_dict({**spec.to_dict(), "out_channels": 32}) for spec in gates]
    assert Chain(same_width).receptive_field((1, 32, 4000)).size == (1024,)


def test_architectures_hold_each_distinct_layer_of_ten_networks():
    every = {case for network in architectures.NETWORKS for case in network()}
    assert len(architectures.NETWORKS) == 10
    assert set(corpora.load("architectures")) == every


def test_timm_holds_every_line_and_loads_quickly():
    began = time.process_time()
    cases = corpora.load("timm")
    seconds = time.process_time() - began
    assert len(cases) == 5432
    assert seconds < 1.5  # 0.3 s where nothing else runs


# -- the corpus "features" -----------------------------------------------------------------------------------------


def _pairs(values, *, zero_batch=True):
    """Every pair of feature values, apart for regular and transposed layers."""
    way = values["direction"]
    rest = sorted(item for item in values.items() if item[0] != "direction")
    return {(way, *pair) for pair in itertools.combinations(rest, 2) if zero_batch or ("batch", "0") in pair}


def _covered():
    """Pairs that some case of the corpus has, other than in a batch of nothing or beside an error."""
    found = set()
    for case in corpora.load("features"):
        try:
            case.spec.output_shape(case.input_shape)
        except ShapeError:
            continue
        found |= _pairs(traits(case.spec, case.input_shape), zero_batch=case.input_shape[0] > 0)
    return found


def _legal_specs():
    """Specs over a plain grid of values, kept where ConvSpec's own rules allow them: no list of exceptions by hand."""
    grid = itertools.product(
        ((1,), (3,), (4,), (1, 1), (3, 5), (4, 2), (2, 3), (3, 5, 3), (2, 4, 2), (2, 3, 4)),  # kernel
        (1, 2, "2 3", 8, "8 9"),  # stride
        (0, 2, "1 3", "asymmetric", "same", "same_lower", "causal"),
        ("zeros", "reflect", "replicate", "circular"),
        (1, 2, "3 2"),  # dilation
        (False, True),
        (0, 1, 2),  # output padding
    )
    for kernel, stride, padding, mode, dilation, transposed, extra in grid:
        rank = len(kernel)

        def per_axis(value, rank=rank):
            return (*map(int, value.split()), 1)[:rank] if isinstance(value, str) else (value,) * rank

        pads = {"asymmetric": ((1, 2), (3, 0), (2, 1))[:rank], "1 3": per_axis("1 3")}.get(padding, padding)
        try:
            yield ConvSpec(
                4,
                4,
                kernel,
                per_axis(stride),
                pads,
                per_axis(dilation),
                padding_mode=mode,
                transposed=transposed,
                output_padding=extra,
            )
        except ConvspecError:
            continue


@functools.cache
def _possible():
    """Every pair that some legal layer has; groups, bias and batch bind nothing, so each goes with all."""
    free = [
        *(("groups", value) for value in ("one", "some", "depthwise", "depthwise with multiplier")),
        *(("bias", value) for value in ("bias", "no bias")),
        *(("batch", value) for value in ("0", "1", "2")),
    ]
    found = set()
    for values in map(dict, {tuple(traits(spec, (1,)).items()) for spec in _legal_specs()}):
        way = values["direction"]
        bound = [item for item in values.items() if item[0] not in ("direction", "groups", "bias", "batch")]
        pairs = [*itertools.combinations(bound, 2), *itertools.product(bound, free), *itertools.combinations(free, 2)]
        found |= {(way, *sorted(pair)) for pair in pairs if pair[0][0] != pair[1][0]}
    return found


def test_every_pair_of_features_that_is_possible_occurs():
    missing = _possible() - _covered()
    assert not missing, f"{len(missing)} pairs of features are in no case, among them {sorted(missing)[:5]}"


def test_the_pairs_that_are_not_possible_are_those_that_the_rules_exclude():
    """The twin of the test above: what it holds for impossible is so, and what it asks for is not next to nothing."""
    possible = _possible()
    assert len(possible) > 700

    def pair(way, *values):
        return (way, *sorted(values))

    assert pair("regular", ("padding", "causal"), ("rank", "2")) not in possible
    assert pair("transposed", ("padding", "same"), ("output_padding", "some")) not in possible
    assert pair("transposed", ("mode", "reflect"), ("rank", "2")) not in possible
    assert pair("transposed", ("output_padding", "beyond stride"), ("dilation", "one")) not in possible
    assert pair("regular", ("padding", "none"), ("mode", "circular")) not in possible
    assert pair("regular", ("padding", "same_lower"), ("mode", "circular")) in possible
    assert pair("transposed", ("output_padding", "beyond stride"), ("stride", "per axis")) in possible


def test_covering_cases_differ_on_every_axis():
    cover = [c for c in corpora.load("features") if ":" not in c.name]
    assert len(cover) > 80
    for case in cover:
        spec, spatial = case.spec, case.input_shape[2:]
        assert len({*spatial, spec.in_channels}) == spec.ndim + 1, case
        out = spec.output_shape(case.input_shape)
        assert len(set(out[2:])) == spec.ndim, case
        assert spec.kernel_size == (1,) * spec.ndim or len(set(spec.kernel_size)) == spec.ndim, case
        assert spec.in_channels != spec.out_channels or spec.depthwise, case


def test_features_has_the_edges_and_the_coincidences():
    cases = corpora.load("features")
    notes = {case.name.split(":")[0] for case in cases if ":" in case.name}
    refused = 0
    empty = 0
    for case in cases:
        try:
            empty += 0 in case.spec.output_shape(case.input_shape)[2:]
        except ShapeError:
            refused += 1
    assert refused == 8
    assert empty == 4
    assert {"zero batch", "1x1 with stride", "even kernel", "reflect by all but one cell"} <= notes
    sizes = {(case.spec.in_channels, case.spec.out_channels, *case.input_shape) for case in cases}
    assert {(n, n, n, n, n, n) for n in (1, 2, 3, 4)} <= sizes


def test_features_is_what_the_script_writes():
    path = ROOT / "scripts/cover_features.py"
    module_spec = importlib.util.spec_from_file_location("cover_features", path)
    script = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(script)
    assert corpora.dump(script.cases()) == (ROOT / "convspec/corpora/features.jsonl").read_text()


@pytest.mark.parametrize(
    ("spec", "trait", "value"),
    [
        (ConvSpec(3, 4, 2, ndim=1, padding="causal"), "padding", "causal"),
        (ConvSpec(3, 4, 3, padding="same"), "padding", "same"),
        (ConvSpec(3, 4, 4, padding="same_lower"), "padding", "same_lower"),
        (ConvSpec(3, 4, 3, stride=2, padding=1), "padding", "equal"),
        (ConvSpec(3, 4, (1, 3)), "kernel", "odd"),
        (ConvSpec(3, 4, (2, 3)), "kernel", "mixed"),
        (ConvSpec(3, 4, 1, stride=2), "reach", "skips cells"),
        (ConvSpec(3, 6, 3, groups=3), "groups", "depthwise with multiplier"),
        (ConvSpec(4, 6, 3, groups=2), "groups", "some"),
        (ConvSpec(3, 3, 2, dilation=3, output_padding=2, transposed=True), "output_padding", "beyond stride"),
    ],
)
def test_traits_say_what_a_spec_has(spec, trait, value):
    assert traits(spec, (1,))[trait] == value


# -- samples -------------------------------------------------------------------------------------------------------


def test_a_sample_is_the_same_each_time_and_part_of_every_larger_one():
    cases = corpora.load("features")
    small, large = corpora.sample(cases, 10, seed=3), corpora.sample(cases, 20, seed=3)
    assert small == corpora.sample(cases, 10, seed=3)
    assert len(small) == 10
    assert set(small) < set(large)
    assert small != corpora.sample(cases, 10, seed=4)
    assert [c.name for c in large] == [c.name for c in cases if c in large]


def test_a_sample_larger_than_the_corpus_is_the_corpus():
    cases = corpora.load("tutorial")
    assert corpora.sample(cases, 100) == cases
    assert corpora.sample(cases, 0) == []
    with pytest.raises(RequestError, match="-1 must be at least 0"):
        corpora.sample(cases, -1)


# -- files ---------------------------------------------------------------------------------------------------------


def test_a_dumped_corpus_reads_back(tmp_path):
    path = tmp_path / "cases.jsonl"
    cases = corpora.load("features")
    path.write_text(corpora.dump(cases))
    again = corpora.load(path)
    assert again == cases
    assert [c.name for c in again] == [c.name for c in cases]


@pytest.mark.parametrize("name", ["cases.jsonl.gz", "cases.jsonl"])
def test_gzip_is_recognised_by_content(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(f"{LINE}\n\n{LINE}\n".encode()))
    assert corpora.load(str(path)) == [CASE, CASE]


def test_a_byte_order_mark_and_carriage_returns_are_harmless(tmp_path):
    path = tmp_path / "windows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + LINE.encode() + b"\r\n" + LINE.encode())
    assert corpora.load(path) == [CASE, CASE]


def test_standard_input_is_a_corpus(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(LINE.encode()))))
    assert corpora.load("-") == [CASE]


def test_extra_keys_are_left_alone_and_those_of_a_case_are_honoured(tmp_path):
    path = tmp_path / "cases.jsonl"
    extras = {"source": "timm/x", "count": 3, "seed": 7, "layout": "NHWC", "dtype": "float64", "data": "random"}
    path.write_text(json.dumps({**json.loads(LINE), **extras}) + "\n")
    (case,) = corpora.load(path)
    assert case == CASE.varied(seed=7, layout="NHWC", dtype="float64", data="random")
    assert case.name == "timm/x"


def _with(**fields):
    return json.dumps({**json.loads(LINE), **fields})


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("nonsense", "is not JSON: Expecting value"),
        ("[1, 2]", "must be a JSON object with spec and input_shape, not list"),
        ("{}", "spec must be given; input_shape must be given"),
        (_with(spec={"in_channels": 3}), "out_channels must be given; kernel_size must be given"),
        (_with(spec={"in_channels": 0, "out_channels": 5, "kernel_size": 3}), "in_channels=0 must be an int, at least"),
        (_with(spec="x"), "spec='x' must be a mapping"),
        (_with(input_shape=[1, 3, -6, 8]), "must be a list of ints, none negative"),
        (_with(input_shape=[1, 4, 6, 8]), r"must be \(N, 3, 2 spatial sizes\)"),
        (_with(layout="NHCW"), "unknown layout for 2 spatial axes 'NHCW'; did you mean"),
        (_with(dtype="float12"), "dtype='float12' must be one of float32, "),
        (_with(data="lucky"), "data='lucky' must be one of exact, random"),
        (_with(seed=1.5), "seed=1.5 must be an int, at least 0"),
        (_with(seed=-1), "seed=-1 must be an int, at least 0"),
        (_with(name=7), "name=7 must be a string"),
        (_with(device=None), "device=None must be a string"),
        ("[" * 20_000, "is nested too deeply"),
        ("x" * 70_000, "is longer than 65536 bytes"),
    ],
)
def test_a_malformed_line_is_named_and_nothing_is_loaded(tmp_path, line, fault):
    path = tmp_path / "cases.jsonl"
    path.write_text(f"{LINE}\n{line}\n{LINE}\n")
    with pytest.raises(CorpusError, match=fault) as caught:
        corpora.load(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert len(str(caught.value)) < 500


def _file(folder, content):
    path = folder / "cases.jsonl.gz"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"\x00\xff\x93NUMPY" * 50, "is not gzipped, but its name ends in .gz"),
        (LINE.encode(), "is not gzipped, but its name ends in .gz"),
        (gzip.compress(LINE.encode() * 500)[:-20], "broken gzip data after line"),
        (b"\x1f\x8b" + b"junk" * 10, "broken gzip data after line 0"),
        (gzip.compress(b"\x89PNG\r\n\x1a\n"), ":1: is not UTF-8 text: byte 0x89 at position 0"),
        (gzip.compress(b"\n \n"), "has no case"),
        (gzip.compress(bytes(10_000_000)), ":1: is longer than 65536 bytes"),
    ],
    ids=["binary", "plain", "cut off", "not gzip", "picture", "empty", "bomb"],
)
def test_a_file_that_is_no_corpus_is_refused_clearly(tmp_path, content, fault):
    path = _file(tmp_path, content)
    with pytest.raises(CorpusError, match=fault) as caught:
        corpora.load(path)
    assert str(caught.value).startswith(str(path))


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(CorpusError, match="file not found"):
        corpora.load(tmp_path / "absent.jsonl")
    with pytest.raises(CorpusError, match="Is a directory"):
        corpora.load(tmp_path)
    with pytest.raises(UnknownName, match="unknown corpus 'tutorials'; did you mean 'tutorial'"):
        corpora.load("tutorials")
