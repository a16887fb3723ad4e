"""How the time of `convspec check` goes with the number of workers, and with the number of cases.

* Jobs: the same real layers (of the corpus `timm`) with `--jobs 1` on one core and with `--jobs 2` on two, taking
  turns; seconds of the clock, from start to end, less those of a run of one layer.
* Cases: the first 100 cases of the corpus `features`, again and again with other seeds, on one core; processor time of
  all processes by the number of cases, and the largest memory that they held, each by itself. A further verdict's time
  is the median over the hundreds of cases beyond the next smaller run and over the turns, all of them the same work:
  the machine's own pace varies by a fifth within seconds.

    python benchmarks/scaling.py [--jobs-cases N] [--repeats R] [--adapters torch,flax,keras,onnx] [--sizes 100,500,…]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from check import used
from processes import descendants

from convspec.conformance import Progress

HUNDRED, VERDICTS = 100, 4  # cases at a time, and the verdicts on each
SIZES = "100,1000,2500,5000"
LEAST, SLOPE, MEMORY = 1.7, 0.10, 0.05


def by_jobs(adapter: str, jobs: int, number: int) -> float:
    """Seconds of the clock for so many layers, start-up left out, on as many cores as there are jobs."""
    import convspec
    from convspec import corpora

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:jobs])
    cases = corpora.sample(corpora.load("timm"), number + 1, 1)
    seconds = []
    for some in (cases[:1], cases):
        began = time.monotonic()
        convspec.check(some, adapters=[adapter], jobs=jobs).expect()
        seconds.append(time.monotonic() - began)
    return seconds[1] - seconds[0]


def by_cases(adapter: str, number: int) -> dict[str, Any]:
    """Processor time of each hundred cases after the first, and of the end; the most MiB that both processes held."""
    import convspec
    from convspec import corpora

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    first = corpora.load("features")[:HUNDRED]
    cases = [case.varied(seed=case.seed + turn) for turn in range(number // HUNDRED) for case in first]
    found = {"worker": 0.0, "runner": 0.0}
    marks: list[float] = []
    last = 0.0

    def look(progress: Progress) -> None:
        nonlocal last
        if progress.done % (HUNDRED * VERDICTS) == 0:
            sizes = [resident(process) for process in descendants(os.getpid())]
            found["worker"] = max(found["worker"], *sizes)
            found["runner"] = max(found["runner"], resident(os.getpid()))
            marks.append(used()[0])
            last = time.process_time()

    report = convspec.check(cases, adapters=[adapter], jobs=1, progress=look).expect()
    assert len(report.results) == len(cases) * VERDICTS
    end = time.process_time() - last
    return {**found, "hundreds": [later - mark for mark, later in itertools.pairwise(marks)], "end": end}


def resident(process: int) -> float:
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text("ascii").split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def child(*arguments: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [sys.executable, __file__, "--child", *arguments],
            stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "XDG_CACHE_HOME": cache},
        )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def jobs_table(adapters: list[str], number: int, repeats: int) -> None:
    print(f"{number} timm layers, {repeats} turns, seconds of the clock")
    print(f"{'adapter':15}{'1 job, 1 core':>14}{'2 jobs, 2 cores':>17}  times as fast")
    for adapter in adapters:
        turns = [[child("jobs", adapter, jobs, str(number))["seconds"] for jobs in "12"] for _ in range(repeats)]
        one, two = (statistics.median(turn[i] for turn in turns) for i in (0, 1))
        ratios = sorted(turn[0] / turn[1] for turn in turns)
        said = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"
        print(f"{adapter:15}{one:14.1f}{two:17.1f}  {said}", flush=True)
        met = "met" if statistics.median(ratios) >= LEAST else "not met"
        print(f"= jobs 1 / jobs 2, {adapter} | {said} | ≥ {LEAST} | {met}")


def cases_table(adapter: str, sizes: list[int], repeats: int) -> None:
    print(f"\n{adapter}, small layers, {VERDICTS} verdicts each; processor time and memory, medians of {repeats} turns")
    print(f"{'cases':>8}{'seconds':>9}{'µs a further verdict':>24}{'worker MiB':>12}{'runner MiB':>12}")
    turns = [[child("cases", adapter, "1", str(size)) for size in sizes] for _ in range(repeats)]
    slopes, both, less = [], [], HUNDRED
    for size, runs in zip(sizes, zip(*turns, strict=True), strict=True):
        worker, runner = (statistics.median(run[key] for run in runs) for key in ("worker", "runner"))
        both.append(worker + runner)
        seconds = statistics.median(sum(run["hundreds"]) + run["end"] for run in runs)
        beyond = [[h * 1e6 / HUNDRED / VERDICTS for h in run["hundreds"][less // HUNDRED - 1 :]] for run in runs]
        said = ""
        if size > less:
            slopes.append(statistics.median(itertools.chain(*beyond)))
            of_turns = [statistics.median(hundreds) for hundreds in beyond]
            said = f"{slopes[-1]:.0f} ({min(of_turns):.0f}–{max(of_turns):.0f})"
        print(f"{size:8}{seconds:9.2f}{said:>24}{worker:12.1f}{runner:12.1f}", flush=True)
        less = size
    for title, values, most in (("time of a further verdict", slopes, SLOPE), ("memory of both", both, MEMORY)):
        ratio = max(values) / min(values)
        met = "met" if ratio <= 1 + most else "not met"
        print(f"= {title}, {sizes[0]} to {sizes[-1]} cases: most / least | {ratio:.2f} | ≤ {1 + most:.2f} | {met}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--adapters", default="torch,flax,keras,onnx")
    parser.add_argument("--jobs-cases", type=int, default=300)
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, adapter, jobs, number = options.child
        out = os.dup(1)
        os.dup2(2, 1)  # frameworks print
        jobs_run = kind == "jobs"
        found = {"seconds": by_jobs(adapter, int(jobs), int(number))} if jobs_run else by_cases(adapter, int(number))
        os.write(out, json.dumps(found).encode() + b"\n")
        return
    if options.jobs_cases:
        jobs_table(options.adapters.split(","), options.jobs_cases, options.repeats)
    cases_table("torch", [int(size) for size in options.sizes.split(",")], options.repeats)


if __name__ == "__main__":
    main()
