"""Random networks exported from PyTorch to ONNX, changed as people change graphs, and verified against their source.

``python -m tests.pairs.export COUNT FIRST FILE`` verifies right exports, and ones with a planted fault.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime import quantization
from onnxruntime.transformers.float16 import convert_float_to_float16

from tests.adapters.onnx.verifying import audited
from tests.pairs import draw, faults, judge, network, torch_writer

LEVELS = {"basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED"}
_DYNAMO = 10  # one export in so many is by the slower exporter, and what the other one does not know


class _Data(quantization.CalibrationDataReader):
    """Inputs by which ranges are chosen."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        rng = np.random.default_rng(1)
        self.draws = iter([{"x": rng.standard_normal(shape).astype(np.float32)} for _ in range(3)])

    def get_next(self) -> Any:
        return next(self.draws, None)


def _optimise(level: str) -> Callable[[Path, Path, Any], None]:
    def save(source: Path, out: Path, _: Any) -> None:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[level])
        options.optimized_model_filepath, options.log_severity_level = str(out), 4
        onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])

    return save


def _onnxscript(source: Path, out: Path, _: Any) -> None:
    from onnxscript import optimizer

    onnx.save(optimizer.optimize(onnx.load(source)), out)


def _static(form: str, *, per_channel: bool, signed: bool) -> Callable[[Path, Path, Any], None]:
    def save(source: Path, out: Path, shape: Any) -> None:
        kinds = quantization.QuantType
        quantization.quantize_static(
            str(source), str(out), _Data(shape), quant_format=quantization.QuantFormat[form], per_channel=per_channel,
            activation_type=kinds.QInt8 if signed else kinds.QUInt8, weight_type=kinds.QInt8,
        )  # fmt: skip

    return save


def _dynamic(source: Path, out: Path, _: Any) -> None:
    quantization.quantize_dynamic(str(source), str(out))


def _half(source: Path, out: Path, _: Any) -> None:
    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), out)


WAYS: dict[str, Callable[[Path, Path, Any], None] | None] = {
    "nothing": None, "optimised, basic": _optimise("basic"), "optimised, extended": _optimise("extended"),
    "optimised by onnxscript": _onnxscript, "QDQ, per channel": _static("QDQ", per_channel=True, signed=True),
    "QDQ, per tensor": _static("QDQ", per_channel=False, signed=False),
    "QOperator": _static("QOperator", per_channel=True, signed=False), "dynamic": _dynamic, "float16": _half,
}  # fmt: skip
QUANTIZED = ("QDQ, per channel", "QDQ, per tensor", "QOperator", "dynamic")


def export(seed: int, way: str, folder: Path) -> tuple[Any, Path]:
    """Return the source and the file of a random network's graph."""
    net = draw.draw(seed)
    model = torch_writer.build(net, network.weights(net, seed)).eval()
    x = torch.from_numpy(judge.inputs(net, seed))
    exported, out = folder / "exported.onnx", folder / "graph.onnx"
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        dynamo = seed % _DYNAMO == 0 or any(op.kind == "channel_shuffle" for op in net.ops)
        torch.onnx.export(model, (x,), exported, input_names=["x"], dynamo=dynamo, opset_version=18 if dynamo else 17,
                          external_data=False, verbose=False)  # fmt: skip
        change = WAYS[way]
        if change is None:
            return model, exported
        change(exported, out, tuple(x.shape))
    return model, out


def _inputs(seed: int, way: str, folder: Path) -> dict[str, Any]:
    """Return the inputs that the ranges of a quantised graph were chosen by."""
    if way not in QUANTIZED:
        return {}
    file = folder / "inputs.npz"
    np.savez(file, x=_Data((2, *draw.draw(seed).shape)).get_next()["x"])
    return {"inputs": str(file)}


def judge_right(seed: int, folder: Path) -> dict[str, Any]:
    """Verify a right export; what is said against it is a false alarm."""
    way = list(WAYS)[seed % len(WAYS)]
    record: dict[str, Any] = {"seed": seed, "kind": "right", "way": way, "skipped": "", "fault": "", "said": ""}
    started = time.process_time()
    try:
        model, path = export(seed, way, folder)
        if not any(node.op_type in faults.KINDS for node in onnx.load(path).graph.node):
            record["skipped"] = "no convolution"
            return record
    except Exception as error:  # noqa: BLE001 – an exporter or a tool that fails is no case
        return record | {"skipped": f"not exported: {error!r}"[:200]}
    try:
        report = audited(path, source=model, levels=["off", "all"], **_inputs(seed, way, folder))
        record["verdict"], found = report.rounding, report.unexpected
        record["fault"] = "false alarm" if found else ""
        record["said"] = "; ".join(f"{node}: {name}: {words}" for node, name, words in found[:2])[:400]
    except Exception as error:  # noqa: BLE001 – every fault is a record
        record["fault"] = f"raises {error!r}"[:300]
    record["seconds"] = time.process_time() - started
    return record


def judge_planted(seed: int, kind: str, folder: Path) -> dict[str, Any]:
    """Plant a fault into the graph of the first network from the seed on that has a place for it, and verify it."""
    record: dict[str, Any] = {"seed": seed, "kind": kind, "skipped": "no network has a place for it", "fault": "",
                              "said": ""}  # fmt: skip
    started = time.process_time()
    rng = random.Random(f"{seed} {kind}")
    fault = faults.FAULTS[kind]
    for attempt in range(12):
        way = "nothing" if fault.ways is None else rng.choice(fault.ways)
        try:
            model, path = export(seed + 100_000 * (attempt + 1), way, folder)
            proto = onnx.load(path)
            places = [node for node in proto.graph.node if node.op_type in faults.KINDS]
            rng.shuffle(places)
            name = next((node.name for node in places if faults.plant(proto, node, fault)), "")
        except Exception as error:  # noqa: BLE001
            record["skipped"] = f"not exported: {error!r}"[:200]
            continue
        if name:
            record |= {"skipped": "", "way": way, "place": name}
            break
    else:
        return record
    try:
        _judge(record, model, proto, folder, repairs=fault.repairs)
    except Exception as error:  # noqa: BLE001
        record["fault"] = f"raises {error!r}"[:300]
    record["seconds"] = time.process_time() - started
    return record


def _judge(record: dict[str, Any], model: Any, proto: Any, folder: Path, *, repairs: bool) -> None:
    wrong, repaired = folder / "wrong.onnx", folder / "repaired.onnx"
    onnx.save(proto, wrong)
    report = audited(wrong, source=model, levels=["off", "all"], **({"repair": str(repaired)} if repairs else {}))
    found = report.unexpected
    record["said"] = "; ".join(f"{node}: {name}: {words}" for node, name, words in found[:2])[:400]
    record["seen"] = bool(found)
    record["named"] = record["place"] in (report.first_divergence, *[node for node, _, _ in found[:1]])
    if repairs:
        record["repaired"] = bool(report.repaired) and not audited(repaired, source=model, levels=["off"]).unexpected
    record["fault"] = ("not seen" if not found else "another node first" if not record["named"]
                       else "not repaired" if record.get("repaired") is False else "")  # fmt: skip


def main(count: str, first: str, file: str) -> None:
    """Verify right exports and planted ones, one each of every seed; a line of JSON for each in FILE."""
    kinds = list(faults.FAULTS)
    with Path(file).open("a", encoding="utf-8") as lines:
        for seed in range(int(first), int(first) + int(count)):
            for judge_one in (judge_right, lambda s, f: judge_planted(s, kinds[s % len(kinds)], f)):
                with tempfile.TemporaryDirectory() as folder:
                    record = judge_one(seed, Path(folder))
                print(json.dumps(record), file=lines, flush=True)
                if record["fault"]:
                    words = f"{record['kind']}, {record.get('way')}: {record['fault']}: {record['said'][:300]}"
                    print(f"{seed} {words}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
