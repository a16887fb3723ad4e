"""Predicates mean what the same expression means when it is computed axis by axis."""

from __future__ import annotations

import math
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convspec.contract.gap_expressions import Predicate
from convspec.errors import GapError

SCALARS, VECTORS = ("channels", "groups", "batch"), ("kernel", "stride", "spatial")
ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv, "%": operator.mod}
COMPARISONS = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
REDUCTIONS = {"min": min, "max": max, "sum": sum, "prod": math.prod, "len": len}


def along(op, a, b):
    """An operator on lists and numbers; a number stands for all axes."""
    if isinstance(a, list) and isinstance(b, list):
        return [op(x, y) for x, y in zip(a, b, strict=True)]
    if isinstance(a, list):
        return [op(x, b) for x in a]
    return [op(a, y) for y in b] if isinstance(b, list) else op(a, b)


@st.composite
def numbers(draw, vector, depth=2):
    """An expression of numbers, as text and as a function of the features; ``vector``: one number per axis."""
    kind = draw(st.integers(0, 5 if depth else 0))
    if vector:
        if kind <= 1:
            name = draw(st.sampled_from(VECTORS))
            return name, lambda f: list(f[name])
        if kind == 2:
            text, value = draw(numbers(True, depth - 1))
            return f"(-{text})", lambda f: [-x for x in value(f)]
        left, right = draw(st.sampled_from([(True, True), (True, False), (False, True)]))
        (a, x), (b, y) = draw(numbers(left, depth - 1)), draw(numbers(right, depth - 1))
        if kind == 3:
            return f"gcd({a}, {b})", lambda f: along(math.gcd, x(f), y(f))
        sign = draw(st.sampled_from(["+", "-", "*"]))
        return f"({a} {sign} {b})", lambda f: along(ARITHMETIC[sign], x(f), y(f))
    if kind == 0:
        name = draw(st.sampled_from(SCALARS))
        return name, lambda f: f[name]
    if kind == 1:
        number = draw(st.integers(-3, 9))
        return str(number), lambda f: number
    if kind == 2:
        text, value = draw(numbers(True, depth - 1))
        name = draw(st.sampled_from(sorted(REDUCTIONS)))
        return f"{name}({text})", lambda f: REDUCTIONS[name](value(f))
    if kind == 3:
        text, value = draw(numbers(True, depth - 1))
        place = draw(st.sampled_from([0, -1]))
        return f"{text}[{place}]", lambda f: value(f)[place]
    a, x = draw(numbers(False, depth - 1))
    sign = draw(st.sampled_from(sorted(ARITHMETIC)))
    b, y = (str(n := draw(st.integers(1, 5))), lambda f: n) if sign in ("//", "%") else draw(numbers(False, depth - 1))
    return f"({a} {sign} {b})", lambda f: ARITHMETIC[sign](x(f), y(f))


@st.composite
def truths(draw, vector, depth=2):
    kind = draw(st.integers(0, 4 if depth else 0))
    if kind <= 1:
        left, right = draw(st.sampled_from([(True, True), (True, False), (False, True)])) if vector else (False, False)
        (a, x), (b, y) = draw(numbers(left, depth - 1 if depth else 0)), draw(numbers(right, 0))
        sign = draw(st.sampled_from(sorted(COMPARISONS)))
        return f"({a} {sign} {b})", lambda f: along(COMPARISONS[sign], x(f), y(f))
    if kind == 2:
        among = draw(st.lists(st.integers(0, 6), min_size=1, max_size=3))
        (a, x), wanted = draw(numbers(vector, depth - 1)), draw(st.booleans())
        text = f"({a} {'in' if wanted else 'not in'} ({', '.join(map(str, among))},))"
        return text, lambda f: along(lambda v, _: (v in among) is wanted, x(f), 0)
    if vector:
        (a, x), (b, y) = draw(truths(True, depth - 1)), draw(truths(draw(st.booleans()), depth - 1))
        if kind == 3:
            return f"~{a}", lambda f: [not v for v in x(f)]
        sign, op = draw(st.sampled_from([("&", operator.and_), ("|", operator.or_)]))
        return f"({a} {sign} {b})", lambda f: along(op, x(f), y(f))
    if kind == 3:
        text, value = draw(truths(True, depth - 1))
        name, reduce = draw(st.sampled_from([("any", any), ("all", all)]))
        return f"{name}({text})", lambda f: reduce(value(f))
    (a, x), (b, y) = draw(truths(False, depth - 1)), draw(truths(False, depth - 1))
    form = draw(st.sampled_from(["and", "or", "not"]))
    if form == "not":
        return f"(not {a})", lambda f: not x(f)
    both = all if form == "and" else any
    return f"({a} {form} {b})", lambda f: both([x(f), y(f)])


@st.composite
def features(draw):
    ndim = draw(st.integers(1, 3))
    vector = st.lists(st.integers(0, 6), min_size=ndim, max_size=ndim).map(tuple)
    return {name: draw(st.integers(0, 6)) for name in SCALARS} | {name: draw(vector) for name in VECTORS}


def value(text, given):
    return Predicate.parse(text, SCALARS, VECTORS)(given)


@given(truths(vector=False), features())
def test_an_expression_is_what_python_computes_axis_by_axis(expression, given):
    text, expected = expression
    assert value(text, given) is bool(expected(given)), text


@given(truths(vector=False), features())
def test_a_name_stands_for_its_value(expression, given):
    text, _ = expression
    assert value(f"({text}) == (same := {text}) and same == ({text})", given)
    assert Predicate.parse(text, SCALARS, VECTORS).names == {name for name in (*SCALARS, *VECTORS) if name in text}


GIVEN = {"channels": None, "groups": 3, "batch": 0, "kernel": (1, 2), "stride": (1, 2, 3), "spatial": None}


@pytest.mark.parametrize(("text", "expected"), [
    *[(f"channels {sign} 3", False) for sign in ("<", "<=", ">", ">=", "==")],
    *[(f"3 {sign} channels", False) for sign in ("<", "<=", ">", ">=", "==")],
    ("channels != 3", True), ("3 != channels", True), ("channels == None", True), ("channels + 1 == None", True),
    ("groups // batch == None", True), ("groups % batch == None", True), ("groups // 2 == 1", True),
    ("groups - channels >= 0", False), ("gcd(groups, channels) == 3", False),
    ("any(kernel < stride)", False), ("all(kernel == stride)", False), ("any(kernel != stride)", True),
    ("any(kernel > stride)", False), ("any(kernel + stride > 0)", False),
    ("any(spatial > 0)", False), ("all(spatial > 0)", False), ("any(spatial == kernel)", False),
    ("any(spatial != kernel)", True), ("sum(spatial) == None", True), ("len(spatial) == 3", False),
    ("max(spatial) > 0", False), ("min(kernel + spatial) == None", True), ("spatial[0] == 1", False),
    ("kernel[2] == 1", False), ("kernel[-3] == 1", False), ("kernel[-2] == 1", True), ("kernel[1] == 2", True),
    ("stride[2] == 3", True), ("kernel[2] == None", True), ("spatial[0] == None", True),
    ("sum((channels, 1)) == None", True), ("len((channels, 1)) == 2", True), ("prod((groups, 2)) == 6", True),
    ("any((channels == 3, groups == 3))", True), ("all((channels == 3, groups == 3))", False),
    ("groups in [1, 3]", True), ("groups in {1, 2}", False), ("groups not in (1, 2)", True),
    ("kernel[0] + ~(groups == 3) == 1", True), ("kernel[0] + (groups == 3) == 2", True),
    ("max(kernel // stride) == None", True), ("any(kernel // (batch, 1) == 2)", True),
])  # fmt: skip
def test_what_a_case_does_not_have_makes_no_order_true(text, expected):
    assert value(text, GIVEN) is expected


@pytest.mark.parametrize("text", [
    "kernel", "kernel == 1", "not kernel", "any(kernel) and stride", "any(groups)", "groups[0]", "kernel[stride]",
    "1 < groups < 3", "groups in kernel", "groups is None", "groups / 2 == 1", "groups ** 2 == 1", "+groups == 1",
    "min(kernel, stride) == 1", "gcd(groups) == 1", "any(x=kernel)", "gcd(groups, b=2) == 1", "open('x')",
    "kernel.sum() == 1", "(kernel, 1) == 1", "any(kernl > 1)", "b'x' == groups", "1j == groups", "lambda: 1",
    "(groups := 3) == 3", "(a := 3) == (a := 4)", "(kernel := 3) == 3", "groups ==", "any((kernel, 1))", "",
    "[x for x in kernel]", "... == groups", "f'{groups}' == '3'", "groups if batch else 1",
])  # fmt: skip
def test_nothing_else_is_an_expression(text):
    with pytest.raises(GapError):
        value(text, GIVEN)


@pytest.mark.parametrize(("text", "part"), [
    ("any(kernl > 1) and groups", "'kernl' in 'any(kernl > 1) and groups': there is no feature 'kernl'; did you mean"),
    ("groups and not kernel", "'kernel' in 'groups and not kernel': has one value per axis"),
    ("kernel", "'kernel': has one value per axis"), ("1 and open('x')", r"\"open('x')\" in"),
    ("groups[0]", "'groups[0]': only a vector"), ("any(groups)", "'any(groups)': any"),
])  # fmt: skip
def test_the_part_that_is_wrong_is_shown(text, part):
    with pytest.raises(GapError) as caught:
        Predicate.parse(text, SCALARS, VECTORS)
    assert str(caught.value).startswith(part.replace("\\", ""))
