"""The readers of the pack in C, Rust, JavaScript and Python: they pass it, and a faulty one fails."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from convspec.corpora import pack

ROOT = Path(__file__).parents[2]
READERS = ROOT / "vectors" / "readers"
SOURCES = {"c": "c/vectors.c", "rust": "rust/vectors.rs", "javascript": "javascript/vectors.mjs",
           "python": "python/vectors.py"}  # fmt: skip
TOOLS = {"c": "cc", "rust": "rustc", "javascript": "node", "python": sys.executable}
pytestmark = [pytest.mark.slow, pytest.mark.processes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("vectors") / "pack"
    pack.write(made, lambda _: {})
    return made


def built(source, target):
    """Return the command that runs a reader, built where it must be; skip where its compiler is not installed."""
    language = {".c": "c", ".rs": "rust", ".mjs": "javascript", ".py": "python"}[source.suffix]
    tool = shutil.which(TOOLS[language])
    if tool is None:
        pytest.skip(f"{TOOLS[language]} is not installed")
    if language in ("javascript", "python"):
        return [tool, str(source)]
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    flags = {"c": ["-O2", *strict, str(source), "-lm"], "rust": ["--edition", "2021", "-O", "-Dwarnings", str(source)]}
    made = subprocess.run([tool, *flags[language], "-o", str(target)], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return [str(target)]


def run(command, folder):
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False, env=environment)
    return done.returncode, (done.stdout.splitlines() or [done.stderr])[-1], done.stdout


@pytest.mark.parametrize("language", SOURCES)
def test_a_reader_passes_the_whole_pack(language, folder, tmp_path):
    command = built(READERS / SOURCES[language], tmp_path / "reader")
    total = len(list((folder / "vectors").iterdir()))
    assert run(command, folder) == (0, f"{total} vectors, 0 failed", f"{total} vectors, 0 failed\n")


@pytest.mark.parametrize("language", SOURCES)
def test_a_reader_notices_one_wrong_number_of_each_kind(language, folder, tmp_path):
    """The last byte of a file is that of its last result: y, bound, dbias, upper; of a refused one, a kernel's."""
    command = built(READERS / SOURCES[language], tmp_path / "reader")
    shutil.copytree(folder, tmp_path / "pack")
    kinds = {v.kind: v.id for v in pack.draw_vectors() if v.kind != "random" and (v.kind != "gradient" or v.spec.bias)}
    wrong = [name for kind, name in kinds.items() if kind != "refused"]
    for name in wrong:
        file = tmp_path / "pack" / "vectors" / f"{name}.bin"
        data = bytearray(file.read_bytes())
        data[-4:] = (-100_000).to_bytes(4, "little", signed=True)
        file.write_bytes(data)
    status, last, printed = run(command, tmp_path / "pack")
    assert status == 1
    assert last.endswith(f"vectors, {len(wrong)} failed")
    assert {line.split()[1].rstrip(":") for line in printed.splitlines() if line.startswith("FAILED")} == {*wrong}


@pytest.mark.parametrize("language", SOURCES)
def test_the_worked_example_tests_its_own_function(language, folder, tmp_path):
    source = READERS / SOURCES[language]
    command = built(source.with_stem("example"), tmp_path / "example")
    status, last, _ = run(command, folder)
    total, failed, unsupported = (int(part.split()[0]) for part in last.split(", "))
    assert (status, failed) == (0, 0)
    assert 20 <= total - unsupported < total


@pytest.mark.parametrize("language", SOURCES)
def test_a_reader_is_short(language):
    lines = (READERS / SOURCES[language]).read_text("utf-8").splitlines()
    assert len(lines) <= 200
    assert max(map(len, lines)) <= 120


def test_the_script_for_onnxruntime_web_can_be_parsed_and_knows_only_folders_of_the_pack():
    folder = ROOT / "vectors" / "onnxruntime-web"
    known = json.loads((folder / "known.json").read_text("utf-8"))
    assert known.keys() <= {v.id for v in pack.draw_vectors()}
    node = shutil.which("node") or pytest.skip("node is not installed")
    for script in (folder / "run.mjs", READERS / "javascript" / "example.mjs"):
        assert subprocess.run([node, "--check", str(script)], check=False).returncode == 0


def test_the_how_to_shows_this_pack(folder):
    text = (ROOT / "docs" / "how-to" / "test-a-runtime.md").read_text("utf-8")
    kinds = Counter(v.kind for v in pack.draw_vectors())
    for kind, number in kinds.items():
        assert f"| `{kind}` | {number} |" in text
    assert text.count(f"{kinds.total()} vectors, 0 failed") == 5
    hashes = json.loads((ROOT / "tests" / "golden" / "vector_packs.json").read_text("utf-8"))
    assert f"version {pack.VERSION}: {kinds.total()} vectors" in text
    assert hashes[str(pack.VERSION)] in text


# faults planted into the text of the C reader: what is there, and what stands in its place
FAULTS = {
    "stride forgotten": ("q = out * v->stride[a] + tap", "q = out + tap"),
    "dilation forgotten": ("+ tap * v->dilation[a] - v->pads[2 * a];", "+ tap - v->pads[2 * a];"),
    "pads after for pads before": ("v->dilation[a] - v->pads[2 * a];", "v->dilation[a] - v->pads[2 * a + 1];"),
    "windows run over the end": ("if (q >= 0 && q < n) return q;", "if (q >= 0 && q <= n) return q < n ? q : n - 1;"),
    "reflection repeats the edge": ("q = n - 1 - abs(n - 1 - abs(q));", "q = q < 0 ? -q - 1 : 2 * n - 1 - q;"),
    "circular as replicate": ('if (!strcmp(v->mode, "circular")) return (q % n + n) % n;', ""),
    "crop ignored": ("q = out + v->pads[2 * a] - tap", "q = out - tap"),
    "scatter without its phase": (" || q % v->stride[a] ? -1", " ? -1"),
    "groups ignored": ("long c = o / out * in + i", "long c = i"),
    "kernel of a transposed layer not transposed": ("v->transposed ? c * out + o % out", "0 ? c * out + o % out"),
    "bias by position": ("+= v->a[BIAS][o]", "+= v->a[BIAS][p[2] % v->out_channels]"),
    "layout ignored": ("return v->nhwc ? (n * cells", "return 0 ? (n * cells"),
    "never refuses": ("if (spare < 0 || (most", "if (0 && (most"),
    "zero point left out": ("v->a[X][i] - v->zeros[0]", "v->a[X][i]"),
    "rounded towards zero": ("floor(y[i] * v->a[SCALE][channel_of(v, i)] + 0.5)",
                             "trunc(y[i] * v->a[SCALE][channel_of(v, i)])"),
    "first scale for all": ("v->a[SCALE][channel_of(v, i)]", "v->a[SCALE][0]"),
    "sums in float": ("y[to] += x[from] * v->a[KERNEL][k]", "y[to] = (float)(y[to] + x[from] * v->a[KERNEL][k])"),
    "kernel in half precision": ("y[to] += x[from] * v->a[KERNEL][k]",
                                 "y[to] += x[from] * (rint(v->a[KERNEL][k] * 1024) / 1024)"),
    "kernel gradient overwritten": ("dw[k] += dy[to] * x[from]", "dw[k] = dy[to] * x[from]"),
}  # fmt: skip


def test_each_fault_compiled_into_the_c_reader_is_caught(folder, tmp_path):
    text = (READERS / SOURCES["c"]).read_text("utf-8")
    passed = {}
    for name, (right, wrong) in FAULTS.items():
        assert text.count(right) == 1, name
        source = tmp_path / "faulty.c"
        source.write_text(text.replace(right, wrong).replace("-Werror", ""))
        tool = shutil.which("cc") or pytest.skip("cc is not installed")
        subprocess.run([tool, "-std=c99", "-O1", str(source), "-lm", "-o", str(tmp_path / "faulty")], check=True)
        status, last, _ = run([str(tmp_path / "faulty")], folder)
        if status != 1:
            passed[name] = last
    assert not passed
