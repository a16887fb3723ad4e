"""Declared gaps: what the files may say, when a predicate holds, and when a gap is too wide or closed."""

import re
import time
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convspec import Case, ConvSpec
from convspec.conformance.gap_ledger import Ledger, Tally, features
from convspec.contract import known_gaps, registry
from convspec.contract.gap_expressions import Predicate
from convspec.contract.known_gaps import SCALARS, VECTORS, from_tables, parse
from convspec.errors import GapError

CASE = Case(
    ConvSpec(4, 8, (2, 3), stride=(3, 1), padding=((1, 0), (2, 4)), dilation=(1, 5), groups=4, bias=False),
    (2, 4, 9, 20),
    layout="NHWC",
)


def of(case=CASE, **changes):
    return features(case, **{"support": "native", "adapter": "keras", "variant": "default", **changes})


def holds(text, case=CASE):
    return Predicate.parse(text, SCALARS, VECTORS)(of(case))


def table(**changes):
    fields = {**TABLE, **changes}
    lines = [f"{key} = {value!r}" for key, value in fields.items() if value is not None]
    return "[[gap]]\n" + "\n".join(lines)


# -- features --------------------------------------------------------------------------------------------------------


def test_features_are_exactly_the_declared_names():
    for case in (CASE, Case(ConvSpec(1, 2, 3, ndim=1), (1, 1, 5)), Case(ConvSpec(1, 2, 3, ndim=3), (1, 1, 3, 4, 5))):
        assert set(of(case)) == {*SCALARS, *VECTORS}


def test_features_of_a_case():
    found = of()
    assert found["effective_kernel"] == (2, 11)
    assert (found["pad_before"], found["pad_after"]) == ((1, 2), (0, 4))
    assert (found["out_h"], found["out_w"], found["out_d"]) == (3, 16, None)
    assert (found["in_h"], found["in_w"], found["batch"]) == (9, 20, 2)
    assert (found["depthwise"], found["multiplier"]) == (True, 2)
    assert (found["padding"], found["layout"], found["empty_output"]) == ("explicit", "NHWC", False)


def test_features_of_a_word_padding_are_its_numbers_for_this_input():
    found = of(Case(ConvSpec(3, 8, (2, 5), stride=2, padding="same"), (1, 3, 8, 8)))
    assert (found["padding"], found["pad_before"], found["pad_after"]) == ("same", (0, 1), (0, 2))


def test_features_where_there_is_no_output():
    case = Case(ConvSpec(3, 8, 9), (1, 3, 4, 4))
    assert (of(case)["out_w"], of(case)["out_spatial"], of(case)["empty_output"]) == (None, None, False)
    for text in (
        "out_w == 8",
        "out_w < 100",
        "any(out_spatial < 100)",
        "all(out_spatial < 100)",
        "max(out_spatial) > 0",
        "prod(out_spatial) >= 0",
        "prod(stride * out_spatial) >= 0",
    ):
        assert not holds(text, case)


# -- predicates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("any(effective_kernel < stride)", True),
        ("all(effective_kernel < stride)", False),
        ("gcd(in_w, 8) == 4 and gcd(gcd(in_channels, out_channels), kernel_size[-1]) == 1", True),
        ("any(gcd(spatial, stride) == 3)", True),
        ("all(gcd(spatial, stride) == 3)", False),
        ("gcd(in_d, 2) == 2", False),
        ("layout == 'NHWC' and not bias", True),
        ("layout == 'NCHW' or bias", False),
        ("any((stride > 1) & (dilation > 1))", False),
        ("any((stride > 1) | (dilation > 1)) and all(~(kernel_size == 1))", True),
        ("any(stride > 1) and any(dilation > 1)", True),
        ("out_w == out_channels * 2", True),
        ("sum(kernel_size) - 1 == 4 and max(stride) == 3 and min(stride) == 1", True),
        ("in_channels in (4, 5) and dtype not in ('float64',)", True),
        ("all(stride in (1, 3))", True),
        ("kernel_size[1] == 3 and kernel_size[-2] == 2", True),
        ("kernel_size[2] == 3", False),
        ("all(kernel_size == (2, 3))", True),
        ("all(kernel_size == (2, 3, 4))", False),
        ("any(kernel_size != (2, 3, 4))", True),
        ("in_d == None and in_w != None", True),
        ("in_d > 0", False),
        ("out_channels // groups == multiplier and out_channels % groups == 0", True),
        ("in_channels // 0 == 1", False),
        ("len(spatial) == ndim and -batch == -2", True),
        ("any(spatial + 2 * pad_before == 11)", True),
        ("prod(kernel_size) == 6 and prod(stride + dilation) == 24", True),
        ("prod(out_spatial) == 48", True),
        ("gcd(multiplier, 4) == 2", True),
        ("any(wide := spatial > 9) and prod(wide + ~wide * kernel_size) == 2 and sum(wide * spatial) == 20", True),
        ("any(wide := spatial > 20) or prod(wide + ~wide * kernel_size) == 6", True),
    ],
)
def test_predicates(text, expected):
    assert holds(text) is expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kernel_size > 1", "use any"),
        ("bias and stride > 1", "use any"),
        ("not stride", "use any"),
        ("any(bias)", "needs a value per axis"),
        ("strid == 1", "did you mean 'stride'"),
        ("__import__('os').system('true')", "the only calls are"),
        ("bias.__class__", "Attribute is not allowed"),
        ("[s for s in stride]", "ListComp is not allowed"),
        ("(lambda: True)()", "the only calls are"),
        ("1 < in_w < 5", "chain"),
        ("in_w in stride", "must be a tuple"),
        ("in_w ** 9999999", "operator is not allowed"),
        ("bias is True", "comparison is not allowed"),
        ("+in_w == 1", "operator is not allowed"),
        ("in_w[0] == 1", "only a vector has elements"),
        ("b'x' == layout", "only numbers"),
        ("bias ==", "no expression"),
        ("any(stride, dilation)", "the only calls are"),
        ("prod(in_w) == 9", "needs a value per axis"),
        ("any(stride := dilation > 1)", "'stride' is taken"),
        ("any(wide := spatial > 9) and any(wide := spatial > 8)", "'wide' is taken"),
        ("any(wide) and any(wide := spatial > 9)", "there is no feature 'wide'"),
        ("(wide := spatial > 9)", "use any"),
    ],
)
def test_what_is_no_predicate_is_refused(text, words):
    with pytest.raises(GapError, match=words):
        Predicate.parse(text, SCALARS, VECTORS)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("bias and stride > 1", "stride > 1"), ("stride > 1", "stride > 1"), ("all(in_w) or bias", "all(in_w)"),
        ("not stride", "stride"), ("3 * (1 < 2 < 3) == 3", "1 < 2 < 3"), ("bias and not (lambda: 3)", "lambda: 3"),
    ],
)  # fmt: skip
def test_a_message_names_the_part_that_is_wrong(text, part):
    with pytest.raises(GapError) as caught:
        Predicate.parse(text, SCALARS, VECTORS)
    assert str(caught.value).startswith(f"{part!r}: " if part == text else f"{part!r} in {text!r}: ")


def test_a_tuple_may_have_features_of_the_case():
    assert holds("all(spatial == (in_h, in_w))")
    assert not holds("all(spatial == (in_w, in_h))")
    assert holds("in_h in (3, spatial[0], 5)")
    assert not holds("in_h in (3, spatial[1], 5)")


@pytest.mark.parametrize("text", [
    "layout * 99999999999 == 1", "'%99999999999d' % in_w == 1", "layout + 'a' == 'NCHWa'", "any(spatial * layout == 3)",
    "layout < 3", "sum(('a', 'b')) == 1", "stride['a'] == 1", "gcd(layout, 3) == 1", f"{10 ** 400} * 1.5 > 1",
])  # fmt: skip
def test_words_have_no_arithmetic(text):
    with pytest.raises(GapError, match="has no value: "):
        holds(text)


@pytest.mark.parametrize("text", ["not " * 5000 + "bias", "-" * 3000 + "1 == 1", "1 + " * 9000 + "1 == 1"])
def test_an_expression_that_is_nested_too_deep_is_refused(text):
    with pytest.raises(GapError, match="nested too deep"):
        Predicate.parse(text, SCALARS, VECTORS)


# -- files -----------------------------------------------------------------------------------------------------------

TABLE = {"id": "g", "kind": "upstream", "when": "bias", "fails": ["error"], "reason": "known"}


def test_a_file_is_read():
    (gap,) = parse(table(match="sad", versions="keras>=3.6, <4", adapters=["keras"], link="https://x.y"), "file")
    assert (gap.id, gap.kind, gap.fails, gap.adapters, gap.link) == (
        "g",
        "upstream",
        ("error",),
        ("keras",),
        "https://x.y",
    )
    assert gap.covers("error", "RuntimeError: so sad")
    assert not gap.covers("error", "RuntimeError: happy")
    assert not gap.covers("crash", "sad")
    assert parse("", "file") == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[gap]", "file is no TOML"),
        ("[[gaps]]", r"\[\[gap\]\] tables and nothing else"),
        ("gap = 3", r"\[\[gap\]\] tables and nothing else"),
        (table(reason=None), "reason must be given"),
        (table(id=""), "id must be given"),
        (table(kind="upsteam"), "kind='upsteam' must be one of todo, upstream, never"),
        (table(fails=["agree"]), "fails='agree' must be one of"),
        (table(fails="error"), "fails must be a list"),
        (table(when=3), "when must be a text"),
        (table(when="bias > stride"), "gap 'g': .*use any"),
        (table(match="("), "gap 'g'"),
        (table(vesions="keras>=3"), "did you mean 'versions'"),
        (table(versions="keras 3"), "must read like"),
        (table(versions="keras=>3"), "must read like"),
        (table() + "\n" + table(), "more than one gap has the id 'g'"),
    ],
)
def test_a_malformed_file_is_refused_with_its_name_and_the_gap(text, words):
    with pytest.raises(GapError, match=words) as caught:
        parse(text, "file")
    assert "file" in str(caught.value)


@given(
    st.lists(st.sampled_from(["a", "b", "ab", ".*", "|", r"\.", r"\|", r"\(", " ", "é"]), max_size=8).map("".join),
    st.text(st.sampled_from("ab.|( é\n"), max_size=12),
)
def test_a_match_is_found_as_a_regular_expression_is(match, reason):
    (gap,) = from_tables([{**TABLE, "match": match}], "file")
    assert gap.covers("error", reason) == (re.search(match, reason, re.DOTALL) is not None)


@pytest.mark.parametrize("match", ["(a+)+$", "a+", "a?", "a*", "[ab]", "a{9}", "^a", "a$", "a.b", r"\d", "a\\", ".*a*"])
def test_a_match_with_other_operators_is_refused(match):
    with pytest.raises(GapError, match=r"file: gap 'g': match=.* may have \.\* and \|; write"):
        from_tables([{**TABLE, "match": match}], "file")


def test_no_match_takes_long():
    (gap,) = from_tables([{**TABLE, "match": ".*a" * 3000 + "b|" + "aab" * 3000}], "file")
    began = time.monotonic()
    assert not gap.covers("error", "a" * 100_000)
    assert time.monotonic() - began < 2


class Adapter:
    name = "keras"

    def __init__(self, text):
        self.text = text

    def gaps(self):
        return self.text


@pytest.mark.parametrize(
    ("requirement", "version", "there"),
    [
        ("keras>=3.6", "3.15.1", True),
        ("keras>=3.6", "3.5", False),
        ("keras>=3.6", "3.6.0", True),
        ("keras>=3.6, <3.15", "3.15.0", False),
        ("keras==2.13", "2.13.0+cpu", True),
        ("keras!=2.13", "2.13", False),
        ("keras>2.9", "2.13", True),
        ("keras<=2.9", "2.13", False),
        ("", "1", True),
    ],
)
def test_a_gap_is_there_with_its_versions_only(requirement, version, there):
    adapter = Adapter(table(versions=requirement))
    assert bool(known_gaps.applying(adapter, {"keras": version})) is there


@pytest.mark.parametrize(
    ("processor", "features", "there"),
    [
        ("", [], True),
        ("avx512f", ["avx2", "avx512f"], True),
        ("avx512f", ["avx2"], False),
        ("!avx512f", ["avx2"], True),
        ("!avx512f", ["avx2", "avx512f"], False),
        ("avx2, !avx512f", ["avx2"], True),
        ("avx2, !avx512f", [], False),
        ("avx2,!avx512f", ["avx2", "avx512f"], False),
        ("avx512", ["avx512f"], False),
    ],
)
def test_a_gap_is_there_on_its_processors_only(processor, features, there):
    assert bool(known_gaps.applying(Adapter(table(processor=processor)), {}, features)) is there


def test_the_features_of_this_processor_are_read_once():
    found = known_gaps.processor_features()
    assert found is known_gaps.processor_features()
    assert not found or any(name in found for name in ("sse2", "asimd"))  # what every 64-bit x86 and ARM has


@pytest.mark.parametrize("text", ["avx512f avx2", "AVX2", "not avx2", "avx2,", "!", "!!avx2"])
def test_a_processor_that_cannot_be_read_is_refused(text):
    with pytest.raises(GapError, match=r"processor=.* must read like 'avx512f, !avx512_vnni'"):
        parse(table(processor=text), "here")


def test_a_gap_of_a_distribution_that_nobody_reports_is_refused():
    with pytest.raises(GapError, match="names 'kreas', but the adapter reports keras"):
        known_gaps.applying(Adapter(table(versions="kreas>=3")), {"keras": "3"})
    with pytest.raises(GapError, match=r"names 'kreas', but the adapter reports none$"):
        known_gaps.applying(Adapter(table(versions="kreas>=3")), {})


def test_a_gap_of_another_adapter_of_the_package_does_not_apply():
    assert known_gaps.declared(Adapter(table(adapters=["keras-jax"]))) == ()
    assert len(known_gaps.declared(Adapter(table(adapters=["keras-jax", "keras"])))) == 1


# -- strictness ------------------------------------------------------------------------------------------------------

BIASED = Case(ConvSpec(1, 2, 3), (1, 1, 4, 5))
UNBIASED = Case(ConvSpec(1, 2, 3, bias=False), (1, 1, 4, 5))


def ledger(text=None):
    found = Ledger()
    found.declare("keras", parse(text or table(), "file"))
    return found


def judge(found, case, verdict, reason="known", adapter="keras"):
    return found.judge(case, adapter, "default", "native", verdict, reason)


def test_a_gap_that_every_matching_case_shows_holds():
    found = ledger()
    assert judge(found, BIASED, "error") == "g"
    assert judge(found, UNBIASED, "agree") is None
    assert judge(found, UNBIASED, "error") is None
    assert judge(found, BIASED, "error", adapter="torch") is None
    (tally,) = found.all()
    assert (tally.status, tally.failed, tally.passed, tally.unexpected) == ("holds", 1, 0, False)


def test_a_gap_that_some_matching_case_passes_is_too_wide():
    found = ledger()
    judge(found, BIASED, "error")
    assert judge(found, BIASED, "agree") is None
    (tally,) = found.all()
    assert (tally.status, tally.unexpected, tally.example["case"]) == ("too wide", True, BIASED.id)
    assert tally.to_dict()["passing_example"]["layout"] == "NCHW"


def test_a_gap_that_every_matching_case_passes_is_closed():
    found = ledger()
    judge(found, BIASED, "agree")
    assert [t.status for t in found.all()] == ["closed"]


def test_a_case_that_fails_otherwise_is_no_evidence_for_or_against():
    found = ledger()
    assert judge(found, BIASED, "crash") is None
    (tally,) = found.all()
    assert (tally.status, tally.unexpected) == ("unmatched", False)


def test_the_first_of_several_gaps_covers_and_all_are_tallied():
    found = ledger(table(id="a") + "\n" + table(id="b", when="bias and ndim == 2"))
    assert judge(found, BIASED, "error") == "a"
    assert [t.failed for t in found.all()] == [1, 1]


def test_the_gaps_of_every_declared_adapter_are_well_formed():
    assert {"torch", "flax", "keras", "onnx"} <= {*registry.adapters()}
    for name in registry.adapters():
        adapter = registry.adapter(name)
        declared = {gap.id for gap in known_gaps.declared(adapter)}
        if registry.absence(adapter) is None:
            assert {gap.id for gap in known_gaps.applying(adapter, adapter.versions())} <= declared
        assert declared <= {gap["id"] for gap in tomllib.loads(adapter.gaps())["gap"]}


@pytest.mark.parametrize(("failed", "passed", "whole", "status"), [
    (0, 0, True, "unmatched"), (2, 0, True, "holds"), (2, 1, True, "too wide"), (0, 1, True, "closed"),
    (0, 1, False, "passing"), (2, 1, False, "too wide"), (2, 0, False, "holds"), (0, 0, False, "unmatched"),
])  # fmt: skip
def test_a_part_of_a_run_cannot_tell_a_closed_gap_from_one_that_is_too_wide(failed, passed, whole, status):
    tally = Tally(parse(table(), "f")[0], "keras", failed, passed, whole=whole)
    assert (tally.status, tally.unexpected) == (status, passed > 0)
    assert tally.to_dict()["status"] == status
