"""`convspec check` beside a plain loop over the same layers: what isolation, judging and sharing cost.

The loop makes the arrays, asks the oracle, builds the layer, runs it and judges the result, in one process and with no
protection. Both get one core and one thread, the same layers, both layouts, exact and random data, and a cache of
compiled code that is empty. The layers are real ones, of the corpus `timm`; and small ones of the corpus `features`
that every framework gets right, some times over with other seeds, where what convspec adds weighs most. Start-up does
not count: both clocks start after the first layer. Loop and check take turns; the ratio of each turn is one figure, the
middle one is reported. Processor time is that of all processes.

    python benchmarks/check.py [--cases N] [--repeats R] [--adapters torch,flax,…] [--corpora timm,features]
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import processes

from convspec.conformance import Progress
from convspec.contract import LayerRequest

ADAPTERS = "torch,flax,flax-linen,keras,keras-jax,keras-torch,onnx,onnx-reference,equinox,openvino,mlx,litert,ncnn"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
LAYOUTS, KINDS = ("NCHW", "NHWC"), ("exact", "random")
SMALL, TIMES, SECONDS = 30, (5, 40), 4.0  # layers of `features`, how often each is met, and what the loop should take
MOST, MICROSECONDS = 1.15, 100  # what check may cost: so much of the loop's time, or so much more for a verdict


def cases(corpus: str, number: int) -> list:
    """So many layers; small ones again and again with other seeds, and only those that every framework gets right."""
    from convspec import corpora

    found = corpora.load(corpus)
    if corpus != "timm":
        found = corpora.sample([case for case in found if faultless(case)], SMALL, 1)
        return [found[n % SMALL].varied(seed=n // SMALL) for n in range(number)]
    return corpora.sample(found, number, 1)


def faultless(case) -> bool:
    """Whether the layer has an output, and no adapter declares a gap of it: the loop survives no crash."""
    import convspec
    from convspec.conformance import gap_ledger

    try:
        if min(case.spec.output_shape(case.input_shape)) < 1:
            return False
    except convspec.ShapeError:
        return False
    for adapter in map(convspec.adapter, ADAPTERS.split(",")):
        for layout in LAYOUTS:
            about = {"support": str(adapter.support(case.spec, layout)), "adapter": adapter.name, "variant": "default"}
            seen = gap_ledger.features(case.varied(layout=layout), **about)
            if any(gap.when(seen) for gap in declared(adapter)):
                return False
    return True


@functools.cache
def declared(adapter) -> tuple:
    from convspec.contract import known_gaps

    return known_gaps.declared(adapter)


def used() -> tuple[float, float]:
    """Seconds of processor time, of this process and all that it has started; and of the clock."""
    return sum(map(_spent, [os.getpid(), *processes.descendants(os.getpid())])), time.monotonic()


def _spent(process: int) -> float:
    if process == os.getpid():
        return time.process_time()
    try:
        fields = Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2].split()
    except FileNotFoundError:  # it has just ended
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def since(before: tuple[float, float]) -> tuple[float, float]:
    now = used()
    return now[0] - before[0], now[1] - before[1]


def loop(name: str, corpus: str, number: int) -> tuple[float, float]:
    """What the plain loop takes."""
    import numpy as np

    import convspec
    from convspec import reference
    from convspec.conformance import gap_ledger
    from convspec.contract import known_gaps
    from convspec.corpora import arrays
    from convspec.reference import error_bounds, verdict
    from convspec.spec import layouts

    adapter = convspec.adapter(name)
    adapter.configure(threads=1)
    ledger, before = gap_ledger.Ledger(), used()
    ledger.declare(name, known_gaps.applying(adapter, adapter.versions()))
    for index, case in enumerate(cases(corpus, number + 1)):
        if index == 1:
            before = used()
        spec = case.spec
        for data in KINDS:
            params, x = arrays(case.varied(data=data))
            expected = reference.conv(spec, params, x)
            magnitude = None if data == "exact" else reference.magnitude(spec, params, x)
            for layout in LAYOUTS:
                given = np.ascontiguousarray(layouts.move_axes(x, "NC*", layout))
                try:
                    y = adapter.apply(adapter.build(spec, params, layout), given, layout)
                except Exception as error:  # noqa: BLE001 – what a framework lacks is a declared gap, or the end
                    found = verdict.Verdict("error", str(error))
                else:
                    found = verdict.judge(
                        layouts.move_axes(y, layout, "NC*"), expected, magnitude,
                        dtype="float32", data=data, products=error_bounds.products(spec),
                        arithmetic=adapter.compute_precision(spec, LayerRequest(layout, input_shape=case.input_shape)),
                    )  # fmt: skip
                support = adapter.support(spec, layout)
                one = case.varied(layout=layout, data=data)
                known = ledger.judge(one, name, "default", str(support), found.verdict, found.reason)
                if found.verdict != "agree" and not known and support != "unsupported":
                    raise SystemExit(f"{name} {layout} {spec}: {found.reason}")
    return since(before)


def checked(name: str, corpus: str, number: int) -> tuple[float, float]:
    """What `convspec check` takes for as many cases, from the last verdict on a first one to that on the last."""
    import convspec

    marks = {}

    def look(progress: Progress) -> None:
        if progress.done in (len(LAYOUTS) * len(KINDS), progress.total):
            marks[progress.done] = used()

    convspec.check(cases(corpus, number + 1), adapters=[name], jobs=1, progress=look).expect()
    (cpu, wall), (cpu_then, wall_then) = marks.values()
    return cpu_then - cpu, wall_then - wall


def child(kind: str, adapter: str, corpus: str, number: int) -> tuple[float, float]:
    command = [sys.executable, __file__, "--child", kind, "--adapters", adapter, "--corpora", corpus]
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, **ONE_THREAD, "XDG_CACHE_HOME": cache}
        done = subprocess.run(
            [*command, "--cases", str(number)], stdout=subprocess.PIPE, text=True, check=True, env=environment
        )
    cpu, wall = json.loads(done.stdout.splitlines()[-1])
    return cpu, wall


def table(corpus: str, adapters: list[str], number: int, repeats: int) -> None:
    print(f"layers of {corpus}, {len(LAYOUTS) * len(KINDS)} verdicts on each, {repeats} turns; one core")
    print(f"{'':20}{'processor seconds':^18} {'ratio':^16} {'µs more':>8} {'clock':^16}")
    print(f"{'adapter':15}{'cases':>5}{'loop':>9}{'check':>9} {'':16} {'a verdict':>8} {'ratio':^16}")
    for adapter in adapters:
        cases = number if corpus == "timm" else enough(adapter, corpus)
        turns = [[child(kind, adapter, corpus, cases) for kind in ("loop", "check")] for _ in range(repeats)]
        mine = [statistics.median(turn[i][0] for turn in turns) for i in (0, 1)]
        cpu, wall = (sorted(turn[1][i] / turn[0][i] for turn in turns) for i in (0, 1))
        more = statistics.median(turn[1][0] - turn[0][0] for turn in turns) / cases / len(LAYOUTS) / len(KINDS) * 1e6
        said = [f"{statistics.median(r):.2f} ({r[0]:.2f}–{r[-1]:.2f})" for r in (cpu, wall)]
        print(f"{adapter:15}{cases:5}{mine[0]:9.2f}{mine[1]:9.2f} {said[0]:>16} {more:8.0f} {said[1]:>16}", flush=True)
        met = "met" if statistics.median(cpu) <= MOST or more <= MICROSECONDS else "not met"
        target = f"≤ {MOST}, or ≤ {MICROSECONDS} µs a verdict"
        print(f"= check / loop, {adapter}, {corpus} | {said[0]}, {more:.0f} µs | {target} | {met}")
    print()


def enough(adapter: str, corpus: str) -> int:
    """How many cases take the loop some seconds, so that what happens once weighs little."""
    first = [child("loop", adapter, corpus, SMALL * times)[0] for times in (1, 2)]
    again = max(first[1] - first[0], 1e-3)
    return SMALL * min(max(round(SECONDS / again), TIMES[0]), TIMES[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--adapters", default=ADAPTERS)
    parser.add_argument("--corpora", default="timm", help="timm, features, or both")
    parser.add_argument("--child", choices=("loop", "check"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        out = os.dup(1)
        os.dup2(2, 1)  # frameworks print
        run = loop if options.child == "loop" else checked
        os.write(out, json.dumps(run(options.adapters, options.corpora, options.cases)).encode() + b"\n")
        return
    for corpus in options.corpora.split(","):
        table(corpus, options.adapters.split(","), options.cases, options.repeats)


if __name__ == "__main__":
    main()
