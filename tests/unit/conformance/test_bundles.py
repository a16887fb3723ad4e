"""Bundles: what the parent writes is what a worker reads, and nothing is left behind."""

import os
import subprocess

import numpy as np
import pytest

from convspec import Case, ConvSpec, reference
from convspec.cases import arrays
from convspec.conformance import bundles
from convspec.conformance.bundles import Bundle, Store, expected_bytes

KINDS = ("exact", "random", "nonfinite_kernel")
CASES = [
    Case(ConvSpec(3, 4, (2, 3), padding=(1, 2)), (2, 3, 5, 7)),
    Case(ConvSpec(3, 4, (2, 3), bias=False), (0, 3, 5, 7), dtype="float64"),
    Case(ConvSpec(3, 4, 3, ndim=1), (2, 3, 5), dtype="float16", seed=3),
]


@pytest.fixture
def store():
    opened = Store(1 << 20)
    yield opened
    opened.close()


@pytest.mark.parametrize("case", CASES)
def test_a_bundle_holds_the_arrays_and_the_oracle(store, case):
    bundle = Bundle.from_json(store.put(1, case, KINDS).to_json())
    found = bundle.read()
    assert set(found) == set(KINDS)
    for kind in ("exact", "random"):
        params, x = arrays(case.varied(data=kind))
        data = found[kind]
        np.testing.assert_array_equal(data.x, x, strict=True)
        np.testing.assert_array_equal(data.params.kernel, params.kernel, strict=True)
        assert (data.params.bias is None) is (params.bias is None)
        np.testing.assert_array_equal(data.expected, reference.conv(case.spec, params, x), strict=True)
    np.testing.assert_array_equal(found["random"].magnitude, reference.magnitude(case.spec, params, x), strict=True)
    assert found["exact"].magnitude is None
    assert found["nonfinite_kernel"].ignore is None or found["nonfinite_kernel"].ignore.dtype == bool


def test_what_a_reader_writes_stays_with_it(store):
    bundle = store.put(1, CASES[0], ("exact",))
    bundle.read()["exact"].x[:] = 7
    assert not (bundle.read()["exact"].x == 7).all()


def test_a_case_without_output_has_data_and_a_reason(store):
    bundle = store.put(1, Case(ConvSpec(3, 4, 9), (1, 3, 5, 7)), ("exact",))
    assert "the kernel spans 9" in bundle.refusal
    data = bundle.read()["exact"]
    assert data.expected is None
    assert data.x.shape == (1, 3, 5, 7)


def test_files_go_with_their_bundle_and_the_folder_with_the_store(store):
    bundle = store.put(1, CASES[0], KINDS)
    assert sorted(p.name for p in store.folder.iterdir()) == ["1.bin", "lock"]
    size = (store.folder / "1.bin").stat().st_size
    assert size <= 2 * expected_bytes(CASES[0], len(KINDS))
    store.drop(bundle)
    assert [p.name for p in store.folder.iterdir()] == ["lock"]
    folder = Store(1)
    folder.close()
    assert not folder.folder.exists()


def test_a_folder_in_use_is_left_alone_and_an_orphan_is_removed(store, tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "_room", lambda _: tmp_path)
    first = Store(1)
    gone = subprocess.Popen(["true"])
    gone.wait()
    orphan, starting = tmp_path / f"convspec-run-{gone.pid}-left", tmp_path / f"convspec-run-{os.getpid()}-new"
    for folder in (orphan, starting):
        folder.mkdir()
        (folder / "lock").touch()
    second = Store(1)
    assert first.folder.exists()
    assert starting.exists()
    assert not orphan.exists()
    first.close()
    second.close()


def test_without_room_in_shared_memory_the_folder_is_a_temporary_one(tmp_path, monkeypatch):
    monkeypatch.setattr(bundles.tempfile, "gettempdir", lambda: str(tmp_path))
    assert bundles._room(1 << 60) == tmp_path
