"""`convspec check` beside a plain loop over the same layers: what isolation, judging and sharing cost.

The loop makes the arrays, asks the oracle, builds the layer, runs it and judges the result, in one process and with
no protection. Both get one core, both layouts, exact and random data. Start-up is taken off: of `check` by a run of
one case, of the loop by a first case that is not timed.

    python benchmarks/check.py [--cases N] [--repeats R] [--adapters torch,flax,keras,onnx]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
LAYOUTS, KINDS = ("NCHW", "NHWC"), ("exact", "random")


def cases(number: int) -> list:
    from convspec import corpora

    return corpora.sample(corpora.load("timm"), number, 1)


def loop(adapter_name: str, number: int) -> dict[str, float]:
    """Seconds of the plain loop, by what they went into."""
    import numpy as np

    import convspec
    from convspec import layouts, numerics, reference, verdict
    from convspec.cases import arrays

    adapter = convspec.adapter(adapter_name)
    adapter.configure(threads=1)
    spent = dict.fromkeys(("oracle", "framework", "judging"), 0.0)
    for index, case in enumerate(cases(number + 1)):
        spec = case.spec
        if index == 1:
            spent = dict.fromkeys(spent, 0.0)
        for data in KINDS:
            clock = time.perf_counter()
            params, x = arrays(case.varied(data=data))
            expected = reference.conv(spec, params, x)
            magnitude = None if data == "exact" else reference.magnitude(spec, params, x)
            spent["oracle"] += time.perf_counter() - clock
            for layout in LAYOUTS:
                order = layouts.order(layout, spec.ndim)
                given = np.ascontiguousarray(x.transpose(layouts.permutation("NC*", order, spec.ndim)))
                clock = time.perf_counter()
                layer = adapter.build(spec, params, layout)
                y = adapter.apply(layer, given, layout)
                spent["framework"] += time.perf_counter() - clock
                clock = time.perf_counter()
                found = verdict.judge(
                    y.transpose(layouts.permutation(order, "NC*", spec.ndim)), expected, magnitude,
                    dtype="float32", data=data, products=numerics.products(spec), arithmetic=adapter.arithmetic(spec),
                )  # fmt: skip
                spent["judging"] += time.perf_counter() - clock
                if found.verdict != "agree" and not (adapter_name == "keras" and layout == "NCHW"):
                    raise SystemExit(f"{adapter_name} {layout} {case.spec}: {found.reason}")
    return spent


def checked(adapter_name: str, number: int) -> float:
    """Seconds of `convspec check` on as many cases, its start-up taken off."""
    import convspec

    def seconds(some: list) -> float:
        clock = time.perf_counter()
        convspec.check(some, adapters=[adapter_name], jobs=1)
        return time.perf_counter() - clock

    all_cases = cases(number + 1)
    return seconds(all_cases) - seconds(all_cases[:1])


def child(kind: str, adapter: str, number: int) -> float | dict[str, float]:
    command = [sys.executable, __file__, "--child", kind, "--adapters", adapter, "--cases", str(number)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **ONE_THREAD})
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--adapters", default="torch,flax,keras,onnx")
    parser.add_argument("--child", choices=("loop", "check"))
    options = parser.parse_args()
    if options.child:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        run = loop if options.child == "loop" else checked
        print(json.dumps(run(options.adapters, options.cases)))
        return
    print(f"{options.cases} timm layers, {options.repeats} repeats, seconds; verdicts = 4 × layers")
    columns = ("check", "loop", "oracle", "framework", "judging", "ratio")
    print(f"{'adapter':8} {' '.join(f'{c:>9}' for c in columns)}  spread")
    for adapter in options.adapters.split(","):
        loops = [child("loop", adapter, options.cases) for _ in range(options.repeats)]
        checks = [child("check", adapter, options.cases) for _ in range(options.repeats)]
        ratios = [c / sum(loop.values()) for c, loop in zip(checks, loops, strict=True)]
        middle = {key: statistics.median(loop[key] for loop in loops) for key in loops[0]}
        numbers = (statistics.median(checks), sum(middle.values()), *middle.values(), statistics.median(ratios))
        print(f"{adapter:8} {' '.join(f'{n:9.2f}' for n in numbers)}  {min(ratios):.2f}–{max(ratios):.2f}", flush=True)


if __name__ == "__main__":
    main()
