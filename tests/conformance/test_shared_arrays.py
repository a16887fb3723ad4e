"""Bundles: what the parent writes is what a worker reads, and nothing is left behind."""

import os
import subprocess

import numpy as np
import pytest

from convspec import Case, ConvSpec, reference
from convspec.conformance.checks import expected
from convspec.conformance.checks.expected import expected_bytes
from convspec.conformance.execution import shared_arrays
from convspec.conformance.execution.shared_arrays import ArrayStore, SharedArrays
from convspec.conformance.trials.work_plan import Recipe
from convspec.corpora.cases import arrays, gradient_arrays

KINDS = tuple(map(Recipe, ("exact", "random", "nonfinite_kernel")))
BACKWARD = (Recipe("exact", backward=True), Recipe("random", backward=True))
CASES = [
    Case(ConvSpec(3, 4, (2, 3), padding=(1, 2)), (2, 3, 5, 7)),
    Case(ConvSpec(3, 4, (2, 3), bias=False), (0, 3, 5, 7), dtype="float64"),
    Case(ConvSpec(3, 4, 3, ndim=1), (2, 3, 5), dtype="float16", seed=3),
]


@pytest.fixture
def store():
    opened = ArrayStore(1 << 20)
    yield opened
    opened.close()


@pytest.mark.parametrize("case", CASES)
def test_shared_arrays_hold_the_arrays_and_the_oracle(store, case):
    shared = SharedArrays.from_json(store.put(1, case, KINDS).to_json())
    found = shared.read().data
    assert set(found) == set(KINDS)
    for kind in ("exact", "random"):
        params, x = arrays(case.varied(data=kind))
        data = found[Recipe(kind)]
        np.testing.assert_array_equal(data.x, x, strict=True)
        np.testing.assert_array_equal(data.params.kernel, params.kernel, strict=True)
        assert (data.params.bias is None) is (params.bias is None)
        np.testing.assert_array_equal(data.expected["forward"], reference.conv(case.spec, params, x), strict=True)
    magnitude = found[KINDS[1]].magnitude["forward"]
    np.testing.assert_array_equal(magnitude, reference.magnitude(case.spec, params, x), strict=True)
    assert found[KINDS[0]].magnitude == {}
    assert found[KINDS[2]].ignore is None or found[KINDS[2]].ignore.dtype == bool


@pytest.mark.parametrize("case", CASES)
def test_shared_arrays_hold_dy_and_all_gradients_with_their_magnitudes(store, case):
    found = SharedArrays.from_json(store.put(1, case, BACKWARD).to_json()).read().data
    assert set(found) == set(BACKWARD)
    params, x, dy = gradient_arrays(case.varied(data="random"))
    data = found[BACKWARD[1]]
    np.testing.assert_array_equal(data.dy, dy, strict=True)
    gradients = reference.gradients(case.spec, params, x, dy)
    assert set(data.expected) == set(data.magnitude) == {"input", "kernel", *(["bias"] if case.spec.bias else [])}
    for direction, array in data.expected.items():
        np.testing.assert_array_equal(array, getattr(gradients, direction), strict=True)
        assert (data.magnitude[direction] >= np.abs(array) * (1 - 1e-12)).all()
    assert found[BACKWARD[0]].magnitude == {}


@pytest.mark.parametrize("memory", [1, 1 << 60])
def test_arrays_that_the_machine_has_no_room_for_are_not_allocated(memory, monkeypatch):
    case, allocated = CASES[0], []
    monkeypatch.setattr(expected, "installed", lambda: memory)
    monkeypatch.setattr(expected, "compute", lambda *_: allocated.append(1) or ({}, None))
    assert (expected.given(case, KINDS).failure is None) == bool(allocated) == (memory > 1)


def test_what_a_reader_writes_stays_with_it(store):
    shared = store.put(1, CASES[0], KINDS[:1])
    shared.read().data[KINDS[0]].x[:] = 7
    assert not (shared.read().data[KINDS[0]].x == 7).all()


def test_a_case_without_output_has_data_and_a_reason(store):
    shared = store.put(1, Case(ConvSpec(3, 4, 9), (1, 3, 5, 7)), KINDS[:1])
    assert "the kernel spans 9" in shared.refusal
    data = shared.read().data[KINDS[0]]
    assert data.expected == {}
    assert data.x.shape == (1, 3, 5, 7)


def test_a_file_is_written_again_for_arrays_of_its_size_and_for_no_other(store):
    large, small = Case(ConvSpec(3, 4, 3), (2, 3, 50, 70)), CASES[0]
    shared = store.put(1, small, KINDS)
    assert sorted(p.name for p in store.folder.iterdir()) == ["1.bin", "lock"]
    assert shared.nbytes == (store.folder / "1.bin").stat().st_size <= 2 * expected_bytes(small, KINDS)
    still_read = store.put(2, small, KINDS).read().data
    store.drop(shared)
    assert store.put(3, large, KINDS).path == str(store.folder / "3.bin")
    again = store.put(4, small.varied(seed=5), KINDS)
    assert again.path == shared.path
    for found, case in ((again.read().data, small.varied(seed=5)), (still_read, small)):
        np.testing.assert_array_equal(found[KINDS[0]].x, arrays(case.varied(data="exact"))[1], strict=True)


def test_unused_files_have_a_bound_and_the_folder_goes_with_the_store(store):
    store.drop(store.put(1, Case(ConvSpec(3, 4, 3), (2, 3, 100, 100)), KINDS))  # more than a quarter of the capacity
    assert [p.name for p in store.folder.iterdir()] == ["lock"]
    folder = ArrayStore(1)
    folder.close()
    assert not folder.folder.exists()


def test_a_folder_in_use_is_left_alone_and_an_orphan_is_removed(store, tmp_path, monkeypatch):
    monkeypatch.setattr(shared_arrays, "_folder_with_room", lambda _: tmp_path)
    first = ArrayStore(1)
    gone = subprocess.Popen(["true"])
    gone.wait()
    orphan, starting = tmp_path / f"convspec-run-{gone.pid}-left", tmp_path / f"convspec-run-{os.getpid()}-new"
    for folder in (orphan, starting):
        folder.mkdir()
        (folder / "lock").touch()
    second = ArrayStore(1)
    assert first.folder.exists()
    assert starting.exists()
    assert not orphan.exists()
    first.close()
    second.close()


def test_without_room_in_shared_memory_the_folder_is_a_temporary_one(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_arrays.tempfile, "gettempdir", lambda: str(tmp_path))
    assert shared_arrays._folder_with_room(1 << 60) == tmp_path
