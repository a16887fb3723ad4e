"""The declared gaps of the own adapters: a case of ``features`` or ``quantised`` meets each, so that a run decides."""

import itertools

import pytest

from convspec import corpora
from convspec.conformance.gap_ledger import features
from convspec.contract import registry
from convspec.contract.known_gaps import declared
from convspec.spec import layouts
from convspec.spec.dtypes import DTYPES
from convspec.spec.shapes import DIRECTIONS

CASES = corpora.load("features")
GAPS = [
    pytest.param(name, gap, id=f"{name}-{gap.id}")
    for name in registry.adapters()
    if registry.adapter(name).name == name
    for gap in declared(registry.adapter(name))
]


STREAMS = {}


def occasions(name):
    """The features of every result that a run of the adapter over the corpus has, made once for all its gaps."""
    STREAMS[name], stream = itertools.tee(STREAMS.get(name) or every(registry.adapter(name)))
    return stream


def every(adapter):
    for variant, case, layout, dtype in itertools.product(adapter.variants, CASES, layouts.LAYOUTS, DTYPES):
        made = adapter.with_variant(variant)
        shape = layouts.shape_in(case.input_shape, layout, case.spec.ndim)
        support = made.support(case.spec, layout, dtype, "cpu", shape)
        for direction, data in itertools.product(DIRECTIONS, ("exact", "nonfinite")):
            given = case.varied(layout=layout, dtype=dtype, data=data)
            yield features(given, support=str(support), adapter=adapter.name, variant=variant, direction=direction)
    for variant, case, layout in itertools.product(adapter.variants, corpora.load("quantised"), layouts.LAYOUTS):
        yield features(case.varied(layout=layout), support="native", adapter=adapter.name, variant=variant)


@pytest.mark.parametrize(("name", "gap"), GAPS)
def test_every_gap_matches_a_case_of_a_corpus(name, gap):
    assert any(map(gap.when, occasions(name)))


def test_a_gap_that_matches_nothing_would_be_found():
    name, gap = GAPS[0].values
    assert not any(map(type(gap.when).parse("ndim > 3", ["ndim"], []), occasions(name)))
