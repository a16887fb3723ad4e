"""The mutation score: every faulty mutant is caught by ``features`` or ``pairwise``, no equivalent one by anything."""

import functools
import json
import math

import mutation
import numpy as np
import pytest
from mutants import MUTANTS
from mutants.engine import Layer
from mutants.mutant import Mutant

from convspec import corpora, reference
from convspec.corpora.cases import arrays
from convspec.errors import ShapeError

STORED = json.loads(mutation.STORE.read_text("utf-8"))
FAULTY = [m for m in MUTANTS if not m.proof]
EQUIVALENT = [m for m in MUTANTS if m.proof]
RIGHT = Mutant("right", "nothing is wrong", lambda layer: layer)


@functools.cache
def layers(step):
    """Small layers of all corpora, with their right output."""
    found = []
    for case in [case for name in mutation.CORPORA for case in corpora.load(name)[::step]]:
        params, x = arrays(case)  # exact data: right is equal
        try:
            work = math.prod(case.spec.output_shape(case.input_shape)) * math.prod(case.spec.kernel_size)
        except ShapeError:
            continue
        if work <= 20_000:
            found.append((case, Layer.of(case.spec, params, x, case.layout, case.dtype)))
    assert len(found) >= 30
    return found


def test_there_are_enough_mutants_each_with_a_name_of_its_own():
    assert len(FAULTY) >= 60 + 60
    assert len({m.id for m in MUTANTS}) == len(MUTANTS)
    own = [m.title for m in MUTANTS if not m.id.startswith("mistake-")]
    assert len(set(own)) == len(own)
    assert set(STORED["mutants"]) == {m.id for m in MUTANTS}
    assert all(len(m.proof) >= 40 for m in EQUIVALENT)


def test_the_stored_sizes_are_those_of_the_corpora():
    sizes = {name: len(corpora.load(name)) for name in mutation.CORPORA}
    assert sizes.items() <= STORED["sizes"].items()


def test_features_and_pairwise_catch_every_faulty_mutant():
    """For each the stored case, run again: the whole claim is checked, by a few cases for each mutant."""
    cases = {case.id: case for name in ("pairwise", "features") for case in corpora.load(name)}
    by_case = {}
    for mutant in FAULTY:
        found = STORED["mutants"][mutant.id]
        by_case.setdefault(found["features"] or found["pairwise"], []).append(mutant)
    assert None not in by_case
    with np.errstate(all="ignore"):
        for name, mutants in by_case.items():
            alive = [mutant for mutant, case in mutation.kills([cases[name]], mutants).items() if case is None]
            assert not alive, f"{cases[name].name}: {alive}"


@pytest.mark.slow
def test_the_pack_of_vectors_catches_every_faulty_mutant_and_no_equivalent_one():
    with np.errstate(all="ignore"):
        found, number = mutation.pack_kills()
    assert number == STORED["sizes"][mutation.PACK]
    assert found == {name: caught[mutation.PACK] for name, caught in STORED["mutants"].items()}
    assert all(found[m.id] for m in FAULTY)
    assert not any(found[m.id] for m in EQUIVALENT)


def test_the_layer_without_a_fault_is_the_oracle_and_is_not_caught():
    for case, layer in layers(7):
        right = reference.conv(case.spec, layer.params, layer.x)
        assert np.array_equal(layer.right, right), case.name
    some = [case for name in ("features", "pairwise") for case in corpora.load(name)[::9]]
    assert mutation.kills(some, [RIGHT]) == {"right": None}


@pytest.mark.parametrize("mutant", [m for m in EQUIVALENT if "mistake" not in m.id], ids=lambda m: m.id)
def test_an_equivalent_mutant_gives_the_right_numbers(mutant):
    changed = 0
    for case, layer in layers(7):
        made = mutant.output(layer)
        assert np.array_equal(made, layer.right), case.name
        changed += made is not layer.right
    assert changed >= 3


def test_data_without_subnormals_cannot_show_that_they_are_flushed():
    least = np.finfo(np.float32).smallest_normal
    for case, _ in layers(7):
        params, x = arrays(case.varied(data="random"))
        for values in (x, params.kernel):
            assert not np.any((np.abs(values) < least) & (values != 0))


@pytest.mark.onnx
def test_onnx_has_as_many_tests_as_stored_and_they_catch_what_is_stored():
    found, number = mutation.onnx_kills()
    assert number == STORED["sizes"][mutation.ONNX]
    assert found == {name: caught[mutation.ONNX] for name, caught in STORED["mutants"].items()}


@pytest.mark.onnx
def test_all_but_one_of_onnx_tests_have_a_kernel_of_ones():
    """So a kernel that is flipped, or whose taps are exchanged, survives them but for that one."""
    tests = list(mutation.onnx_tests())
    plain = {name for name, layer, *_ in tests if np.all(layer.params.kernel == 1)}
    assert {name for name, *_ in tests} - plain == {"test_convtranspose_dilations"}
    caught = STORED["mutants"]["mistake-kernel-flipped"]
    assert caught[mutation.ONNX] == "test_convtranspose_dilations"
    assert STORED["mutants"]["volume-flipped"][mutation.ONNX] is None
