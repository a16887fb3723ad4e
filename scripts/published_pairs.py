# ruff: noqa: T201 – a script for people
"""Port ten published networks at full size, prove the ports, and write the page with time and memory.

    python scripts/published_pairs.py [--only ResNet-50,U-Net]

Each network is a pair of ``tests/pairs/published``, written by hand in two frameworks. It gets a process of its own
with one thread per framework. What was measured is kept in ``docs/_data/published_pairs.json``; the page is written
from it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.pairs.published import PAIRS, Pair  # noqa: E402 – of the repository, which is no package

DATA = ROOT / "docs" / "_data" / "published_pairs.json"
PAGE = ROOT / "docs" / "reports" / "published-pairs.md"
PACKAGES = ("torch", "keras", "tensorflow", "jax", "flax", "numpy")
LIMITS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
ONE_THREAD = dict.fromkeys(LIMITS, "1") | {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
NAMES = {"keras": "Keras", "nnx": "nnx"}

HEAD = """# Ten published networks in two frameworks

A port is only as good as the proof that it computes the same. Ten networks of the literature are written twice by hand,
in PyTorch and as the users of another framework write them, at their full size. The target starts with weights of its
own; `convspec.port_weights` moves the source's, runs both models on one input, and compares them.

* *Layers*: how many were moved. *Parameters*: of the source, in millions.
* *Verdict*: **proved** says that every step of both models lies within its own rounding bound, on its own inputs;
  **measured** that rounding, measured by perturbed runs, explains the difference ([Bounds](../explanation/bounds.md)).
* *Difference*: the largest one between two elements of the results.
* *Once*: processor seconds to run both models once, each for the second time. *Port and proof*: to move the weights and
  to compare, all inputs included. *Memory*: the most that the process took, in GiB, frameworks included.

```
python scripts/published_pairs.py
```

{versions}. One thread for each framework, on a machine with other work.

"""


def job(pair: Pair) -> dict[str, Any]:
    """Return what one pair costs and gives, measured in this process."""
    import numpy as np

    import convspec

    a, b = pair.build()
    draws = [np.random.default_rng(i).standard_normal(shape, "f4") for i, shape in enumerate(pair.shapes)]
    inputs: Any = draws if len(draws) > 1 else draws[0]
    for _ in range(2):
        began = time.process_time()
        run(a, b, pair.target, draws)
        once = time.process_time() - began
    began = time.process_time()
    report = convspec.port_weights(a, b, inputs)
    cost = time.process_time() - began
    found = report.comparison
    worst = max((one.difference or 0.0 for one in found.outcomes), default=None)
    return {
        "target": pair.target, "paper": pair.paper, "shapes": pair.shapes,
        "layers": sum(bool(move.source and move.target) for move in report.moves),
        "parameters": sum(p.numel() for p in a.parameters()), "verdict": found.verdict, "evidence": found.evidence,
        "complete": report.complete, "summary": report.summary, "difference": worst, "once": once, "cost": cost,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }  # fmt: skip


def run(a: Any, b: Any, target: str, draws: list[Any]) -> None:
    """Run both models once."""
    import numpy as np
    import torch

    with torch.no_grad():
        a(*map(torch.from_numpy, draws))
    last = [x if x.ndim < 3 else np.ascontiguousarray(np.moveaxis(x, 1, -1)) for x in draws]
    if target == "keras":
        b(*last, training=False)
        return
    import jax

    jax.block_until_ready(b(*map(jax.numpy.asarray, last)))


def page(found: dict[str, Any]) -> str:
    """Return the report."""
    lines = [HEAD.format(versions=found["versions"])]
    lines.append(
        "| network | target | input | parameters | layers | verdict | difference | once | port and proof | memory |"
    )
    lines.append("|---|---|---|---|---|---|---|---|---|---|")
    for pair in PAIRS:
        one = found["pairs"].get(pair.name)
        if one is None:
            lines.append(f"| {pair.name} | {NAMES[pair.target]} | | | | not run | | | | |")
            continue
        shapes = "×".join(map(str, one["shapes"][0])) + (
            f" and {len(one['shapes']) - 1} more" * (len(one["shapes"]) > 1)
        )
        verdict = f"agree, {one['evidence']}" if one["verdict"] == "agree" else f"**{one['verdict']}**"
        lines.append(
            f"| {pair.name} ({pair.paper}) | {NAMES[pair.target]} | {shapes} | {one['parameters'] / 1e6:.1f} M "
            f"| {one['layers']} | {verdict} | {one['difference']:.1e} | {one['once']:.1f} s | {one['cost']:.1f} s "
            f"| {one['memory']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="names of networks, with commas between them")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    pairs = {pair.name: pair for pair in PAIRS}
    if options.job:
        print(json.dumps(job(pairs[options.job])))
        return
    found = json.loads(DATA.read_text("utf-8")) if DATA.exists() else {"pairs": {}}
    found["versions"] = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    for name in options.only.split(",") if options.only else pairs:
        command = [sys.executable, "-W", "ignore", __file__, "--job", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | ONE_THREAD)
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr[-2000:]}")
        found["pairs"][name] = json.loads(done.stdout.splitlines()[-1])
        print(name, found["pairs"][name]["summary"], f"{found['pairs'][name]['cost']:.1f} s")
        DATA.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    PAGE.write_text(page(found), "utf-8")


if __name__ == "__main__":
    main()
