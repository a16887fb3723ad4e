"""Files that mean harm: a clear error, exit status 2, no crash, little memory, and nothing read outside the folder."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("onnxruntime")
from convspec_onnx.loading import inline, load_proto, untrusted
from fault_drills.bench import alive, descendants, wait_for
from onnx import TensorProto

import convspec
from convspec.cli.reports import verify_files
from convspec.contract.isolation import ChildError
from convspec.errors import RequestError
from convspec.models.verification import verifier
from tests.adapters.onnx.hostile import EVIL, HOSTILE, endless_loop, plain, trap, with_external
from tests.adapters.onnx.verifying import audited, conv, model, saved, weights

pytestmark = pytest.mark.onnx
GIB = 1 << 20  # in the unit of ru_maxrss
OUTSIDE = "must be a file below the model's folder"
WORDS = {
    "wrong magic": "not an ONNX model",
    "empty": "not an ONNX model",
    "text": "not an ONNX model",
    "truncated": "not an ONNX model",
    "no graph": "no graph",
    "cyclic": "topologically sorted|not output of any previous",
    "deep nesting": "not an ONNX model|nested",
    "multiplying functions": "more than 200000 nodes",
    "10**9 elements of input": "too large for random data",
    "no element of input, 6**38 beside": "too large for random data",
    "84 axes": "84 axes, more than the 64",
    "10**9 elements of weight": "w",
    "10**9 elements made when run": "more memory than is allowed",
    "10**18 elements of output": "more memory than is allowed",
    "negative pads": "must not be negative",
    "zero stride": "strides=.* must be positive",
    "negative dilation": "dilations=.* must be positive",
    "zero groups": "group=.* must be positive",
    "duplicated outputs": "SSA",
    "function that calls itself": "calls itself|recursi|no node|cycl",
    "absolute path": OUTSIDE,
    "two dots": OUTSIDE,
    "hidden two dots": OUTSIDE,
    "memory address": "No such file",
    "link": "links are not followed",
    "linked folder": "links are not followed",
    "hard link": "hard links",
    "pipe": "not a regular file|cannot|links",
    "offset beyond the end": "ends .* bytes too early",
    "negative offset": "240|-8|offset",
    "wrong length": "length 240 from the shape, got 8",
    **{f"two dots in {place}": OUTSIDE for place in ("attribute", "subgraph", "function", "sparse")},
}


@pytest.fixture
def place(tmp_path):
    return trap(tmp_path)


def write(content, folder):
    path = folder / "model.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_with_one_clear_sentence(name, place):
    path = write(HOSTILE[name](), place)
    with pytest.raises(RequestError) as caught:
        verifier.verify(path, timeout=60)
    words = str(caught.value)
    assert re.search(WORDS[name], words), words
    assert 10 < len(words) < 1000
    assert words.isprintable()


MEASURED = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", "convspec", "verify", sys.argv[1]], capture_output=True)
print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.parametrize("name", [n for n in HOSTILE if "10**9" in n or n in ("deep nesting", "multiplying functions")])
def test_a_hostile_file_takes_less_than_a_gibibyte_and_ends_with_status_2(name, place):
    """Measured in a process of its own: what other tests' children took would count here."""
    path = write(HOSTILE[name](), place)
    done = subprocess.run([sys.executable, "-c", MEASURED, path], capture_output=True, text=True, check=True)
    status, kilobytes = map(int, done.stdout.split())
    assert status == 2
    assert kilobytes < GIB


def test_external_data_beside_the_model_are_read(place):
    report = audited(write(with_external("data.bin"), place))
    assert report.summary["agree"] == 1
    for where in ("attribute", "subgraph", "function"):
        assert audited(write(with_external("./data.bin", where), place)).summary["agree"] == 1


def test_the_runtime_is_given_no_name_of_a_file(place):
    """Whatever runs sees a model whose data are all inside it."""
    for where in ("initializer", "attribute", "subgraph", "function"):
        proto = inline(load_proto(write(with_external("data.bin", where), place)))
        assert b"data.bin" not in proto.SerializeToString()
        assert all(not t.external_data and t.data_location == TensorProto.DEFAULT for t in untrusted.all_tensors(proto))


def test_the_command_leaves_with_status_2_and_says_why(place):
    path = write(with_external("../secret.bin"), place)
    done = subprocess.run(
        [sys.executable, "-m", "convspec", "verify", str(path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 2
    assert re.fullmatch(r"convspec: external data of tensor w at \.\./secret\.bin: .*\n", done.stderr)


def test_names_are_shown_and_never_obeyed(tmp_path):
    proto = model([conv(EVIL.replace("\x00", ""), "x", "y", "w")], {"w": weights(2, 3, 2, 5)}, (1, 3, 8, 9))
    path = saved(proto, tmp_path / "m.onnx")
    report = audited(path)
    assert report.summary["agree"] == 1
    report.against = report.nodes[0].matched = EVIL
    report.nodes[0].findings.append({"id": "x", "title": EVIL})
    texts = [f(report) for f in (verify_files.page, verify_files.markdown, verify_files.junit)]
    for text in texts:
        assert "<script>alert" not in text
        assert not set(text) & {"\x1b", "\x07", "\x00", "\u202e"}
    parser = Tags()
    parser.feed(texts[0])
    assert parser.scripts == 1
    assert "\n# x" not in texts[1]
    assert ElementTree.fromstring(texts[2]).tag == "testsuites"
    done = subprocess.run(
        [sys.executable, "-m", "convspec", "verify", str(path), "--json", str(tmp_path / "r.json")],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert not set(done.stdout + done.stderr) & {"\x1b", "\x07", "\x00", "\u202e"}
    assert json.loads((tmp_path / "r.json").read_text())["nodes"][0]["name"] == EVIL.replace("\x00", "")


class Tags(HTMLParser):
    scripts = 0

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"


def test_a_process_that_dies_is_reported(monkeypatch, tmp_path):
    path = saved(plain(), tmp_path / "m.onnx")
    unknown = {"spec": None, "input_shape": None, "output_shape": None, "problem": "", "notes": []}

    def messages(*_):
        yield {"convs": [{"name": "c", "op_type": "Conv", **unknown}]}
        yield {"begin": ["c"]}
        raise ChildError("the process ended with SIGSEGV")

    monkeypatch.setattr(verifier.ChildProcess, "messages", messages)
    report = convspec.verify(path)
    assert report.summary["crash"] == 1
    assert report.unexpected


ENDLESS = """
import sys
import convspec
convspec.verify(sys.argv[1], timeout=1800)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_endless_audit_ends_with_the_process_that_asked_for_it_and_leaves_no_folder(number, tmp_path):
    path = saved(endless_loop(), tmp_path / "endless.onnx")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(temporary)}
    parent = subprocess.Popen([sys.executable, "-c", ENDLESS, str(path)], env=environment)
    try:
        assert wait_for(lambda: len(descendants(parent.pid)) >= 2, 60)  # the reaper and the audit
        audit = descendants(parent.pid)[1]
        assert wait_for(lambda: int(Path(f"/proc/{audit}/stat").read_text().rpartition(")")[2].split()[11]) > 300, 120)
        family = descendants(parent.pid)
        assert list(temporary.glob("convspec-*"))
    finally:
        parent.send_signal(number)
        assert parent.wait() == -number
    assert wait_for(lambda: not any(map(alive, family)) and not list(temporary.glob("convspec-*")), 10)


SCRIPT = Path(__file__).parents[3] / "scripts" / "fuzz_verify.py"


def fuzzed(tmp_path, *arguments, **more):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments, "--keep", str(tmp_path)],
        capture_output=True, text=True, timeout=300, check=False, **more,
    )  # fmt: skip


@pytest.mark.parametrize("how", [[], ["--against"]])
def test_the_fuzzer_finds_nothing(tmp_path, how):
    done = fuzzed(tmp_path, "150", "--seed", "7", *how)
    assert done.returncode == 0, done.stdout
    assert "150 inputs" in done.stdout
    assert "0 finds" in done.stdout


def test_the_fuzzer_can_find(tmp_path):
    """With an audit that fails now and then, and dies of one of its inputs."""
    broken = tmp_path / "site" / "sitecustomize.py"
    broken.parent.mkdir()
    broken.write_text(
        "import os, sys\n"
        "from convspec_onnx import graph\n"
        "honest = graph.find_convolutions\n"
        "def find_convolutions(model):\n"
        "    found = honest(model)\n"
        "    if any(c.spec and c.spec.stride == (1, 2) for c in found):\n"
        "        raise ValueError('planted')\n"
        "    if any(c.owners for c in found):\n"
        "        os.abort()\n"
        "    return found\n"
        "graph.find_convolutions = find_convolutions\n"
    )
    path = os.pathsep.join([str(broken.parent), *sys.path])
    done = fuzzed(tmp_path, "100", "--seed", "7", env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 1
    assert "FIND ValueError: planted" in done.stdout
    assert "died with status -6" in done.stdout
    assert list(tmp_path.glob("batch-*/find-*.onnx"))
    assert list(tmp_path.glob("batch-*/model.onnx"))  # what it died of
