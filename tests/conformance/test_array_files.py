"""The files of a record: what belongs to others stays, the limit is one for all, and a name is the content's."""

import fcntl
import json
import os
import subprocess
import threading
from hashlib import sha256

import numpy as np
import pytest
from safetensors.numpy import load

from convspec import Case, ConvSpec
from convspec.conformance.checks.checks import Attempt
from convspec.conformance.checks.expected import given
from convspec.conformance.records import array_files
from convspec.conformance.trials.work_plan import Recipe, RecordFolder, Target, Trial, Unit
from convspec.errors import RecordError, StorageError
from convspec.spec import DIRECTIONS, ComputePrecision

CASE = Case(ConvSpec(3, 5, (1, 3), stride=(2, 1)), (2, 3, 5, 7), seed=1)
OTHER = CASE.varied(seed=2)


@pytest.fixture
def folder(tmp_path):
    array_files.prepare(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def ended():
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def save(folder, case=CASE, limit=1 << 20, output=None):
    data = given(case, [Recipe("random")]).data[Recipe("random")]
    output = data.expected["forward"].astype(np.float32) if output is None else output
    attempt = Attempt({"forward": output}, {"forward": ComputePrecision("float32")})
    trial = Trial("NCHW", "random")
    unit = Unit(0, case, Target("torch"), (trial,), RecordFolder(str(folder), limit))
    return array_files.save(unit, trial, data, attempt), data, output


def names(folder):
    return sorted(path.name for path in (folder / "arrays").iterdir())


def test_only_files_of_killed_workers_are_removed(folder, ended):
    """A worker that lives is writing its file: another run of the same folder, or a shard."""
    keep = [f".aa.safetensors.{os.getpid()}.part", f".bb.safetensors.{os.getppid()}.part", "aa.safetensors", ".used"]
    remove = [f".cc.safetensors.{ended}.part", ".dd.safetensors.x.part"]
    for name in keep + remove:
        (folder / "arrays" / name).touch()
    array_files.prepare(folder)
    assert names(folder) == sorted(keep)


def test_a_process_of_another_user_is_alive(folder, monkeypatch):
    part = folder / "arrays" / ".aa.safetensors.1.part"
    part.touch()

    def refuse(_process, _signal):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    array_files.prepare(folder)
    assert part.exists()


def test_what_is_saved_is_what_is_read(folder):
    entry, data, output = save(folder)
    assert json.loads(json.dumps(entry)) == entry
    params, x, dy = array_files.read_inputs(str(folder), entry["inputs"], CASE, backward=False)
    for stored, array in ((x, data.x), (params.kernel, data.params.kernel), (params.bias, data.params.bias)):
        np.testing.assert_array_equal(stored, array, strict=True)
    assert dy is None
    stored = array_files.read_output(str(folder), entry["outputs"], CASE, "forward")
    np.testing.assert_array_equal(stored, output, strict=True)
    for key in ("inputs", "outputs"):
        content = (folder / "arrays" / f"{entry[key]}.safetensors").read_bytes()
        assert sha256(content).hexdigest() == entry[key]
    assert load(content).keys() == {"output"}


def test_equal_arrays_are_stored_once_and_counted_once(folder):
    first, *_ = save(folder)
    used = int((folder / "arrays" / ".used").read_bytes())
    assert used == sum(path.stat().st_size for path in (folder / "arrays").glob("*.safetensors"))
    assert save(folder)[0] == first
    assert int((folder / "arrays" / ".used").read_bytes()) == used
    assert len(names(folder)) == 3


def test_the_limit_is_that_of_all_files_together_and_may_be_reached(folder):
    save(folder)
    used = int((folder / "arrays" / ".used").read_bytes())
    entry, *_ = save(folder, OTHER, limit=2 * used - 1)
    assert entry == {"left_out": f"the limit of {2 * used - 1}B is reached"}
    assert int((folder / "arrays" / ".used").read_bytes()) == used
    assert len(names(folder)) == 3
    entry, *_ = save(folder, OTHER, limit=2 * used)
    assert "outputs" in entry
    assert int((folder / "arrays" / ".used").read_bytes()) == 2 * used


def test_two_workers_do_not_count_at_once(tmp_path):
    """One that counts keeps the others waiting, so that both together stay within the limit."""
    counter = tmp_path / "used"
    counter.write_bytes(b"7")
    done = []
    with counter.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        waiting = threading.Thread(target=lambda: done.append(array_files._reserve(counter, 5, 12)))
        waiting.start()
        waiting.join(0.1)
        assert (done, counter.read_bytes()) == ([], b"7")
        fcntl.flock(other, fcntl.LOCK_UN)
    waiting.join()
    assert (done, counter.read_bytes()) == ([True], b"12")
    assert not array_files._reserve(counter, 1, 12)


def test_a_counter_that_is_a_link_is_not_followed(folder, tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"")
    (folder / "arrays" / ".used").symlink_to(tmp_path / "elsewhere")
    assert save(folder)[0]["left_out"].startswith("cannot be written: ")
    assert (tmp_path / "elsewhere").read_bytes() == b""


def test_a_file_may_be_as_large_as_the_limit_and_no_larger(tmp_path):
    file = tmp_path / "x"
    file.write_bytes(b"12345")
    assert array_files._content(file, 5) == b"12345"
    with pytest.raises(RecordError, match="it must have at most 4 bytes, but has 5"):
        array_files._content(file, 4)


def test_each_direction_has_its_shape_and_each_shard_its_journal(tmp_path):
    shapes = {direction: array_files.output_shape(CASE, direction) for direction in DIRECTIONS}
    assert shapes == {"forward": (2, 5, 3, 5), "input": (2, 3, 5, 7), "kernel": (5, 3, 1, 3), "bias": (5,)}
    assert array_files.journal_path(tmp_path, None).name == "run.jsonl"
    assert array_files.journal_path(tmp_path, (2, 3)).name == "run-2-of-3.jsonl"


@pytest.mark.parametrize("output", [np.zeros((2, 5, 3, 4), np.float32), np.zeros((2, 5, 3, 5), np.int32)])
def test_a_result_that_is_none_of_the_layer_is_left_out(folder, output):
    entry, *_ = save(folder, output=output)
    assert entry == {"left_out": "shape or dtype is not the layer's"}
    assert names(folder) == []


def test_what_cannot_be_written_is_left_out_and_leaves_nothing_behind(folder, monkeypatch):
    def fail(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    assert save(folder)[0] == {"left_out": "cannot be written: No space left on device"}
    assert names(folder) == [".used"]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "arrays").touch()
    with pytest.raises(StorageError, match=r"cannot write to .*arrays: File exists"):
        array_files.prepare(tmp_path)


@pytest.mark.parametrize("value", ["0" * 63, "0" * 65, "A" * 64, "g" * 64, "../" + "0" * 61, "0" * 64 + "\n", None, 0])
def test_a_digest_is_64_small_hexadecimal_digits(value):
    assert array_files.check_digest("0f" * 32) == "0f" * 32
    with pytest.raises(ValueError, match="must be the 64 hexadecimal digits"):
        array_files.check_digest(value)
