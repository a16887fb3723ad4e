"""Results that are kept packed are those that were put in, in a small part of the memory."""

import tracemalloc
from dataclasses import replace

import pytest

import convspec
from convspec import Case, ConvSpec
from convspec.conformance.compressed_list import CompressedList
from convspec.conformance.results import sort_results


@pytest.fixture(scope="module")
def results():
    case = Case(ConvSpec(3, 4, (3, 5), stride=(2, 1), padding=(1, 2)), (2, 3, 9, 11), seed=1)
    found = convspec.check([case], ["convspec_fakes:GOOD"]).results
    return [replace(result, index=n, seconds=n / 7) for n in range(150) for result in found]


def test_what_is_put_in_is_what_stands_there(results):
    packed = CompressedList(results)
    assert len(packed) == len(results) == 600
    assert list(packed) == results
    assert packed == results
    assert packed != results[:-1]
    assert packed != [*results[:-1], results[0]]
    assert [packed[0], packed[127], packed[128], packed[-1], packed[-600]] == [
        results[0], results[127], results[128], results[-1], results[0],
    ]  # fmt: skip
    assert packed[100:300:7] == tuple(results[100:300:7])
    for place in (600, -601):
        with pytest.raises(IndexError):
            packed[place]
    assert CompressedList() == ()


def test_they_are_sorted_as_a_list_is(results):
    packed = CompressedList(results)
    assert sort_results(packed, ["convspec_fakes:GOOD"]) is packed
    backwards = CompressedList(reversed(results))
    assert list(sort_results(backwards, ["convspec_fakes:GOOD"])) == results
    assert list(packed.sorted(lambda result: -result.index)) == sorted(results, key=lambda result: -result.index)


def test_they_take_a_small_part_of_the_memory(results):
    def taken(kind):
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            kept = kind(replace(result, evidence=dict(result.evidence)) for result in results)
            assert len(kept) == 600
            return tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()

    assert taken(CompressedList) < taken(list) / 4
