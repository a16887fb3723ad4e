"""The corpora ``pairwise`` and ``threewise``: valid, and without a hole, both found out without the script."""

import functools
import itertools
from dataclasses import replace

import pytest

from convspec import Case, ConvSpec, corpora
from convspec.corpora.features import case_traits
from convspec.errors import ConvspecError

FREE = {
    "groups": ("one", "some", "depthwise", "depthwise with multiplier"),
    "bias": ("bias", "no bias"),
    "layout": ("NCHW", "NHWC"),
    "dtype": ("float32", "float64", "float16", "bfloat16"),
}
LEFT_OUT = {"reach", "batch"}  # traits that are no factor
KERNELS = {
    1: ((1,), (3,), (5,), (4,)),
    2: ((1, 1), (3, 5), (4, 2), (2, 3)),
    3: ((1, 1, 1), (3, 5, 3), (3, 1, 1), (4, 2, 6), (2, 3, 4)),
}
SIZES = ((1, 1, 1), (2, 2, 2), (2, 3, 4), (3, 5, 9), (7, 8, 6), (9, 12, 14), (14, 16, 18), (160, 15, 9))


def _layers():
    """Layers over a plain grid of values, kept where ConvSpec's own rules allow them."""
    grid = itertools.product(
        [kernel for kernels in KERNELS.values() for kernel in kernels],
        ((1, 1, 1), (2, 2, 2), (2, 3, 1)),
        (0, 1, 2, (2, 1, 3), ((1, 2), (3, 0), (2, 1)), ((0, 1), (1, 0), (2, 1)), "same", "same_lower", "causal"),
        ("zeros", "reflect", "replicate", "circular"),
        ((1, 1, 1), (3, 3, 3), (3, 2, 1), (4, 3, 2)),
        (False, True),
        (0, 1, (1, 2, 0), 2, (2, 0, 0), (3, 0, 1)),
    )
    for kernel, stride, padding, mode, dilation, transposed, extra in grid:
        rank = len(kernel)
        if (transposed and mode != "zeros") or (not transposed and extra):
            continue
        pads, more = (value[:rank] if isinstance(value, tuple) else value for value in (padding, extra))
        try:
            yield ConvSpec(
                3, 5, kernel, stride[:rank], pads, dilation[:rank],
                padding_mode=mode, transposed=transposed, output_padding=more,
            )  # fmt: skip
        except ConvspecError:
            continue


def _sized(spec):
    for sizes in SIZES:
        yield Case(spec, (2, 3, *sizes[: spec.ndim]))
    for n in (5, 9, 16, 22):
        yield Case(replace(spec, in_channels=n), (1, *(n,) * (spec.ndim + 1)))


def _row(case):
    return {name: value for name, value in case_traits(case).items() if name not in LEFT_OUT}


@functools.cache
def _bound():
    """The distinct rows of the features that bind one another."""
    rows = set()
    for spec in set(_layers()):
        for case in _sized(spec):
            try:
                if min(case.spec.output_shape(case.input_shape)) < 1:
                    continue
            except ConvspecError:
                continue
            rows.add(tuple(sorted(item for item in _row(case).items() if item[0] not in FREE)))
    return rows


def _possible(strength):
    found = set()
    for size in range(strength + 1):
        bound = {part for row in _bound() for part in itertools.combinations(row, size)}
        free = [
            tuple(zip(names, values, strict=True))
            for names in itertools.combinations(FREE, strength - size)
            for values in itertools.product(*(FREE[name] for name in names))
        ]
        found |= {frozenset(a + b) for a in bound for b in free}
    return found


@pytest.mark.parametrize(("name", "strength"), [("pairwise", 2), ("threewise", 3)])
def test_every_possible_combination_occurs(name, strength):
    cases = corpora.load(name)
    covered = {frozenset(part) for case in cases for part in itertools.combinations(_row(case).items(), strength)}
    possible = _possible(strength)
    assert len(possible) > {2: 850, 3: 9500}[strength]
    missing = possible - covered
    assert not missing, (
        f"{len(missing)} of {len(possible)} are in no case, among them {sorted(map(sorted, missing))[:5]}"
    )


@pytest.mark.parametrize("name", ["pairwise", "threewise"])
def test_every_case_is_a_layer_with_an_output_and_what_its_name_says(name):
    cases = corpora.load(name)
    assert len(set(cases)) == len({case.name for case in cases}) == len(cases)
    for case in cases:
        assert min(case.spec.output_shape(case.input_shape)) >= 1
        said = dict(word.split("=") for word in case.name.split(": ")[1].split())
        assert said == {key: value.replace(" ", "-") for key, value in _row(case).items()}


def test_few_cases_suffice():
    """A lower bound is the product of the two (three) largest factors; twice to four times that is what is known."""
    assert 7 * 4 <= len(corpora.load("pairwise")) <= 60
    assert 7 * 4 * 4 <= len(corpora.load("threewise")) <= 300
