"""What `convspec verify` costs on a whole network, beside loading and running its files by hand.

A ResNet-50 with random weights (16 bottleneck blocks of the published widths, 53 convolutions) is made with and without
its batch normalisations folded, as an exporter would. Each job has a process of its own, on one core, the imports of
Python's modules left out; the jobs take turns. Measured are processor time, wall-clock time, and the largest memory:

* by hand: load both files, run both on the same input, compare the outputs;
* against: the two files matched, run and compared node by node, without the oracle;
* audit: every convolution against the oracle, with optimisation off and all;
* polygraphy: NVIDIA's `polygraphy run FIRST --onnxrt --save-outputs`, then `polygraphy run SECOND --onnxrt
  --load-outputs`, which compares the graphs' outputs and nothing inside them – where it is installed
  (`pip install polygraphy`: it needs nothing else for this, and convspec does not need it).

    python benchmarks/verify.py [--size 224] [--repeats 3] [--blocks 3,4,6,3]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
EPSILON = 1e-5
MOST = 2.0  # times what running both files by hand costs, for --against without the oracle
TITLES = {
    "against": "verify --against --no-oracle", "audit": "verify, the full audit", "polygraphy": "polygraphy run, twice",
}  # fmt: skip
WIDTHS = (64, 128, 256, 512)


class Network:
    """A graph under construction; ``folded`` leaves no normalisation in it. Both kinds draw the same numbers."""

    def __init__(self, *, folded: bool) -> None:
        import numpy as np

        self.folded, self.rng = folded, np.random.default_rng(0)
        self.nodes: list = []
        self.tensors: list = []
        self.convs = 0

    def add(self, op: str, inputs: list[str], arrays: dict, **attributes: object) -> str:
        from onnx import helper, numpy_helper

        name = f"{op}_{sum(node.op_type == op for node in self.nodes)}"
        self.tensors += [numpy_helper.from_array(array, f"{name}/{key}") for key, array in arrays.items()]
        names = [*inputs, *(f"{name}/{key}" for key in arrays)]
        self.nodes.append(helper.make_node(op, names, [f"{name}/y"], name, **attributes))
        return f"{name}/y"

    def conv(self, x: str, i: int, o: int, k: int, stride: int = 1, *, relu: bool = True) -> str:
        """Convolution, normalisation, activation."""
        import numpy as np

        self.convs += 1
        w = (self.rng.standard_normal((o, i, k, k)) * np.sqrt(2 / (i * k * k))).astype(np.float32)
        gain, shift, mean = (self.rng.normal(at, 0.1, o).astype(np.float32) for at in (0.7, 0, 0))
        variance = self.rng.uniform(0.5, 1.5, o).astype(np.float32)
        pads = [k // 2] * 4
        shape = {"kernel_shape": [k, k], "strides": [stride] * 2, "pads": pads}
        if self.folded:
            scale = gain.astype(np.float64) / np.sqrt(variance.astype(np.float64) + EPSILON)
            arrays = {"w": w * scale.reshape(-1, 1, 1, 1), "b": shift - mean * scale}
            x = self.add("Conv", [x], {key: a.astype(np.float32) for key, a in arrays.items()}, **shape)
        else:
            x = self.add("Conv", [x], {"w": w}, **shape)
            norm = {"gain": gain, "shift": shift, "mean": mean, "variance": variance}
            x = self.add("BatchNormalization", [x], norm, epsilon=EPSILON)
        return self.add("Relu", [x], {}) if relu else x

    def write(self, path: Path, blocks: list[int], size: int) -> None:
        """ResNet with that many bottleneck blocks in each of its stages."""
        import numpy as np
        import onnx
        from onnx import TensorProto, helper

        x = self.add("MaxPool", [self.conv("x", 3, 64, 7, 2)], {}, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        channels = 64
        for stage, (width, number) in enumerate(zip(WIDTHS, blocks, strict=True)):
            for block in range(number):
                stride = 2 if stage and not block else 1
                y = self.conv(self.conv(x, channels, width, 1), width, width, 3, stride)
                y = self.conv(y, width, 4 * width, 1, relu=False)
                x = x if block else self.conv(x, channels, 4 * width, 1, stride, relu=False)
                x = self.add("Relu", [self.add("Add", [x, y], {})], {})
                channels = 4 * width
        x = self.add("Flatten", [self.add("GlobalAveragePool", [x], {})], {})
        head = (self.rng.standard_normal((channels, 1000)) / 100).astype(np.float32)
        y = self.add("Gemm", [x], {"w": head, "b": np.zeros(1000, np.float32)})
        entries = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("x", ["n", 3, size, size]), (y, ["n", 1000]))
        ]
        graph = helper.make_graph(self.nodes, "resnet", entries[:1], entries[1:], self.tensors)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def by_hand(folded: Path, raw: Path, inputs: Path) -> None:
    """What somebody would write to compare two exports: load, run, look at the difference."""
    import numpy as np
    import onnxruntime as ort

    x = np.load(inputs)
    outputs = []
    for path in (folded, raw):
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        outputs.append(ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0])
    far = float(np.abs(outputs[0] - outputs[1]).max() / np.abs(outputs[1]).max())
    if not far < 1e-3:
        raise SystemExit(f"the two networks differ by {far}")


def against(folded: Path, raw: Path, inputs: Path) -> None:
    """The two files matched and compared node by node; nothing is compared with the oracle."""
    from convspec.models.verification import verifier

    report = verifier.verify(folded, str(raw), str(inputs), oracle=False)
    if report.first_divergence or any(node.matched is None for node in report.nodes):
        raise SystemExit(f"unexpected: {report.problems()[:3]}")


def audited(folded: Path, _: Path, inputs: Path) -> None:
    """The full audit, which stops above the memory that it allows itself."""
    from convspec.models.verification import verifier

    verifier.verify(folded, inputs=str(inputs)).expect()


def polygraphy(folded: Path, raw: Path, inputs: Path) -> None:
    """Both files by Polygraphy's command, on the numbers that it makes itself from the input's shape."""
    import numpy as np
    from polygraphy.tools import main

    shape = ",".join(map(str, np.load(inputs, mmap_mode="r").shape))
    kept = str(folded.with_suffix(".outputs.json"))
    common = ["--onnxrt", "--input-shapes", f"x:[{shape}]", "--rtol", "1e-3", "--atol", "1e-3", "--silent"]
    for path, where in ((folded, "--save-outputs"), (raw, "--load-outputs")):
        try:
            status = main(["run", str(path), *common, where, kept])
        except SystemExit as ended:
            status = ended.code
        if status:
            raise SystemExit(f"polygraphy run {path.name} {where} ended with {status}")


JOBS: dict[str, Callable[[Path, Path, Path], None]] = {
    "by hand": by_hand, "against": against, "audit": audited, "polygraphy": polygraphy,
}  # fmt: skip


def measured(name: str, paths: list[Path]) -> tuple[float, float, float]:
    """Seconds of processor time, of the clock, imports left out, and MiB of the process's largest memory."""
    command = [sys.executable, __file__, "--job", name, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **ONE_THREAD})
    if done.returncode:
        raise SystemExit(done.stderr or done.stdout)
    cpu, wall, mib = json.loads(done.stdout.splitlines()[-1])
    return cpu, wall, mib


def job(name: str, paths: list[Path]) -> None:
    """Run one job in this process, the audit's included; what it needs is imported before the clock starts."""
    from convspec_onnx import audit as its_process

    from convspec.models.verification import verifier

    if name == "polygraphy":
        import polygraphy.backend.onnxrt
        import polygraphy.tools.registry  # noqa: F401

    class ThisProcess:
        """The audit without a child process."""

        def __init__(self, *_: object, **__: object) -> None:
            self.folder = Path(tempfile.mkdtemp())

        def __enter__(self) -> ThisProcess:
            return self

        def __exit__(self, *_: object) -> None:
            shutil.rmtree(self.folder)

        def send(self, request: dict) -> None:
            self._messages: list[dict] = []
            its_process.audit(request, lambda m: self._messages.append(json.loads(json.dumps(m, default=str))))

        def messages(self, _: float) -> list[dict]:
            return self._messages

    assert verifier.ChildProcess
    verifier.ChildProcess = ThisProcess
    began = time.process_time(), time.monotonic()
    JOBS[name](*paths)
    seconds = time.process_time() - began[0], time.monotonic() - began[1]
    # not ru_maxrss, which begins with the size of the process that started this one
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    print(json.dumps([*seconds, kib / 1024]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--blocks", default="3,4,6,3")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("paths", nargs="*", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        job(options.job, options.paths)
        return
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("folded.onnx", "raw.onnx", "x.npy")]
        for path, folded in ((paths[0], True), (paths[1], False)):
            network = Network(folded=folded)
            network.write(path, [int(n) for n in options.blocks.split(",")], options.size)
        x = np.random.default_rng(1).standard_normal((options.batch, 3, options.size, options.size))
        np.save(paths[2], x.astype(np.float32))
        size = paths[0].stat().st_size / 2**20
        what = f"{options.batch}×3×{options.size}×{options.size}"
        print(f"{network.convs} convolutions, input {what}, {size:.0f} MiB a file; medians")
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        there = [name for name in JOBS if name != "polygraphy" or importlib.util.find_spec("polygraphy")]
        turns = [{name: measured(name, paths) for name in there} for _ in range(options.repeats)]
    found = {name: [statistics.median(c) for c in zip(*(t[name] for t in turns), strict=True)] for name in there}
    hand = found["by hand"]
    print(f"{'':10} {'processor s':>12} {'/ by hand':>10} {'clock s':>8} {'/ by hand':>10} {'MiB':>6}")
    for name, (cpu, wall, mib) in found.items():
        print(f"{name:10} {cpu:12.2f} {cpu / hand[0]:10.2f} {wall:8.2f} {wall / hand[1]:10.2f} {mib:6.0f}")
    for name, (cpu, _, mib) in found.items():
        target = (f"≤ {MOST} | " + ("met" if cpu <= MOST * hand[0] else "not met")) if name == "against" else "|"
        if name != "by hand":
            print(f"= {TITLES[name]} / both run by hand | {cpu / hand[0]:.2f} ({mib:.0f} MiB) | {target}")
    if "polygraphy" not in there:
        print("polygraphy is not installed: not measured")
    print(
        f"the audit's own limit: 768 MiB of address space beyond 6 × the model's {size:.0f} MiB and what Python takes"
    )


if __name__ == "__main__":
    main()
