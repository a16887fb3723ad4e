# ruff: noqa: T201 – a script for people
"""Export published networks with the frameworks' own exporters, and verify the graphs.

    python scripts/exports.py [--size 64] [--only ResNet-50,…]

The networks are those of ``tests/networks/published.py``, exported by PyTorch, and three of ``keras.applications``, by
Keras' own ``model.export`` on each of its backends; weights are random. ``convspec verify`` checks each graph alone and
against its source model, each time in a new process. Prints one line of JSON per network; ``docs/reports/exports.md``
records a run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NETWORKS = ROOT / "tests" / "networks"
TORCH = ("ResNet-50", "MobileNetV3-Large", "ConvNeXt-T", "U-Net", "WaveNet")
KERAS = ("ResNet50", "MobileNetV3Large", "ConvNeXtTiny")
BACKENDS = ("torch", "tensorflow", "jax")

EXPORT_TORCH = """
import json, sys
import published

name, path, size = sys.argv[1:]
network, shape, convs = published.NETWORKS[name]
model = network()
published.export(model, (*shape[:2], *(int(size) or n for n in shape[2:])), path)
print(json.dumps({"convs": convs, "parameters": sum(p.numel() for p in model.parameters())}))
"""
EXPORT_KERAS = """
import json, sys
import keras
import numpy as np
from keras import applications, layers

name, path, size = sys.argv[1:]
keras.utils.set_random_seed(0)
size = int(size) or 224
model = getattr(applications, name)(weights=None, input_shape=(size, size, 3))
model(np.zeros((1, size, size, 3), "float32"))
kinds = (layers.Conv2D, layers.DepthwiseConv2D)
convs = sum(isinstance(layer, kinds) for layer in model._flatten_layers())
model.save(path.replace(".onnx", ".keras"))
model.export(path, format="onnx", verbose=False)
print(json.dumps({"convs": convs, "parameters": model.count_params()}))
"""


def measure(command: Sequence[str], environment: dict[str, str], out: Path) -> dict[str, Any]:
    """Run a command and return its exit status, its output, CPU seconds, and MiB of its largest process."""
    with out.open("wb") as stdout, out.with_suffix(".err").open("wb") as stderr:
        process = subprocess.Popen(command, env=environment, stdout=stdout, stderr=stderr)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return {
        "status": process.returncode, "seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "mib": round(usage.ru_maxrss / 1024), "stdout": out.read_text("utf-8", "replace"),
        "stderr": out.with_suffix(".err").read_text("utf-8", "replace"),
    }  # fmt: skip


def verify(path: Path, against: str | None, memory: str | None, environment: dict[str, str]) -> dict[str, Any]:
    """Return the results of ``convspec verify`` on the graph, and its cost."""
    options = ["--against", against] if against else []
    options += ["--memory", memory] if memory else []
    report = path.with_suffix(".json")
    command = [sys.executable, "-m", "convspec", "verify", path.name, *options, "--json", report.name]
    variables = {**environment, "PYTHONPATH": f"{NETWORKS}{os.pathsep}{environment.get('PYTHONPATH', '')}"}
    ran = measure(["/usr/bin/env", "-C", str(path.parent), *command], variables, path.with_suffix(".txt"))
    row = {key: ran[key] for key in ("status", "seconds", "mib")}
    if not report.exists():
        return row | {"refused": ran["stderr"].strip()[-300:]}
    document = json.loads(report.read_text("utf-8"))
    report.unlink()
    ratios = [n["worst_q"] / n["bound"] for n in document["nodes"] if n["worst_q"] is not None and n["bound"]]
    return row | {
        "summary": document["summary"], "unexpected": [f"{u['id']}: {u['title']}" for u in document["unexpected"]],
        "matched": len({n["matched"] for n in document["nodes"]} - {None}), "worst": max(ratios, default=None),
    }  # fmt: skip


def export_and_verify(name: str, backend: str | None, size: int, memory: str | None, folder: Path) -> dict[str, Any]:
    """Export one network, and verify it alone and against its source."""
    path = folder / f"{name}-{backend or ''}.onnx"
    environment = {**os.environ, "KERAS_BACKEND": backend or "torch", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["PYTHONPATH"] = f"{NETWORKS}{os.pathsep}{environment.get('PYTHONPATH', '')}"
    code = EXPORT_KERAS if backend else EXPORT_TORCH
    command = [sys.executable, "-W", "ignore", "-c", code, name, str(path), str(size)]
    ran = measure(command, environment, path.with_suffix(".txt"))
    row: dict[str, Any] = {"network": name, "by": f"Keras on {backend}" if backend else "PyTorch", "size": size}
    if ran["status"] or not path.exists():
        return row | {"failed": ran["stderr"].strip().splitlines()[-1][-300:]}
    row |= json.loads(ran["stdout"].splitlines()[-1])
    row |= {"export seconds": ran["seconds"], "mib": round(path.stat().st_size / 2**20)}
    row["file"] = row.pop("mib") + sum(round(p.stat().st_size / 2**20) for p in folder.glob(f"{path.name}.data"))
    row["alone"] = verify(path, None, memory, environment)
    source = str(path.with_suffix(".keras")) if backend else f"published:{FACTORIES[name]}"
    row["against"] = verify(path, source, memory, environment)
    return row


FACTORIES = dict(zip(TORCH, ("resnet50", "mobilenet_v3_large", "convnext_tiny", "unet", "wavenet"), strict=True))


def main() -> None:
    """Export and verify all networks one after the other, and print each row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--memory", help="Memory limit in MiB, as for convspec verify.")
    parser.add_argument("--size", type=int, default=0, help="Size of all inputs; default: those of the papers.")
    parser.add_argument("--only", help="Names, comma-separated; `Keras` selects all its networks.")
    options = parser.parse_args()
    wanted: list[tuple[str, str | None]] = [(name, None) for name in TORCH]
    wanted += [(name, backend) for name in KERAS for backend in BACKENDS]
    only = options.only.split(",") if options.only else [*TORCH, "Keras"]
    for name, backend in wanted:
        if name not in only and not (backend and {"Keras", f"{name}-{backend}"} & set(only)):
            continue
        with tempfile.TemporaryDirectory() as folder:
            row = export_and_verify(name, backend, options.size, options.memory, Path(folder))
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
