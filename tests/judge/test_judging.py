"""The parts of a judgement that need no framework: inputs, bytes from processes, files, and the words of a verdict."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

import convspec
from convspec.contract.isolation import beneath, landlock
from convspec.errors import RequestError
from convspec.models.comparison.outcomes import Outcome
from convspec.models.judging import draws, runners
from convspec.models.judging.judgement import Judgement, Trial, common_cause
from convspec.models.judging.raw_arrays import read_arrays, write_arrays


@pytest.fixture
def two(tmp_path):
    """A source and a port, in folders of their own; and what they print with ``open``."""
    for name in ("source", "port"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").write_text("x = 1\n")
    return tmp_path


# -- inputs ------------------------------------------------------------------------------------------------------------


def test_inputs_have_several_sizes_batches_and_scales_and_come_again():
    drawn, order = draws.draw([((2, 3, 22, 19),)], 5, "NCHW", fixed=False)
    shapes = {one.shapes[0] for one in drawn}
    assert {s[0] for s in shapes} > {1, 2}
    assert len({s[2:] for s in shapes}) == 3
    assert {s[1] for s in shapes} == {3}
    sizes = [float(np.abs(one.arrays[0]).max()) for one in drawn]
    assert min(sizes) < 1 < 20 < max(sizes)
    assert sorted(set(order)) == list(range(len(drawn)))
    assert len(order) > len(drawn)
    assert all(a != b for a, b in itertools.pairwise(order))


def test_inputs_of_other_seeds_differ_and_of_the_same_seed_do_not():
    one, again, other = (draws.draw([((1, 3, 9, 9),)], seed, "NCHW", fixed=False)[0] for seed in (1, 1, 2))
    assert all(np.array_equal(a.arrays[0], b.arrays[0]) for a, b in zip(one, again, strict=True))
    assert not np.array_equal(one[0].arrays[0], other[0].arrays[0])


def test_channels_last_inputs_keep_their_channels_and_fixed_ones_their_sizes():
    drawn, _ = draws.draw([((2, 22, 19, 3),)], 5, "NHWC", fixed=False)
    assert {one.shapes[0][3] for one in drawn} == {3}
    fixed, _ = draws.draw([((2, 22, 19, 3),), ((1, 8, 8, 3),)], 5, "NHWC", fixed=True)
    assert {one.shapes[0] for one in fixed} == {(2, 22, 19, 3), (1, 8, 8, 3)}


# -- bytes -------------------------------------------------------------------------------------------------------------


def test_arrays_come_back_as_they_were(tmp_path):
    arrays = [np.arange(6, dtype=np.float16).reshape(2, 3), np.array(True), np.zeros((0, 4))]
    forms = [list(form) for form in write_arrays(tmp_path / "a", arrays)]
    for x, y in zip(arrays, read_arrays(tmp_path / "a", forms), strict=True):
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        assert np.array_equal(x, y)


@pytest.mark.parametrize(
    "forms",
    [
        None, {}, [["float32"]], [["object", [1]]], [["float32", [-1, -8]]], [["float32", [2.0]]],
        [["float32", [True] * 4]],
        [["float32", [3]]], [["float32", [1 << 39, 1 << 39]]], [["float32", [1] * 40]], [["float32", [0]]] * 300,
        [[["float32"], [2]]],
    ],
)  # fmt: skip
def test_forms_that_are_none_are_refused(tmp_path, forms):
    write_arrays(tmp_path / "a", [np.zeros(2, np.float32)])
    with pytest.raises(ValueError, match="arrays"):
        read_arrays(tmp_path / "a", forms)


def test_only_a_plain_file_of_ones_own_is_read(tmp_path):
    write_arrays(tmp_path / "a", [np.zeros(2, np.float32)])
    (tmp_path / "link").symlink_to(tmp_path / "a")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "none"):
        with pytest.raises((ValueError, OSError)):
            read_arrays(tmp_path / name, [["float32", [2]]])
    os.link(tmp_path / "a", tmp_path / "b")
    with pytest.raises(ValueError, match="size"):
        read_arrays(tmp_path / "b", [["float32", [2]]])


def test_arrays_are_written_past_links(tmp_path):
    (tmp_path / "victim").write_text("kept")
    (tmp_path / "a").symlink_to(tmp_path / "victim")
    write_arrays(tmp_path / "a", [np.zeros(2)])
    assert (tmp_path / "victim").read_text() == "kept"
    assert (tmp_path / "a").stat().st_size == 16


# -- files -------------------------------------------------------------------------------------------------------------


def test_everything_around_hidden_files_can_be_read(two):
    hidden = [str(two / "source" / "source.py")]
    (two / "source" / "weights.npz").touch()
    (two / "link.py").symlink_to(hidden[0])
    (two / ".git").mkdir()
    assert list(beneath(str(two), hidden)) == [str(two / "port"), str(two / "source" / "weights.npz")]
    assert list(beneath(str(two / "port"), hidden)) == [str(two / "port")]
    assert not list(beneath(hidden[0], hidden))


def test_a_sources_files_and_what_python_keeps_of_them_are_hidden(two):
    source, port = str(two / "source" / "source.py"), str(two / "port" / "port.py")
    kept = two / "source" / "__pycache__" / "source.cpython-311.pyc"
    kept.parent.mkdir()
    kept.touch()
    imported = [source, port, str(two / "port" / "__init__.py"), str(two / "blocks.py"), np.__file__]
    assert runners.hidden_files([source], imported, port) == sorted([source, str(kept), str(two / "blocks.py")])


READS = """
import sys
from convspec.contract.isolation import beneath, separate
root, hidden, folder = sys.argv[1:]
print(separate([*sys.path, sys.prefix, sys.base_prefix, *beneath(root, [hidden])], [folder]))
for path in (hidden, f"{root}/port/port.py", "/proc/1/cmdline", "/etc/hostname"):
    try:
        open(path).close()
        print("read")
    except OSError as error:
        print(type(error).__name__)
try:
    open(f"{root}/port/new", "w")
except OSError as error:
    print(type(error).__name__)
print(open(f"{folder}/new", "w").write("x"))
"""


@pytest.mark.processes
@pytest.mark.skipif(not landlock(), reason="the kernel has no Landlock")
def test_the_kernel_refuses_hidden_files_other_processes_and_writing(two):
    own = two / "own"
    own.mkdir()
    words = [sys.executable, "-c", READS, str(two), str(two / "source" / "source.py"), str(own)]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    expected = ["True", "PermissionError", "read", "PermissionError", "read", "PermissionError", "1"]
    assert found.stdout.split() == expected, found.stderr


@pytest.mark.processes
def test_where_the_kernel_does_not_python_refuses_hidden_files(two):
    code = """
import hashlib, sys
from convspec.models.judging import plain_host
plain_host._hide({hashlib.sha256(sys.argv[1].encode()).hexdigest()})
for path in sys.argv[1:]:
    try:
        open(path)
        print("read")
    except PermissionError:
        print("refused")
"""
    (two / "link.py").symlink_to(two / "source" / "source.py")
    paths = [two / "source" / "source.py", two / "link.py", two / "port" / "port.py"]
    found = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=False)
    assert found.stdout.split() == ["refused", "refused", "read"], found.stderr


def test_a_port_in_its_sources_file_is_no_request(tmp_path):
    (tmp_path / "both.py").write_text("")
    with pytest.raises(RequestError, match="in one file"):
        convspec.judge(f"{tmp_path}/both.py:Port", f"{tmp_path}/both.py:Net", [((1, 3, 9, 9),)])


@pytest.mark.parametrize("name", ["no.py:Net", "no_module_of_this_name:build", "no.onnx:", "a b"])
def test_names_of_nothing_are_no_request(name, two):
    with pytest.raises(RequestError):
        convspec.judge(name, f"{two}/source/source.py:x", [((1, 3, 9, 9),)])


# -- words -------------------------------------------------------------------------------------------------------------


def trial(verdict, kind="normal numbers", size=draws.GIVEN, batch=2, again=False):
    drawn = draws.Draw([np.zeros((batch, 3, 9, 9), np.float32)], kind, size)
    return Trial(drawn, again, Outcome(kind, verdict, 0.0))


@pytest.mark.parametrize(
    ("trials", "words"),
    [
        ([trial("agree"), trial("differ", again=True)], "earlier calls: right for new inputs; wrong for inputs sent"),
        ([trial("agree"), trial("differ", size=draws.OTHER_BATCH, batch=5)], "right for batches of 2; wrong for"),
        ([trial("agree"), trial("differ", size="another size")], "images: right for as given; wrong for another"),
        ([trial("agree"), trial("differ", "large numbers")], "numbers: right for normal numbers; wrong for large"),
        ([trial("agree"), trial("not tried", size="another size"), trial("differ")], ""),
        ([trial("differ"), trial("differ", "large numbers")], ""),
    ],
)  # fmt: skip
def test_what_wrong_inputs_have_in_common_is_the_cause(trials, words):
    cause, fix = common_cause(trials)
    assert words in cause
    assert bool(fix) == bool(words)


def test_a_judgement_prints_its_verdict_cause_and_fix():
    judged = Judgement("p", "s", "refused", 7, "they differ", "conv 0 (a): why", "the cause", "the fix",
                       trials=[trial("differ")])  # fmt: skip
    assert str(judged).splitlines()[-4:] == [
        "Refused: they differ", "First divergence: conv 0 (a): why", "Cause: the cause", "Fix: the fix",
    ]  # fmt: skip
    assert "--seed 7" in str(judged)
    assert (judged.accepted, judged.evidence) == (False, "")
