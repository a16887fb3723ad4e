"""The running audit of a long graph holds a few of its tensors at a time, not all that it has seen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
from onnx import helper

from tests.adapters.onnx.verifying import conv, model, saved

pytestmark = [
    pytest.mark.onnx,
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is Linux's"),
]

SHAPE = (1, 2, 1024, 1024)  # 8 MiB
LONG, SHORT = 150, 24  # convolutions; the oracle takes a third of a second for each
BOUND = 700  # MiB

AUDIT = """
import json, sys
from pathlib import Path
from convspec_onnx import audit
from convspec_onnx.verify import capture

path, folder, against, segment = sys.argv[1:]
if segment == "all":
    capture._CONVS = capture._NODES = capture._BYTES = 1 << 40
messages = []
request = {"path": path, "levels": ["off"], "oracle": not against, "against": against, "folder": folder}
audit.audit(request, messages.append)
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
verdicts = [message["verdict"] for message in messages if "verdict" in message]
broken = [message for message in messages if "broken" in message]
print(json.dumps({"peak": int(peak.split()[1]) >> 10, "verdicts": verdicts, "broken": broken}))
"""


def chain(count, path):
    """Convolutions in a row, every tenth of which is added to what stood ten before it."""
    nodes, tensors, name, skipped = [], {}, "x", ""
    for place in range(count):
        tensors[f"w{place}"] = np.float32([1.0, -0.5]).reshape(2, 1, 1, 1) * (-1) ** place
        nodes.append(conv(f"c{place}", name, f"t{place}", f"w{place}", group=2))
        name = f"t{place}"
        if place % 10 == 9:
            if skipped:
                nodes.append(helper.make_node("Add", [name, skipped], [f"s{place}"]))
                name = f"s{place}"
            skipped = name
    nodes.append(helper.make_node("Identity", [name], ["y"]))
    return saved(model(nodes, tensors, SHAPE), path)


def peak(path, *, against="", segment=""):
    """MiB that the audit takes at most, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", AUDIT, str(path), str(path.parent), str(against), segment],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert (set(found["verdicts"]), found["broken"]) == ({"agree"}, [])
    assert len(found["verdicts"]) == int(path.stem)
    return found["peak"]


def test_a_long_graph_is_run_in_bounded_memory_and_else_it_would_be_seen(tmp_path):
    written = LONG * int(np.prod(SHAPE)) * 4 >> 20
    assert written > 1024
    path = chain(LONG, tmp_path / f"{LONG}.onnx")
    assert peak(path, against=path) < BOUND
    assert peak(path, against=path, segment="all") > written > BOUND


def test_so_is_the_oracle(tmp_path):
    """In float64 it holds the output and its magnitude: of all nodes together, that would be too much."""
    assert SHORT * int(np.prod(SHAPE)) * 2 * 8 >> 20 > BOUND
    assert peak(chain(SHORT, tmp_path / f"{SHORT}.onnx")) < BOUND
