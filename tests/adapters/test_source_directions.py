"""All twelve directions end in programs that run: every distinct one, executed and judged against the oracle.

``tests/unit/test_translation.py`` shows, without a framework, that every constructor of a source is read as the layer
that it makes; here what is written for the target is run.
"""

import ast
from collections import Counter

import numpy as np
import pytest

import convspec
from convspec import adapter, corpora, reference
from convspec.corpora.cases import Case, arrays
from convspec.errors import ShapeError
from convspec.layers.translation import _symmetric, translate

FRAMEWORKS = ("torch", "flax", "keras", "onnx")
pytestmark = pytest.mark.slow


def constructor(name, spec):
    """The call that makes the layer, of a framework that has it; None where it is composed."""
    plan = adapter(name).plan(spec, adapter(name).native_layout)
    if plan.support != "native":
        return None
    calls = [node for node in ast.walk(ast.parse(plan.text)) if isinstance(node, ast.Call)]
    (call,) = [c for c in calls if "Conv" in ast.unparse(c.func) or "'Conv" in ast.unparse(c.args[:1] or c.func)]
    if name == "onnx":
        call.keywords.append(ast.keyword("W", ast.parse(repr(spec.kernel_shape), mode="eval").body))
    return ast.unparse(call)


def programs(target):
    """The cases whose plans are the distinct programs that features cases become, from a spec and from each source."""
    there = adapter(target)
    layout = there.native_layout
    found = {}
    for case in corpora.load("features"):
        sources = [case.spec, *(constructor(name, case.spec) for name in FRAMEWORKS if name != target)]
        for source in sources:
            if source is None:
                continue
            done = translate(source, target, case.spec.in_channels)
            if done.support == "unsupported":
                continue
            spellings = [case.spec, done.spec, _symmetric(done.spec)]
            spec = next(s for s in spellings if s is not None and there.source(s, layout) == done.source)
            key = done.source, case.input_shape
            found.setdefault(key, (Case(spec, case.input_shape, layout=layout, seed=case.seed, name=case.name), case))
    return list(found.values())


def same_numbers(written, case):
    """Whether another spelling of a layer is the same layer."""
    params, x = arrays(case)
    try:
        wanted = reference.conv(case.spec, params, x)
    except ShapeError:
        with pytest.raises(ShapeError):
            reference.conv(written.spec, params, x)
        return True
    return np.array_equal(reference.conv(written.spec, params, x), wanted)


@pytest.mark.parametrize("target", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in FRAMEWORKS])
def test_every_program_runs_and_agrees(target):
    found = programs(target)
    assert len(found) >= 150  # of 153 cases, some of which are one program
    assert all(same_numbers(written, case) for written, case in found)
    cases = [written for written, _ in found]
    report = convspec.check(cases, [target], layouts=[adapter(target).native_layout], data=["exact"], jobs=2)
    report.expect()
    verdicts = Counter("gap" if result.gap else result.verdict for result in report.results)
    assert len(report.results) == len(cases)
    assert verdicts["agree"] >= 0.85 * len(cases), verdicts
    assert set(verdicts) <= {"agree", "gap"}, verdicts
