"""Expressions of declared gaps: what each operator gives for one value, for values per axis, and for absent ones."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convspec.contract.gap_expressions import Predicate
from convspec.errors import GapError

SCALARS, VECTORS = ("a", "b", "gone", "word", "flag"), ("v", "w", "longer", "lost", "holes")
FEATURES = {
    "a": 3, "b": 2, "gone": None, "word": "same", "flag": True,
    "v": (1, 2), "w": (2, 1), "longer": (1, 2, 3), "lost": None, "holes": (1, None),
}  # fmt: skip


def holds(text, **features):
    return Predicate.parse(text, SCALARS, VECTORS)({**FEATURES, **features})


TRUE = [
    # numbers, words, truths
    "a == 3", "a != 2", "a > 2", "a >= 3", "b < a", "b <= 2", "word == 'same'", "flag", "not gone", "not a == 2",
    "a + b == 5", "a - b == 1", "a * b == 6", "a // b == 1", "a % b == 1", "-a == -3", "gcd(4, 6) == 2",
    "a in (1, 3)", "a not in (1, 2)", "word in ['same', 'valid']", "word in {'same'}", "gone == None", "a != None",
    "a == 3 and b == 2", "a == 3 or b == 9", "a == 9 or b == 2",
    # one value per axis
    "any(v == 2)", "all(v > 0)", "all(v == (1, 2))", "any(v != w)", "all(v + w == 3)", "all(v + 1 == (2, 3))",
    "all(1 + v == (2, 3))", "all(3 - v == (2, 1))", "all(v * w == 2)", "all(-v == (-1, -2))", "all(gcd(v * 4, 6) == 2)",
    "all(gcd(6, v * 4) == 2)", "all(gcd(v, w) == 1)", "any(v in (2, 7))", "all(v not in (3, 7))",
    "all(v // w == (0, 2))",
    "any((v == 1) & (w == 2))", "all((v == 1) | (w == 1))", "any(~(v == 1))", "all(~(v == 3))",
    "min(v) == 1", "max(v) == 2", "sum(v) == 3", "prod(longer) == 6", "len(longer) == 3", "v[0] == 1", "v[-1] == 2",
    "v[b - 1] == 2", "any(big := v > 1) and sum(big) == 1", "all(v < a)", "all(b >= v)",
    # vectors of different lengths differ, and give no number
    "any(v != longer)", "not any(v == longer)", "not all(v == longer)", "not any(v < longer)",
    "not any(v + longer == 2)",
    # absent values
    "not gone < 3", "not gone > 3", "not 3 < gone", "not 3 >= gone", "gone + 1 == None", "1 + gone == None",
    "not a + gone > 0", "not any(lost == 1)", "not all(lost == 1)", "not any(lost)", "not all(lost)",
    "not min(lost) > 0",
    "not max(lost) > 0", "min(lost) == None", "len(lost) == None", "lost[0] == None", "v[2] == None", "v[-3] == None",
    "v[-2] == 1", "not any(lost < 1)", "not any(lost + 1 == 2)", "any(holes == 1)", "not all(holes == 1)",
    "sum(holes) == None", "min(holes) == None", "prod(holes) == None", "len(holes) == 2", "holes[1] == None",
    "a // 0 == None", "a % 0 == None", "not a % 0 == 0", "max(()) == None", "min(()) == None", "sum(()) == 0",
    "prod(()) == 1", "len(()) == 0", "not any(())", "all(())",
]  # fmt: skip
FALSE = [
    "a == 2", "a != 3", "a > 3", "a >= 4", "a < 3", "b <= 1", "not flag", "gone", "a in (1, 2)", "a not in (1, 3)",
    "a == 3 and b == 9", "a == 9 and b == 2", "a == 9 or b == 9", "any(v == 3)", "all(v == 2)",
    "all(v != w) and a == 2",
    "any((v == 1) & (w == 1))", "all((v == 1) | (w == 2))", "any(~(v > 0))", "gone != None", "any(v == (3, 3))",
    "all(v in (1, 7))", "any(v not in (1, 2))", "len(v) == 3", "v[1] == 1",
]  # fmt: skip


@pytest.mark.parametrize("text", TRUE)
def test_an_expression_that_holds(text):
    assert holds(text) is True


@pytest.mark.parametrize("text", FALSE)
def test_an_expression_that_does_not_hold(text):
    assert holds(text) is False


@pytest.mark.parametrize("p", [*itertools.product([False, True], repeat=3)])
def test_truths_are_combined_as_in_python(p):
    names = dict(zip(("flag", "a", "b"), p, strict=True))
    for text in ("flag and a and b", "flag or a or b", "flag and (a or b)", "not flag or a", "not (flag and a)"):
        assert holds(text, **names) is bool(eval(text, {}, names))


small = st.integers(-4, 4)
OPERATORS = ("+", "-", "*", "//", "%", "<", "<=", ">", ">=", "==", "!=")


@given(st.sampled_from(OPERATORS), st.lists(st.tuples(small, small), min_size=1, max_size=3), small)
def test_an_operator_on_vectors_is_that_of_each_axis(op, pairs, number):
    left, right = (tuple(column) for column in zip(*pairs, strict=True))

    def one(x, y):
        return None if op in ("//", "%") and y == 0 else eval(f"x {op} y", {}, {"x": x, "y": y})

    for text, results in (
        (f"v {op} w", [one(x, y) for x, y in pairs]),
        (f"v {op} a", [one(x, number) for x in left]),
        (f"a {op} w", [one(number, y) for y in right]),
    ):
        for index, result in enumerate(results):
            assert holds(f"({text})[{index}] == gone", v=left, w=right, a=number, gone=result)
    assert holds(f"(a {op} b) == gone", a=number, b=right[0], gone=one(number, right[0]))


@given(st.lists(small, max_size=4).map(tuple))
def test_a_reduction_is_that_of_python(values):
    for name, reduce in {"sum": sum, "prod": math.prod, "len": len}.items():
        assert holds(f"{name}(v) == a", v=values, a=reduce(values))
    for name, reduce in {"min": min, "max": max}.items():
        assert holds(f"{name}(v) == a", v=values, a=reduce(values) if values else None)
    assert holds("any(v)", v=values) is any(values)
    assert holds("all(v)", v=values) is all(values)


def test_the_names_are_those_of_the_features_that_it_reads():
    assert Predicate.parse("any(big := v > 1) and sum(big) == a and not flag", SCALARS, VECTORS).names == {
        "v",
        "a",
        "flag",
    }


WRONG = {
    "a +": "'a +' is no expression",
    "v == 1": "'v == 1': has one value per axis where one truth is needed: use any(…) or all(…)",
    "flag and v > 1": "'v > 1' in 'flag and v > 1': has one value per axis",
    "not v": "'v' in 'not v': has one value per axis",
    "any(a)": "'any(a)': any(…) needs a value per axis",
    "a == nothing": "'nothing' in 'a == nothing': there is no feature 'nothing'",
    "a == wrod": "there is no feature 'wrod'; did you mean 'word'?",
    "a == zzzzzz": "there is no feature 'zzzzzz'",
    "1 < a < 3": "a chain of comparisons is not allowed",
    "a in v": "the right side of 'in' must be a tuple",
    "a is None": "this comparison is not allowed",
    "a / b": "this operator is not allowed",
    "a ** b": "this operator is not allowed",
    "+a": "this operator is not allowed",
    "a == 1j": "only numbers, strings, True, False and None are allowed",
    "a == b'x'": "only numbers, strings, True, False and None are allowed",
    "a[0] == 1": "only a vector has elements",
    "v[v] == 1": "has one value per axis",
    "len(v, w) == 1": "the only calls are any, all, min, max, sum, prod, len of one vector, and gcd of two values",
    "len(v, key=w) == 1": "the only calls are",
    "gcd(a) == 1": "the only calls are",
    "gcd(a, b, key=1) == 1": "the only calls are",
    "gcd(a, b, 1) == 1": "the only calls are",
    "abs(a) == 1": "the only calls are",
    "(lambda: a)() == 1": "the only calls are",
    "a if flag else b": "IfExp is not allowed",
    "[x for x in v]": "ListComp is not allowed",
    "word.upper == 1": "Attribute is not allowed",
    "any(a := v > 1)": "'a' is taken",
    "any(x := v > 1) and any(x := v > 2)": "'x' is taken",
    "all((v, w) == 1)": "has one value per axis",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_not_allowed_is_named_with_its_place(text):
    with pytest.raises(GapError) as caught:
        Predicate.parse(text, SCALARS, VECTORS)
    assert WRONG[text] in str(caught.value)
    assert ("did you mean" in str(caught.value)) is ("did you mean" in WRONG[text])
    assert str(caught.value).count(repr(text)) <= 1
