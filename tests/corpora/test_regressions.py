"""The corpus of public bugs: what a line holds, and that the page's words follow from stored runs."""

import json
import re

import pytest
import regressions

import convspec
from convspec import corpora
from convspec.errors import ShapeError

LINES = regressions.lines(regressions.CORPUS)
OTHERS = regressions.lines(regressions.OTHERS)
STORED = json.loads(regressions.STORE.read_text("utf-8"))
REPORTED = {"open", "fixed", "partly fixed", "closed", "by design", "limitation"}


def test_every_bug_has_its_links_and_stands_in_one_list():
    assert len({line["bug"] for line in LINES}) >= 140
    assert not {line["bug"] for line in LINES} & {line["bug"] for line in OTHERS}
    for line in [*LINES, *OTHERS]:
        assert re.fullmatch(r"[a-z0-9-]+", line["bug"].lower()), line["bug"]
        assert line["links"]
        assert all(re.fullmatch(r"https://[\w.-]+/[^\s|<>()]+", link) for link in line["links"]), line["links"]
        assert line["frameworks"]
        assert line["reported"] in REPORTED


def test_the_cases_are_small_and_named_after_their_bugs():
    cases = corpora.load("regressions")
    assert len(cases) == len(LINES) == len({case.name for case in cases})
    for case, line in zip(cases, LINES, strict=True):
        assert case.name.startswith(line["bug"])
        assert line["title"] in case.name
        assert case.spec.macs(case.input_shape) < 30_000_000 if _output(case) else True


def _output(case):
    try:
        return case.spec.output_shape(case.input_shape)
    except ShapeError:
        return None


def test_no_case_is_wrong_for_another_bug_than_its_own():
    """Keras adds a bias along the width where there are as many columns as filters; that would hide all else."""
    for case in corpora.load("regressions"):
        out = _output(case)
        assert not (out and case.spec.bias and out[-1] == case.spec.out_channels > 1), case.name


def test_every_case_has_been_run_on_every_adapter():
    assert set(STORED["cases"]) == {line["name"] for line in LINES}
    assert all(set(found) == set(regressions.ADAPTERS) for found in STORED["cases"].values())
    for found in STORED["cases"].values():
        for words in found.values():
            assert words[0] in ("agree", "unsupported") or len(words) == 2, "a failure that no gap declares"


@pytest.mark.parametrize(
    ("frameworks", "found", "word"),
    [
        (["torch"], {"torch": ["agree"], "keras": ["disagree", "g"]}, "right"),
        (["tensorflow"], {"torch": ["agree"], "keras": ["disagree", "g"]}, "bites"),
        (["onnxruntime", "torch"], {"torch": ["agree"], "onnx": ["unsupported"]}, "unsupported"),
        (["tflite"], {"torch": ["agree"], "onnx": ["unsupported"]}, "elsewhere"),
    ],
)
def test_a_bug_bites_where_an_adapter_of_its_own_framework_fails(frameworks, found, word):
    assert regressions.today({"frameworks": frameworks}, found) == word


@pytest.mark.parametrize(
    "adapter", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in regressions.ADAPTERS]
)
def test_what_is_stored_is_what_comes_out(adapter):
    """A tenth of the corpus, and every case that fails, run again on the versions that are installed."""
    versions = convspec.adapter(adapter).versions()
    if any(STORED["versions"].get(name) != version for name, version in versions.items()):
        pytest.skip("the stored run is of other versions; make regressions runs it again")
    cases = corpora.load("regressions")
    fails = [case for case in cases if STORED["cases"][case.name][adapter][0] not in ("agree", "unsupported")]
    wanted = [case for case in dict.fromkeys([*cases[::10], *fails]) if case.data == "exact"]
    report = convspec.check(wanted, [adapter], data=["exact"])
    found = regressions.outcomes([report])["cases"]
    for case in wanted:
        if "gradient" not in case.name and "backward" not in case.name:
            assert found[case.name][adapter] == STORED["cases"][case.name][adapter], case.name
