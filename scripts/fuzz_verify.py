# ruff: noqa: T201 – a script for people
"""Throw damaged models at the audit: every one must end in a report or in one of the project's own errors.

    python scripts/fuzz_verify.py 50000 --seed 0

Inputs are small models whose bytes are changed, cut, repeated and swapped. They are audited in child processes with
limits; one that dies is a find.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BATCH = 500


def seeds() -> list[bytes]:
    """Small models with much of what a graph can have: bodies, functions, attributes, external data."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    def info(name: str, *shape: int | str) -> object:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))

    w = numpy_helper.from_array(np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), "w")
    plain = helper.make_node(
        "Conv", ["x", "w"], ["y"], "c", pads=[0, 1, 1, 0], strides=[1, 2], dilations=[1, 1], group=1
    )
    branch = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["b"], "in")], "b", [], [info("b", 1, 2, "h", "w")]
    )
    other = helper.make_graph([helper.make_node("Identity", ["z"], ["i"], "id")], "o", [], [info("i", 1, 2, "h", "w")])
    flag = numpy_helper.from_array(np.array(True), "flag")
    choice = helper.make_node("If", ["flag"], ["y"], "if", then_branch=branch, else_branch=other)
    zeros = numpy_helper.from_array(np.zeros((1, 2, 5, 6), np.float32), "z")
    function = helper.make_function(
        "own", "f", ["a"], ["r"], [helper.make_node("Conv", ["a", "k"], ["r"]), helper.make_node("Relu", ["r"], ["s"])],
        [helper.make_opsetid("", 19)],
    )  # fmt: skip
    call = helper.make_node("f", ["x"], ["y"], "call", domain="own")
    outside = TensorProto(name="w", data_type=1, dims=[2, 3, 2, 2], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "w.bin"), ("offset", "0"), ("length", "96")):
        outside.external_data.add(key=key, value=value)
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("own", 1)]
    found = []
    for nodes, tensors, functions in (
        ([plain], [w], []), ([choice], [w, flag, zeros], []), ([call], [w], [function]), ([plain], [outside], []),
    ):  # fmt: skip
        graph = helper.make_graph(nodes, "g", [info("x", 1, 3, 6, "n")], [info("y", 1, 2, "p", "q")], tensors)
        model = helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=9)
        found.append(model.SerializeToString())
    return found


def damaged(rng: random.Random, originals: list[bytes]) -> bytes:
    """One of the originals with a few accidents."""
    content = bytearray(rng.choice(originals))
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        kind, at = rng.randrange(7), rng.randrange(len(content) + 1)
        if kind == 0 and at < len(content):
            content[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(content):
            content[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            del content[at : at + rng.choice((1, 2, 9, 99))]
        elif kind == 3:
            content[at:at] = rng.randbytes(rng.choice((1, 4, 30)))
        elif kind == 4:
            piece = content[at : at + rng.randrange(1, 60)]
            content[at:at] = piece * rng.choice((1, 2, 50))
        elif kind == 5:
            content = content[:at] if rng.random() < 0.3 else content
        else:
            other = rng.choice(originals)
            start = rng.randrange(len(other))
            content[at : at + rng.randrange(40)] = other[start : start + rng.randrange(1, 80)]
        content = content or bytearray(b"\0")
    return bytes(content)


def child(seed: int, first: int, count: int) -> None:
    """Audit some inputs, saying each one's number before it is touched."""
    from convspec_onnx import audit

    from convspec.errors import ConvspecError

    audit.limit(1 << 30)
    originals = seeds()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        (Path(folder) / "w.bin").write_bytes(bytes(96))
        for number in range(first, first + count):
            content = damaged(random.Random(f"{seed} {number}"), originals)
            path.write_bytes(content)
            print(number, flush=True)
            outcome = "audited"
            try:
                audit.audit({"path": str(path), "levels": ["off"]}, lambda _: None)
            except (ConvspecError, MemoryError, RecursionError) as error:
                outcome = type(error).__name__
            except Exception as error:  # noqa: BLE001 – this is what the fuzzer looks for
                outcome = f"FIND {type(error).__name__}: {error}"[:300]
            print(json.dumps(outcome), flush=True)


def main() -> int:
    """Run all batches; returns 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=int)
    options = parser.parse_args()
    if options.child is not None:
        child(options.seed, options.child, options.count)
        return 0
    began, first, finds = time.monotonic(), 0, []
    counts: dict[str, int] = {}
    while first < options.count:
        size = min(BATCH, options.count - first)
        command = [sys.executable, __file__, str(size), "--seed", str(options.seed), "--child", str(first)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
        lines = done.stdout.split("\n")[:-1]
        numbers, outcomes = [int(n) for n in lines[::2]], [json.loads(o) for o in lines[1::2]]
        for number, outcome in zip(numbers, outcomes, strict=False):
            counts[outcome.split(":")[0]] = counts.get(outcome.split(":")[0], 0) + 1
            finds += [(number, outcome)] if outcome.startswith("FIND") else []
        if done.returncode or len(outcomes) < size:
            last = numbers[-1] if numbers else first
            finds.append((last, f"died with status {done.returncode}: {done.stderr[-300:]}"))
            first = last + 1
        else:
            first += size
    for number, text in finds:
        print(f"{number}: {text}")
    print(f"{options.count} inputs in {time.monotonic() - began:.0f} s: {counts}; {len(finds)} finds")
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main())
