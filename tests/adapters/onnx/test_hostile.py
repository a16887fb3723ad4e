"""Files that mean harm: a clear error, exit status 2, no crash, little memory, and nothing read outside the folder."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
import onnx
from convspec_onnx.loading import inline_functions, untrusted
from onnx import TensorProto, helper, numpy_helper

import convspec
from convspec.cli.reports import verify_files
from convspec.contract.isolation import ChildError
from convspec.errors import RequestError
from convspec.models.verification import verifier
from tests.adapters.onnx.verifying import audited, conv, model, saved, weights

pytestmark = pytest.mark.onnx
GIB = 1 << 20  # in the unit of ru_maxrss
EVIL = "</td><script>alert(1)</script>\x1b]0;owned\x07\x1b[31m|`*\"'&]]>\u202e\x00\n# x"


def plain(**more):
    return model([conv("c", "x", "y", "w")], {"w": weights(2, 3, 2, 5)}, (1, 3, 8, 9), **more)


def external(location, **more):
    """A weight that is somewhere else."""
    tensor = TensorProto(name="w", data_type=1, dims=[2, 3, 2, 5], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def with_external(location, place="initializer", **more):
    proto, tensor = plain(), external(location, **more)
    del proto.graph.initializer[:]
    if place == "initializer":
        proto.graph.initializer.append(tensor)
    elif place == "attribute":
        proto.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    elif place == "subgraph":
        body = helper.make_graph(
            [conv("in", "x", "b", "w")], "b", [], [helper.make_tensor_value_info("b", 1, list("bcde"))], [tensor]
        )
        other = helper.make_graph(
            [helper.make_node("Identity", ["x"], ["o"])], "o", [], [helper.make_tensor_value_info("o", 1, list("opqr"))]
        )
        proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "flag"))
        proto.graph.node[0].CopyFrom(helper.make_node("If", ["flag"], ["y"], "if", then_branch=body, else_branch=other))
    elif place == "function":
        inner = [helper.make_node("Constant", [], ["w"], value=tensor), conv("in", "a", "r", "w")]
        proto.functions.append(helper.make_function("own", "f", ["a"], ["r"], inner, [helper.make_opsetid("", 19)]))
        proto.graph.node[0].CopyFrom(helper.make_node("f", ["x"], ["y"], "call", domain="own"))
        proto.opset_import.append(helper.make_opsetid("own", 1))
    elif place == "sparse":
        sparse = proto.graph.sparse_initializer.add()
        sparse.values.CopyFrom(tensor)
        sparse.dims.extend([2, 3, 2, 5])
    return proto


def cyclic():
    return model([conv("a", "p", "q", "w"), conv("b", "q", "p", "w")], {"w": weights(3, 3, 1, 1)}, output="p")


def nested():
    """Bodies in bodies, a thousand deep: written as bytes, since protobuf itself refuses to."""

    def field(number, content):
        size, length = len(content), b""
        while size >= 0x80:
            length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    graph = b""
    for _ in range(1000):
        graph = field(1, field(5, field(6, graph)))  # node of a graph, attribute of a node, graph of an attribute
    return plain().SerializeToString() + field(7, graph)


def multiplying():
    """Functions that call one another ten times each: 10**9 nodes."""
    proto = plain()
    for level in range(9):
        calls = [helper.make_node("f" + str(level + 1), [f"t{i}"], [f"t{i + 1}"], domain="own") for i in range(10)]
        first = helper.make_node("Identity", ["a"], ["t0"])
        last = helper.make_node("Identity", ["t10"], ["r"])
        proto.functions.append(
            helper.make_function(
                "own",
                f"f{level}",
                ["a"],
                ["r"],
                [first, *calls, last],
                [helper.make_opsetid("own", 1), helper.make_opsetid("", 19)],
            )
        )
    proto.functions.append(
        helper.make_function(
            "own", "f9", ["a"], ["r"], [helper.make_node("Relu", ["a"], ["r"])], [helper.make_opsetid("", 19)]
        )
    )
    proto.opset_import.append(helper.make_opsetid("own", 1))
    proto.graph.node.append(helper.make_node("f0", ["y"], ["z"], domain="own"))
    return proto


def huge_weight():
    proto = plain()
    proto.graph.initializer[0].CopyFrom(TensorProto(name="w", data_type=1, dims=[1000, 1000, 1000], raw_data=b"1234"))
    return proto


def huge_constant():
    shape = numpy_helper.from_array(np.array([1, 3, 20000, 20000], np.int64), "s")
    proto = model(
        [helper.make_node("ConstantOfShape", ["s"], ["big"]), conv("c", "big", "y", "w")],
        {"w": weights(2, 3, 2, 5)},
        (1, 3),
    )
    proto.graph.initializer.append(shape)
    return proto


def single(*more, shape=("N", 3, "H", "W")):
    return model([conv("c", "x", "y", "w"), *more], {"w": weights(2, 3, 2, 5)}, shape)


def recursive():
    proto = plain()
    inner = [helper.make_node("f", ["a"], ["r"], domain="own")]
    proto.functions.append(helper.make_function("own", "f", ["a"], ["r"], inner, [helper.make_opsetid("own", 1)]))
    proto.opset_import.append(helper.make_opsetid("own", 1))
    proto.graph.node.append(helper.make_node("f", ["y"], ["z"], domain="own"))
    return proto


HOSTILE = {
    "wrong magic": lambda: b"PK\x03\x04 this is a zip file, is it not",
    "empty": lambda: b"",
    "text": lambda: b"hello\n" * 999,
    "truncated": lambda: plain().SerializeToString()[:-40],
    "no graph": lambda: onnx.ModelProto(ir_version=9).SerializeToString(),
    "cyclic": cyclic,
    "deep nesting": nested,
    "multiplying functions": multiplying,
    "10**9 elements of input": lambda: single(shape=(10, 3, 10000, 10000)),
    "no element of input, 6**38 beside": lambda: single(shape=(0, 3, *[6] * 38)),
    "84 axes": lambda: model([helper.make_node("Relu", ["x"], ["y"])], {}, [1] * 84),
    "10**9 elements of weight": huge_weight,
    "10**9 elements made when run": huge_constant,
    "10**18 elements of output": lambda: model(
        [conv("c", "x", "y", "w", pads=[1 << 62, 0, 0, 0])], {"w": weights(2, 3, 2, 5)}
    ),
    "negative pads": lambda: model([conv("c", "x", "y", "w", pads=[-1, 0, 0, 0])], {"w": weights(2, 3, 2, 5)}),
    "zero stride": lambda: model([conv("c", "x", "y", "w", strides=[0, 1])], {"w": weights(2, 3, 2, 5)}),
    "negative dilation": lambda: model([conv("c", "x", "y", "w", dilations=[-1, 1])], {"w": weights(2, 3, 2, 5)}),
    "zero groups": lambda: model([conv("c", "x", "y", "w", group=0)], {"w": weights(2, 3, 2, 5)}),
    "duplicated outputs": lambda: single(conv("d", "x", "y", "w")),
    "negative axis": lambda: model([conv("c", "x", "y", "w")], {"w": weights(2, 3, 2, 5)}, (1, 3, -5, 9)),
    "function that calls itself": recursive,
    "absolute path": lambda: with_external("/etc/passwd", length=240),
    "two dots": lambda: with_external("../secret.bin"),
    "hidden two dots": lambda: with_external("a/../../secret.bin"),
    "memory address": lambda: with_external("*/_ORT_MEM_ADDR_/*", offset=4096, length=240),
    "link": lambda: with_external("link.bin"),
    "linked folder": lambda: with_external("linked/secret.bin"),
    "hard link": lambda: with_external("hard.bin"),
    "pipe": lambda: with_external("pipe"),
    "offset beyond the end": lambda: with_external("data.bin", offset=200),
    "negative offset": lambda: with_external("data.bin", offset=-8),
    "wrong length": lambda: with_external("data.bin", length=8),
    **{
        f"two dots in {place}": partial(with_external, "../secret.bin", place)
        for place in ("attribute", "subgraph", "function", "sparse")
    },
}


OUTSIDE = "must be a file below the model's folder"
WORDS = {
    "wrong magic": "no ONNX model",
    "empty": "no ONNX model",
    "text": "no ONNX model",
    "truncated": "no ONNX model",
    "no graph": "no graph",
    "cyclic": "topologically sorted|not output of any previous",
    "deep nesting": "no ONNX model|nested",
    "multiplying functions": "more than 200000 nodes",
    "10**9 elements of input": "too large to be made up",
    "no element of input, 6**38 beside": "too large to be made up",
    "84 axes": "84 axes, more than the 64",
    "10**9 elements of weight": "w",
    "10**9 elements made when run": "more memory than is allowed",
    "10**18 elements of output": "more memory than is allowed",
    "negative pads": "must not be negative",
    "zero stride": "strides=.* must be positive",
    "negative dilation": "dilations=.* must be positive",
    "zero groups": "group=.* must be positive",
    "duplicated outputs": "SSA",
    "negative axis": "negative axis",
    "function that calls itself": "calls itself|recursi|no node|cycl",
    "absolute path": OUTSIDE,
    "two dots": OUTSIDE,
    "hidden two dots": OUTSIDE,
    "memory address": "No such file",
    "link": "links are not followed",
    "linked folder": "links are not followed",
    "hard link": "hard links",
    "pipe": "no plain file|cannot|links",
    "offset beyond the end": "ends .* bytes too early",
    "negative offset": "240|-8|offset",
    "wrong length": "8 bytes are named",
    **{f"two dots in {place}": OUTSIDE for place in ("attribute", "subgraph", "function", "sparse")},
}


@pytest.fixture
def place(tmp_path):
    """A folder with a secret beside it, and every way that leads there."""
    (tmp_path / "secret.bin").write_bytes(bytes(240))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "data.bin").write_bytes(weights(2, 3, 2, 5).tobytes())
    (folder / "link.bin").symlink_to("../secret.bin")
    (folder / "linked").symlink_to("..")
    os.link(tmp_path / "secret.bin", folder / "hard.bin")
    os.mkfifo(folder / "pipe")
    return folder


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
        proto = inline_functions.inlined(untrusted.load(write(with_external("data.bin", where), place)))
        assert b"data.bin" not in proto.SerializeToString()
        assert all(not t.external_data and t.data_location == TensorProto.DEFAULT for t in untrusted.tensors(proto))


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


def endless_loop():
    """A convolution, and a loop whose condition stays true."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["v", "v"], ["twice"])], "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_value_info("v", TensorProto.FLOAT, [1, 2, 7, 5])],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []),
         helper.make_tensor_value_info("twice", TensorProto.FLOAT, [1, 2, 7, 5])],
    )  # fmt: skip
    nodes = [conv("c", "x", "v0", "w"), helper.make_node("Loop", ["", "true", "v0"], ["y"], body=body)]
    return model(nodes, {"w": weights(2, 3, 2, 5), "true": np.array(True)}, (1, 3, 8, 9))


def descendants(process):
    children = Path(f"/proc/{process}/task/{process}/children")
    found = [int(child) for child in children.read_text().split()] if children.exists() else []
    return [*found, *(one for child in found for one in descendants(child))]


def running(process):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def until(condition, patience):
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, f"it did not happen within {patience} s"
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_endless_audit_ends_with_the_process_that_asked_for_it_and_leaves_no_folder(number, tmp_path):
    path = saved(endless_loop(), tmp_path / "endless.onnx")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(temporary)}
    parent = subprocess.Popen([sys.executable, "-c", ENDLESS, str(path)], env=environment)
    try:
        until(lambda: len(descendants(parent.pid)) >= 2, 60)  # the reaper and the audit
        audit = descendants(parent.pid)[1]
        until(lambda: int(Path(f"/proc/{audit}/stat").read_text().rpartition(")")[2].split()[11]) > 300, 120)
        family = descendants(parent.pid)
        assert list(temporary.glob("convspec-*"))
    finally:
        parent.send_signal(number)
        assert parent.wait() == -number
    until(lambda: not any(map(running, family)) and not list(temporary.glob("convspec-*")), 10)


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
        "honest = graph.convs\n"
        "def convs(model):\n"
        "    found = honest(model)\n"
        "    if any(c.spec and c.spec.stride == (1, 2) for c in found):\n"
        "        raise ValueError('planted')\n"
        "    if any(c.owners for c in found):\n"
        "        os.abort()\n"
        "    return found\n"
        "graph.convs = convs\n"
    )
    path = os.pathsep.join([str(broken.parent), *sys.path])
    done = fuzzed(tmp_path, "100", "--seed", "7", env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 1
    assert "FIND ValueError: planted" in done.stdout
    assert "died with status -6" in done.stdout
    assert list(tmp_path.glob("batch-*/find-*.onnx"))
    assert list(tmp_path.glob("batch-*/model.onnx"))  # what it died of
