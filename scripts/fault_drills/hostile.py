"""Drills on input that means harm: texts, specs, files and graphs end in words, and nothing in them runs."""

from __future__ import annotations

import io
import json
import pickle
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fault_drills.bench import ROOT, Bench, Done, Running, Trial
from fault_drills.interruptions import write_corpus
from fault_drills.storage import LAYER, VALUES

_FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
TEXTS = (
    "", " ", "x", "(", ")", "nn.Conv2d", "nn.Conv2d(", "nn.Conv2d()", "nn.Conv2d(3, 16, 3", "{}", "[]", "[[]]",
    "nn.Conv2d(3,16,3,)", "{", "null", "nn.Conv2d(*[3, 16, 3])",
    "nn.Conv2d(**{})", "nn.Conv2d(3, 16, 3, **{'stride': 2})",
    "__import__('os').system('touch owned')", "nn.Conv2d(__import__('os').system('touch owned'), 1, 1)",
    "nn.Conv2d(open('owned', 'w'), 1, 1)", "(lambda: nn.Conv2d(3, 16, 3))()", "nn.Conv2d(3, 16, 3).__class__",
    "nn.Conv2d(1 << 9999999, 1, 1)", "nn.Conv2d(9 ** 9 ** 9, 1, 1)", "nn.Conv2d(3, 16, 3, stride=1e400)",
    "nn.Conv2d(3, 16, 3, stride=nan)", "nn.Conv2d(3, 16, -3)", "nn.Conv2d(0, 0, 0)", "nn.Conv2d(3, 16, 3, groups=0)",
    "nn.Conv2d(3, 16, '3')", "nn.Conv2d(3, 16, None)", "nn.Conv2d(3, 16, [[3]])", "nn.Conv2d(3, 16, (3, 3, 3, 3))",
    "nn.Conv2d(True, False, None)", "nn.Conv2d(3, 16, 3, padding='\x1b[31m')", "nn.\u202eConv2d(3, 16, 3)", "\x00",
    "nn.Conv2d(3, 16, 3)\x00", "\ufeffnn.Conv2d(3, 16, 3)", "nn.Conv2d(3, 16, 3) # \x1b]0;owned\x07",
    "ｎｎ.Conv2d(3, 16, 3)",
    "(" * 5000, "[" * 100000, "{" * 100000, "nn.Conv2d(" + "(" * 200 + "3" + ")" * 200 + ", 16, 3)", "-" * 50000 + "1",
    "nn.Conv2d(" + "9" * 5000 + ", 16, 3)", "nn.Conv2d(3, 16, 3, " + "a" * 20000 + "=1)",
    "a." * 10000 + "Conv2d(3, 16, 3)",
    "f'{nn.Conv2d(3, 16, 3)}'", "nn.Conv2d(3, 16, 3); import os", "import os\nnn.Conv2d(3, 16, 3)",
    "nn.Conv2d(3,\n16,\n3)",
    "keras.layers.Conv2D(16, 3, padding=7)", "keras.layers.Conv2D(16, 3, data_format='x')", "nnx.Conv(3, 16, 3)",
    "helper.make_node('Conv')", "tf.nn.conv2d(x, w)", "nn.Conv2d(3, 16, 3)(x)(y)(z)", "await nn.Conv2d(3, 16, 3)",
    "nn.Conv2d(x for x in y)", "nn.Conv2d(3, 16, 3 if 1 else 2)", "nn.Conv2d(3, 16, ...)", "\udc80\udcff",
)  # fmt: skip
FIELDS = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias",
          "padding_mode", "transposed", "output_padding", "strides")  # fmt: skip


class _Bomb:
    """A pickle that makes a file when it is opened."""

    def __init__(self, owned: Path) -> None:
        self.owned = owned

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return open, (str(self.owned), "w")


def _clean(done: Done, statuses: set[int], owned: Path) -> str:
    """Return what is wrong: the end of the command, text that a terminal obeys, or code of the input that has run."""
    if problem := done.problem(statuses):
        return problem
    if found := _FORBIDDEN.search(done.out + done.err):
        return f"{found[0]!r} reaches the terminal"
    return "the input's code has run" if owned.exists() else ""


def texts(bench: Bench) -> Iterator[Trial]:
    """Constructor texts, and JSON specs with every field spoilt."""
    owned, requests = bench.folder / "owned", []
    for text in bench.chosen(TEXTS, 20):
        requests += [["show", "--", text], ["source", "--to", "keras", "--", text]]
    plain = {"in_channels": 4, "out_channels": 8, "kernel_size": [3, 5], "groups": 2}
    for name in FIELDS:
        for value in bench.chosen(VALUES, 2):
            requests.append(["show", json.dumps({**plain, name: value}), "--input", "1,4,9,11"])
    for number in range(bench.count(300, 20)):
        at = bench.chance.randrange(len(LAYER))
        letters = "()[]{},.=*'\"\\#\x1b\u202e0 \n-"
        text = LAYER[:at] + bench.chance.choice(letters) + LAYER[at + number % 3 :]
        requests.append(["show", "--input", "1,3,9,9", "--", text])
    for request, done in zip(requests, bench.many(requests), strict=True):
        yield Trial(f"{request[0]} {request[-1]!r:.60}", _clean(done, {0, 2}, owned))


def reports(bench: Bench) -> Iterator[Trial]:
    """Reports and cases with escape sequences in every text."""
    write_corpus(bench.folder / "cases.jsonl", 18)
    words = ("--corpus", "cases.jsonl", "--adapters", "convspec_fakes:WRONG_NUMBERS,convspec_fakes:RAISES")
    done = bench.run("check", "-j", "1", *words, "--json", "saved.json")
    yield Trial("the run before", done.problem({1}))
    document, requests = json.loads((bench.folder / "saved.json").read_text("utf-8")), []
    document["results"] = list({(one["adapter"], one["verdict"]): one for one in document["results"]}.values())
    paths = bench.chosen(_texts(document), 15)
    for number, path in enumerate(paths):
        copy = json.loads(json.dumps(document))
        inner = copy
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] += "\x1b[31m\u202e\x00\x9b31m\nFORGED\x07"
        file = bench.folder / f"poisoned-{number}.json"
        file.write_text(json.dumps(copy), "utf-8")
        requests.append(["report", str(file), "--markdown", str(file.with_suffix(".md"))])
    for path, done in zip(paths, bench.many(requests), strict=True):
        yield Trial(f"report, {'.'.join(map(str, path))}", _clean(done, {0, 1, 2}, bench.folder / "owned"))


def _texts(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """Yield the path of every text in a document."""
    if isinstance(value, str):
        yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in pairs:
        yield from _texts(entry, (*path, key))


def files(bench: Bench) -> Iterator[Trial]:
    """Arrays and models in files: pickles, archives that are torn or lie, and graphs."""
    owned = bench.folder / "owned"
    for name, content in bench.chosen(_array_files(bench).items(), 4):
        file = bench.folder / f"arrays{Path(name).suffix}"
        file.write_bytes(content)
        done = bench.run("diagnose", LAYER, str(file))
        yield Trial(f"diagnose, {name}", _clean(done, {0, 1, 2}, owned))
    for name, content in bench.chosen(_model_files(bench).items(), 1):
        file = bench.folder / f"model-{name.replace(' ', '-')}"
        file.write_bytes(content)
        done = bench.run("compare", str(file), str(file), "--shape", "1,3,8,8")
        yield Trial(f"compare, {name}", _clean(done, {2}, owned))
    yield from _hostile_graphs(bench)


def _archive(entries: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode("latin-1")
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def _array_files(bench: Bench) -> dict[str, bytes]:
    bomb, stream = pickle.dumps(_Bomb(bench.folder / "owned")), io.BytesIO()
    np.savez(stream, allow_pickle=False, x=np.ones((1, 3, 9, 9), np.float32), y=np.ones((1, 16, 5, 5), np.float32))
    good = stream.getvalue()
    objects = _npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", bomb)
    huge = _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }\n")
    return {
        "empty.npz": b"", "text.npz": b"hello", "pickle.npz": bomb, "torn.npz": good[:-100], "whole.npz": good,
        "objects.npy": objects, "objects.npz": _archive({"x.npy": objects}), "huge.npy": huge,
        "huge.npz": _archive({"x.npy": huge}), "inflated.npz": _archive({"x.npy": bytes(300 << 20)}),
        "strange.npy": _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2), }\n"),
        "code.npy": _npy("__import__('os').system('touch owned')\n"), "names.npz": _archive({"../../x\x1b.npy": b"1"}),
        **{f"flipped-{n}.npz": _flipped(bench, good, 3) for n in range(8)},
    }  # fmt: skip


def _flipped(bench: Bench, content: bytes, times: int) -> bytes:
    changed = bytearray(content)
    for _ in range(times):
        changed[bench.chance.randrange(len(changed))] = bench.chance.randrange(256)
    return bytes(changed)


def _model_files(bench: Bench) -> dict[str, bytes]:
    bomb = pickle.dumps(_Bomb(bench.folder / "owned"))
    config = json.dumps({"class_name": "Lambda", "config": {"function": "touch owned"}, "module": "os"}).encode()
    return {
        "empty.pt": b"", "pickle.pt": bomb, "state.pt": _archive({"archive/data.pkl": bomb, "archive/version": b"3\n"}),
        "torn.pt": _archive({"archive/data.pkl": bomb})[:-30], "empty.keras": b"", "text.keras": b"hello",
        "lambda.keras": _archive({"config.json": config, "metadata.json": b"{}"}),
        "deep.keras": _archive({"config.json": b"[" * 100000}), "pickle.pt2": bomb,
        "empty.pt2": _archive({"version": b"1"}), "no.onnx": b"hello", "wrong.name": b"hello",
    }  # fmt: skip


# -- graphs ------------------------------------------------------------------------------------------------------------


def _hostile_graphs(bench: Bench) -> Iterator[Trial]:
    try:
        from tests.adapters.onnx.hostile import HOSTILE, trap
    except ImportError as error:
        bench.skipped.append(f"no graph was verified: {error}")
        return
    place = trap(bench.folder)
    for name, make in bench.chosen(HOSTILE.items(), 1):
        content, path = make(), place / "model.onnx"
        path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
        done = bench.run("verify", str(path), "--timeout", "60")
        yield Trial(f"verify, {name}", _clean(done, {2}, bench.folder / "owned"))


def graphs(bench: Bench) -> Iterator[Trial]:
    """Mutated ONNX graphs: bytes and protobuf fields, each audited, and some by the command."""
    try:
        import fuzz_verify

        originals = fuzz_verify.seeds()
    except ImportError as error:
        bench.skipped.append(f"no graph was mutated: {error}")
        return
    for against in ([], ["--against"]):
        number = bench.count(500, 40)
        words = [sys.executable, str(ROOT / "scripts" / "fuzz_verify.py"), str(number), *against, "--keep", "kept"]
        done = Running([*words, "--seed", str(bench.chance.randrange(10**6))], bench.folder, {}).end(5 * number + 120)
        finds = [line for line in done.out.splitlines() if line.startswith("batch ")]
        problem = "" if done.status == 0 or finds else done.problem({0})
        tried = re.search(r"^(\d+) inputs in", done.out, re.M)
        count = int(tried[1]) if tried else number
        yield from (Trial(f"audit {' '.join(against)}", line) for line in finds or [problem] * bool(problem))
        yield from [Trial(f"audit {' '.join(against)}", "")] * (count - len(finds or [problem] * bool(problem)))
    for number in range(bench.count(40, 1)):
        path = bench.folder / f"mutated-{number}.onnx"
        path.write_bytes(_flipped(bench, bench.chance.choice(originals), bench.chance.choice((1, 2, 5))))
        done = bench.run("verify", str(path), "--timeout", "60")
        yield Trial(f"verify, flipped {number}", _clean(done, {0, 1, 2}, bench.folder / "owned"))
