# ruff: noqa: T201 – a script for people
"""Fuzz the audit with damaged models: each must end in a report or in one of the project's own errors.

    python scripts/fuzz_verify.py 50000 --seed 0
    python scripts/fuzz_verify.py 50000 --seed 0 --against

Hypothesis draws mutations of small models: fields of the protobuf message, at any depth, are dropped, repeated,
swapped, nested in themselves or copied from another model; numbers and texts are replaced by known troublemakers; bytes
are changed, cut and inserted. The audits run in child processes with limits. A child that dies is a find, and so is any
error that is not the project's own; the model that caused it stays in ``--keep``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

BATCH = 500
MEMORY = 1 << 30
NUMBERS = (0, 1, 2, 3, 7, 127, 255, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
TEXTS = (
    b"", b"x", b"w", b"y", b"c", b"Conv", b"ConvTranspose", b"If", b"Loop", b"Scan", b"QLinearConv", b"f",
    b"SAME_UPPER", b"pads", b"group", b"w.bin", b"../w.bin", b"/etc/passwd", b"a" * 5000, b"\xff\xfe", b"\x00",
    b"\x1b[31m", b"own",
)  # fmt: skip
VARINT, EIGHT, LENGTH, FOUR = 0, 1, 2, 5


class Field(NamedTuple):
    """One field of an encoded message; ``value`` is a number, bytes, or the fields of a nested message."""

    number: int
    wire: int
    value: Any


def seeds() -> list[bytes]:
    """Return small models with bodies, functions, attributes and external data."""
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
    return [*found, parts()]


def parts() -> bytes:
    """Return the layer of :func:`source` split into one convolution per group; some shapes are computed."""
    import numpy as np
    from onnx import helper

    nodes = [
        helper.make_node("Shape", ["x"], ["first"], start=0, end=1),
        helper.make_node("Mod", ["five", "two"], ["one"]),
        helper.make_node("Concat", ["first", "one", "two", "two"], ["kernel"], axis=0),
        helper.make_node("Reshape", ["v", "kernel"], ["w0"]),
        helper.make_node("Split", ["x", "sizes"], ["x0", "x1", "x2"], axis=1),
        *(helper.make_node("Conv", [f"x{n}", f"w{n}"], [f"y{n}"], f"part{n}") for n in range(3)),
        helper.make_node("Concat", ["y0", "y1", "y2"], ["z"], "join", axis=1),
        helper.make_node("Concat", ["one", "three", "first", "one"], ["vector"], axis=0),
        helper.make_node("Reshape", ["b", "vector"], ["c"]),
        helper.make_node("Add", ["z", "c"], ["y"]),
    ]
    numbers = {"sizes": [1, 1, 1], "two": [2], "three": [3], "five": [5]}
    kernel = np.arange(12, dtype=np.float32).reshape(3, 1, 2, 2)
    weights = {"v": kernel[0].reshape(-1), "w1": kernel[1:2], "w2": kernel[2:], "b": np.float32([1, 2, 3])}
    return _model(nodes, weights | {name: np.array(value) for name, value in numbers.items()})


def source() -> bytes:
    """Return a grouped layer, the source that models are compared with."""
    import numpy as np
    from onnx import helper

    kernel = np.arange(12, dtype=np.float32).reshape(3, 1, 2, 2)
    return _model(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"], "c", group=3)], {"w": kernel, "b": np.float32([1, 2, 3])}
    )


def _model(nodes: list[Any], arrays: dict[str, Any]) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 6, 7])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, "h", "w"])
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(a, name) for name, a in arrays.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    return bytes(model.SerializeToString())


# -- the wire format ---


def varint(n: int) -> bytes:
    """Encode a number of at most 64 bits as protobuf does."""
    found = bytearray()
    while n >= 0x80:
        found.append(n & 0x7F | 0x80)
        n >>= 7
    found.append(n)
    return bytes(found)


def _number(data: bytes, at: int) -> tuple[int, int]:
    found = shift = 0
    while True:
        byte = data[at]
        at, found, shift = at + 1, found | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return found & (2**64 - 1), at


def parse(data: bytes) -> list[Field] | None:
    """Return the fields of a message, nested messages parsed if possible; None if it is not a message."""
    found, at = [], 0
    try:
        while at < len(data):
            key, at = _number(data, at)
            number, wire = key >> 3, key & 7
            if wire == VARINT:
                value, at = _number(data, at)
            elif wire in (EIGHT, FOUR):
                size = 8 if wire == EIGHT else 4
                value, at = data[at : at + size], at + size
            elif wire == LENGTH:
                size, at = _number(data, at)
                raw, at = data[at : at + size], at + size
                value = parse(raw) or raw
            else:
                return None
            if not number or at > len(data):
                return None
            found.append(Field(number, wire, value))
    except IndexError:
        return None
    return found


def serialize(fields: list[Field]) -> bytes:
    """Encode the fields as a message."""
    parts = []
    for number, wire, value in fields:
        content = serialize(value) if isinstance(value, list) else value
        content = varint(content) if wire == VARINT else content
        parts += [varint(number << 3 | wire), varint(len(content)) if wire == LENGTH else b"", content]
    return b"".join(parts)


def messages(fields: list[Field]) -> Iterator[list[Field]]:
    """Yield every message in a message, itself first."""
    yield fields
    for field in fields:
        if isinstance(field.value, list):
            yield from messages(field.value)


# -- mutations ---


def replace_value(field: Field) -> st.SearchStrategy[Field]:
    """Draw the field with another value of its type."""
    if field.wire == VARINT:
        values = st.sampled_from(NUMBERS) | st.integers(0, 2**64 - 1) | st.just(field.value ^ 1)
    elif field.wire == LENGTH:
        values = st.sampled_from(TEXTS) | st.binary(max_size=60)
    else:
        values = st.binary(min_size=len(field.value), max_size=len(field.value))
    return values.map(lambda value: field._replace(value=value))


@st.composite
def mutate_fields(draw: st.DrawFn, content: bytes, originals: tuple[bytes, ...]) -> bytes:
    """Draw a message with one mutation of one of its fields, at any depth."""
    tree = parse(content)
    if not tree:
        return content
    fields = draw(st.sampled_from([message for message in messages(tree) if message]))
    at = draw(st.integers(0, len(fields) - 1))
    field = fields[at]
    kind = draw(st.sampled_from(("replace", "replace", "drop", "repeat", "swap", "nest", "renumber", "graft")))
    if kind == "replace":
        fields[at] = draw(replace_value(field))
    elif kind == "drop":
        del fields[at]
    elif kind == "repeat":
        fields[at:at] = [field] * draw(st.sampled_from((1, 2, 40)))
    elif kind == "swap":
        other = draw(st.integers(0, len(fields) - 1))
        fields[at], fields[other] = fields[other], field
    elif kind == "nest" and isinstance(field.value, list):
        for _ in range(draw(st.sampled_from((1, 3, 60)))):
            field = field._replace(value=[*field.value[:3], field])
        fields[at] = field
    elif kind == "renumber":
        fields[at] = field._replace(number=draw(st.integers(1, 40)))
    elif kind == "graft":
        other_tree = parse(draw(st.sampled_from(originals))) or []
        donors = [f for message in messages(other_tree) for f in message if f.number == field.number]
        fields[at] = draw(st.sampled_from(donors)) if donors else field
    return serialize(tree)


@st.composite
def mutate_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Draw a message with one mutation of its bytes."""
    at = draw(st.integers(0, len(content)))
    kind = draw(st.sampled_from(("byte", "cut", "insert", "truncate", "repeat")))
    if kind == "byte":
        return content[:at] + draw(st.binary(min_size=1, max_size=1)) + content[at + 1 :]
    if kind == "cut":
        return content[:at] + content[at + draw(st.sampled_from((1, 2, 9, 99))) :]
    if kind == "insert":
        return content[:at] + draw(st.binary(min_size=1, max_size=30)) + content[at:]
    if kind == "repeat":
        piece = content[at : at + draw(st.integers(1, 60))]
        return content[:at] + piece * draw(st.sampled_from((2, 50))) + content[at:]
    return content[:at]


@st.composite
def damage(draw: st.DrawFn, originals: tuple[bytes, ...]) -> bytes:
    """Draw one of the originals with a few mutations, most of them of fields."""
    content = draw(st.sampled_from(originals))
    for _ in range(draw(st.sampled_from((1, 1, 2, 3, 6)))):
        content = draw(mutate_fields(content, originals) if draw(st.integers(0, 3)) else mutate_bytes(content))
    return content


# -- runs ---


def child(batch: int, count: int, keep: Path, *, against: bool) -> None:
    """Audit some models and print one outcome per line; the current model lies in ``keep``."""
    from convspec_onnx import audit
    from convspec_onnx.source import compare

    from convspec.contract.isolation import limit_memory
    from convspec.errors import ConvspecError

    limit_memory(MEMORY)
    compare._SECONDS = 0.02  # of the search for pairs of mistakes in one node
    originals = tuple(seeds())
    folder = keep / f"batch-{batch}"
    folder.mkdir(parents=True)
    path = folder / "model.onnx"
    (folder / "w.bin").write_bytes(bytes(96))
    request = {"path": str(path), "levels": ["off"], "folder": str(folder)}
    if against:
        request["against"] = str(folder / "source.onnx")
        (folder / "source.onnx").write_bytes(source())

    def once(content: bytes) -> None:
        path.write_bytes(content)
        outcome = "audited"
        try:
            audit.audit(request, lambda _: None)
        except (ConvspecError, MemoryError, RecursionError) as error:
            outcome = type(error).__name__
        except Exception as error:  # noqa: BLE001 – this is what the fuzzer looks for
            outcome = f"FIND {type(error).__name__}: {error}"[:300]
            (folder / f"find-{abs(hash(content)):x}.onnx").write_bytes(content)
        print(json.dumps(outcome), flush=True)

    quiet = settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate],
                     suppress_health_check=list(HealthCheck))  # fmt: skip
    seed(batch)(quiet(given(damage(originals))(once)))()
    path.unlink()


def main() -> int:
    """Run all batches; return 1 if something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="Folder for the models that caused a find; default: a temporary one.")
    parser.add_argument("--against", action="store_true", help="Compare each model with a correct source.")
    parser.add_argument("--child", type=int)
    options = parser.parse_args()
    keep = options.keep or Path(tempfile.mkdtemp(prefix="fuzz-verify-"))
    if options.child is not None:
        child(options.child, options.count, keep, against=options.against)
        return 0
    began, counts, finds, batch = time.monotonic(), Counter(), [], 0
    while sum(counts.values()) < options.count:
        size, number = min(BATCH, options.count - sum(counts.values())), options.seed * 10**6 + batch
        command = [sys.executable, __file__, str(size), "--child", str(number), "--keep", str(keep)]
        command += ["--against"] if options.against else []
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)
        outcomes = [json.loads(line) for line in done.stdout.split("\n")[:-1]]
        counts.update(outcome.split(":")[0] for outcome in outcomes)
        finds += [f"batch {number}: {outcome}" for outcome in outcomes if outcome.startswith("FIND")]
        if done.returncode or not outcomes:
            finds.append(f"batch {number}: died with status {done.returncode}: {done.stderr[-300:]}")
            counts["died"] += 1
        batch += 1
    print(*finds, sep="\n" if finds else "")
    print(
        f"{sum(counts.values())} inputs in {time.monotonic() - began:.0f} s: {dict(counts)}; {len(finds)} finds; {keep}"
    )
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main())
