"""How fast the oracle is, as ratios to torch's own float64 convolution and to onnx's evaluator.

Each contestant runs in a process of its own, on one thread, and times the call alone; the processes take turns, round
by round, so that whatever else the machine does falls on all alike. Run it with ``python benchmarks/oracle.py``;
``--layers FILE`` (JSON Lines of ``{"spec": …, "input_shape": …}``, maybe ``.gz``) adds the total for a sample of those.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
CLOCK = "ORACLE_BENCHMARK_CLOCK"

# in, out, kernel, stride, padding, groups, height and width
DENSE = [
    (3, 32, 3, 1, 1, 1, 64),
    (16, 16, 3, 1, 1, 1, 32),
    (16, 32, 3, 1, 1, 1, 56),
    (32, 32, 5, 1, 2, 1, 28),
    (64, 64, 1, 1, 0, 1, 56),
    (64, 256, 1, 1, 0, 1, 56),
    (64, 64, 3, 1, 1, 1, 56),
    (64, 128, 3, 2, 1, 1, 56),
    (64, 128, 1, 2, 0, 1, 56),
    (128, 128, 3, 1, 1, 1, 28),
    (256, 256, 3, 1, 1, 1, 14),
    (512, 512, 3, 1, 1, 1, 7),
    (3, 64, 7, 2, 3, 1, 56),
    (3, 96, 14, 14, 0, 1, 56),
]
DEPTHWISE = [
    (64, 64, 3, 1, 1, 64, 56),
    (128, 128, 3, 2, 1, 128, 56),
    (128, 128, 7, 1, 3, 128, 28),
    (128, 128, 31, 1, 15, 128, 28),
    (128, 128, 3, 1, 1, 32, 28),
]
TINY = [(1, 1, 1, 1, 0, 1, 1), (2, 3, 3, 1, 1, 1, 5), (4, 4, 3, 2, 1, 4, 8), (1, 6, 5, 1, 0, 1, 12)]


def spec_of(layer: dict[str, Any]) -> Any:
    from convspec import ConvSpec

    return ConvSpec.from_dict(layer["spec"])


def arrays(layer: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Spec, parameters and input, all of them already float64: no contestant pays for conversions."""
    import numpy as np

    from convspec import ConvParams

    spec = spec_of(layer)
    params = ConvParams.random(spec, dtype="float64")
    bias = None if params.bias is None else params.bias.astype(np.float64)
    x = np.random.default_rng(0).standard_normal(layer["input_shape"])
    return spec, ConvParams(params.kernel.astype(np.float64), bias), x


def ours(layer: dict[str, Any]) -> Callable[[], Any]:
    from convspec import reference

    spec, params, x = arrays(layer)
    return lambda: reference.conv(spec, params, x)


def ours_magnitude(layer: dict[str, Any]) -> Callable[[], Any]:
    from convspec import reference

    spec, params, x = arrays(layer)
    return lambda: reference.magnitude(spec, params, x)


def torch(layer: dict[str, Any]) -> Callable[[], Any]:
    import torch as framework

    framework.set_num_threads(1)
    spec, params, x = arrays(layer)
    spec = spec.explicit(x.shape)
    if spec.transposed or spec.padding_mode != "zeros":
        raise SystemExit(f"torch has no function for {spec}")
    weight, data = framework.from_numpy(params.kernel), framework.from_numpy(x)
    bias = None if params.bias is None else framework.from_numpy(params.bias)
    function = getattr(framework.nn.functional, f"conv{spec.ndim}d")
    even = all(lo == hi for lo, hi in spec.padding)
    padding = [lo if even else 0 for lo, _ in spec.padding]
    before = [] if even else [n for pair in reversed(spec.padding) for n in pair]

    def call() -> Any:
        with framework.inference_mode():
            padded = framework.nn.functional.pad(data, before) if before else data
            return function(padded, weight, bias, spec.stride, padding, spec.dilation, spec.groups)

    return call


def onnx(layer: dict[str, Any]) -> Callable[[], Any]:
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    spec, params, x = arrays(layer)
    weights = {"w": params.kernel} | ({} if params.bias is None else {"b": params.bias})
    node = helper.make_node(
        "Conv",
        ["x", *weights],
        ["y"],
        kernel_shape=spec.kernel_size,
        strides=spec.stride,
        dilations=spec.dilation,
        group=spec.groups,
        pads=[lo for lo, _ in spec.padding] + [hi for _, hi in spec.padding],
    )
    graph = helper.make_graph(
        [node],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, spec.output_shape(x.shape))],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    evaluator = ReferenceEvaluator(helper.make_model(graph))
    return lambda: evaluator.run(None, {"x": x})


CONTESTANTS = {"oracle": ours, "oracle G": ours_magnitude, "torch": torch, "onnx.reference": onnx}


def serve(name: str) -> None:
    """Answer each line – a layer, and how many seconds to spend – with the seconds of every call."""
    call: Callable[[], Any] = lambda: None  # noqa: E731
    clock = getattr(time, os.environ[CLOCK])
    for line in sys.stdin:
        request = json.loads(line)
        if "layer" in request:
            call = CONTESTANTS[name](request["layer"])
            if request["warm"]:
                call()
        times: list[float] = []
        while not times or sum(times) < request["seconds"]:
            start = clock()
            call()
            times.append(clock() - start)
        print(json.dumps(times), flush=True)


class Process:
    """One contestant in an interpreter of its own."""

    def __init__(self, name: str) -> None:
        command = [sys.executable, str(Path(__file__)), "--serve", name]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | ONE_THREAD
        )

    def ask(self, request: dict[str, Any]) -> list[float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit("a contestant died; its message is above")
        times: list[float] = json.loads(answer)
        return times


def measure(processes: dict[str, Process], layer: dict[str, Any], rounds: int, seconds: float) -> dict[str, float]:
    """Median seconds per call of each contestant."""
    times: dict[str, list[float]] = {name: [] for name in processes}
    for turn in range(rounds):
        for name, process in processes.items():
            setup = {"layer": layer, "warm": rounds > 1} if turn == 0 else {}
            times[name] += process.ask({"seconds": seconds, **setup})
    return {name: statistics.median(values) for name, values in times.items()}


def layer_of(row: tuple[int, ...]) -> dict[str, Any]:
    from convspec import ConvSpec

    ci, co, k, s, p, g, n = row
    return {"spec": ConvSpec(ci, co, k, s, p, groups=g).to_dict(), "input_shape": [1, ci, n, n]}


def table(title: str, rows: list[tuple[int, ...]], rounds: int, seconds: float) -> None:
    processes = {name: Process(name) for name in CONTESTANTS}
    print(f"\n{title}\n{'in→out k s p g, size':32}{'oracle ms':>10}{'/ torch':>9}{'onnx.ref /':>12}{'G / y':>8}")
    ratios = []
    for row in rows:
        layer = layer_of(row)
        t = measure(processes, layer, rounds, seconds)
        ci, co, k, s, p, g, n = row
        to_torch, to_onnx = t["oracle"] / t["torch"], t["onnx.reference"] / t["oracle"]
        ratios.append((to_torch, to_onnx, t["oracle G"] / t["oracle"]))
        label = f"{ci}→{co} k{k} s{s} p{p} g{g}, {n}×{n}"
        print(f"{label:32}{t['oracle'] * 1e3:10.3f}{to_torch:9.2f}{to_onnx:12.2f}{ratios[-1][2]:8.2f}", flush=True)
    medians = [statistics.median(column) for column in zip(*ratios, strict=True)]
    print(f"{'median':42}{medians[0]:9.2f}{medians[1]:12.2f}{medians[2]:8.2f}")
    for index, name in enumerate(("oracle / torch's float64", "onnx.reference / oracle", "G / oracle")):
        column = sorted(row[index] for row in ratios)
        print(f"= {name}, {title} | {medians[index]:.2f} ({column[0]:.2f}–{column[-1]:.2f}) | |")


def sample(path: Path, count: int, seed: int) -> None:
    """Total seconds for a sample of real layers, each called once, cold, by the oracle (y and G) and by torch."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        layers = [json.loads(line) for line in file]
    chosen = random.Random(seed).sample(layers, min(count, len(layers)))
    processes = {name: Process(name) for name in ("oracle", "oracle G", "torch")}
    measure(processes, layer_of(DENSE[0]), 1, 0)  # what is loaded at the first call belongs to no layer
    totals, ratios, slow = dict.fromkeys(processes, 0.0), [], []
    for layer in chosen:
        times = measure(processes, layer, 1, 0)
        totals = {name: totals[name] + times[name] for name in totals}
        ratios.append(times["oracle"] / times["torch"])
        slow.append((times["oracle"] - times["torch"], times["oracle"], times["torch"], layer))
    print(f"\n{len(chosen)} layers of {path.name}, each called once: seconds in all")
    print("  ".join(f"{name} {total:.2f}" for name, total in totals.items()))
    print(f"oracle / torch: {totals['oracle'] / totals['torch']:.2f} in all, median {statistics.median(ratios):.2f}")
    for _, mine, theirs, layer in sorted(slow, key=lambda row: -row[0])[:3]:
        print(f"  most behind: {mine:.3f} s for {theirs:.3f} s, {spec_of(layer)} on {layer['input_shape']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=7, help="turns that each contestant takes at a layer")
    parser.add_argument("--seconds", type=float, default=0.05, help="that a turn lasts at least")
    parser.add_argument("--layers", type=Path, help="also a sample of this corpus file")
    parser.add_argument("--sample", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cpu", action="store_true", help="processor time, for a machine that is busy otherwise")
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    os.environ[CLOCK] = "process_time" if options.cpu else "perf_counter"
    table("dense, at least 1 MFLOP", DENSE, options.rounds, options.seconds)
    table("depthwise and grouped", DEPTHWISE, options.rounds, options.seconds)
    table("tiny", TINY, options.rounds, options.seconds)
    if options.layers:
        sample(options.layers, options.sample, options.seed)


if __name__ == "__main__":
    main()
