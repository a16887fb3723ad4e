"""The stored counts behind the site's table of support: they are of this corpus, and the table says what they say."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from convspec import Case, ConvSpec, adapter, adapters, corpora
from convspec.conformance.results import Report, Result

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def scripts():
    return {name: import_module(name) for name in ("support", "site_support", "generate_docs")}


@pytest.fixture(scope="module")
def stored(scripts):
    return scripts["support"].counted()


def test_the_counts_are_of_the_corpus_as_it_is(stored):
    missing = {case.id for case in corpora.load("features")} ^ set(stored["cases"])
    assert not missing, "features has changed: make support-new, or make support where cases are gone"


def test_every_adapter_and_variant_is_counted(stored):
    wanted = set()
    for name in adapters():
        first, *others = adapter(name).variants
        wanted |= {name, *(f"{name}:{variant}" for variant in others if variant not in adapter(name).costly)}
        assert first == adapter(name).variant
    assert set(stored["support"]) == wanted, "adapters have changed: make support"


def test_every_result_of_every_adapter_is_counted(stored):
    cases = len(corpora.load("features"))
    for name, rows in stored["support"].items():
        assert sum(sum(rows[layout].values()) for layout in ("NCHW", "NHWC")) == 2 * cases, name


def test_gaps_in_the_counts_are_declared(stored):
    for name, rows in stored["support"].items():
        declared = adapter(name).gaps()
        met = {kind[4:] for counts in rows.values() for kind in counts if kind.startswith("gap ")}
        assert not [gap for gap in met if f'id = "{gap}"' not in declared], name


def test_the_table_has_all_of_it(scripts, stored):
    text = scripts["site_support"].support_table(scripts["generate_docs"].table)
    for name in stored["support"]:
        assert f"`{name}`" in text
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert "–" not in rows["depthwise"]
    assert rows["no samples"].count(" g") >= 2


def test_cells_say_the_least_that_is_true(scripts):
    told = scripts["site_support"].told
    assert told({"native": 7}) == "native"
    assert told({"native": 7, "composed": 2, "gap a": 1, "gap b": 3}) == "7 n, 2 c, 4 g"
    assert told({"unsupported": 3}) == "unsupported"
    assert told({}) == "–"


def result(case, **changes):
    fields = {
        "case": case, "adapter": "a", "request": "a", "variant": "default", "precision": "shipped", "support": "native",
        "support_reason": "", "verdict": "agree", "reason": "", "accuracy_class": None, "evidence": {}, "gap": None,
        "seconds": 0.5,
    }  # fmt: skip
    return Result(**fields | changes)


CASES = [Case(ConvSpec(1, 2, 3), (1, 1, 4, 5)), Case(ConvSpec(1, 2, 3, transposed=True), (0, 1, 4, 5))]
IDS = [case.id for case in CASES]
WHOLE = Report({"versions": {}}, tuple(result(case) for case in CASES))


def test_a_run_is_counted_by_feature(scripts):
    counts = scripts["support"].condensed(WHOLE, IDS)["support"]["a"]
    assert (counts[""], counts["transposed"], counts["no samples"]) == ({"native": 2}, {"native": 1}, {"native": 1})
    gap = result(CASES[0], verdict="disagree", gap="known")
    run = replace(WHOLE, results=(gap, result(CASES[1], support="composed")))
    assert scripts["support"].condensed(run, IDS)["support"]["a"][""] == {"composed": 1, "gap known": 1}


def test_a_run_with_anything_missing_or_unexpected_is_refused(scripts):
    with pytest.raises(SystemExit, match="1 cases of features are in none"):
        scripts["support"].condensed(replace(WHOLE, results=WHOLE.results[:1]), IDS)
    failed = result(CASES[0], verdict="disagree", reason="value")
    with pytest.raises(SystemExit, match="1 results are unexpected"):
        scripts["support"].condensed(replace(WHOLE, results=(*WHOLE.results, failed)), IDS)


def test_counts_of_parts_add_up_to_those_of_the_whole(scripts):
    support = scripts["support"]
    parts = [support.condensed(replace(WHOLE, results=WHOLE.results[i : i + 1]), IDS[i : i + 1]) for i in (0, 1)]
    assert support.added(*parts) == support.condensed(WHOLE, IDS)


def test_one_adapter_is_counted_anew_among_the_others(scripts):
    support = scripts["support"]
    whole = support.condensed(WHOLE, IDS)
    other = replace(WHOLE, results=tuple(replace(result, adapter="b", request="b") for result in WHOLE.results))
    found = support.replaced(whole, support.condensed(other, IDS))
    assert (found["support"]["a"], set(found["support"])) == (whole["support"]["a"], {"a", "b"})
    old = {**whole, "versions": {"python": "3"}}
    with pytest.raises(SystemExit, match="other cases or versions"):
        support.replaced(old, {**whole, "versions": {"python": "4"}})
