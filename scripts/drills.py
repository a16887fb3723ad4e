# ruff: noqa: T201 – a script for people
"""Fault drills: real faults against the installed convspec, and a table of what was tried and what failed.

    python scripts/drills.py
    python scripts/drills.py --short --only journals,texts --seed 7 --json drills.json

A trial fails on a traceback, an unexpected exit status, a hang, a process or folder that is left behind, a verdict that
is lost or there twice, a file that is spoilt, and input whose code runs. The exit status is 1 if any trial failed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # the graphs are those of the tests
from fault_drills import DRILLS, Bench
from rich.console import Console

_SHOWN = 20  # failures of one drill


def run(name: str, seed: int, *, short: bool, tell: Callable[[str, int, int], None]) -> dict[str, Any]:
    """Run one drill and return its row, with what failed."""
    began, failures, tried = time.monotonic(), [], 0
    with tempfile.TemporaryDirectory(prefix=f"drill-{name}-") as folder:
        bench = Bench(Path(folder), seed, short=short)
        try:
            for trial in DRILLS[name](bench):
                tried += 1
                failures += [{"trial": trial.title, "problem": trial.problem}] if trial.problem else []
                tell(name, tried, len(failures))
                if trial.problem and trial.title == "the run before":  # the others need its files
                    break
        except Exception as error:  # noqa: BLE001 – it spares the other drills
            failures.append({"trial": "the drill itself", "problem": f"{type(error).__name__}: {error}"})
    row = {"drill": name, "tried": tried, "failed": len(failures), "seconds": round(time.monotonic() - began)}
    return {**row, "failures": failures, "skipped": bench.skipped}


def run_all(chosen: list[str], jobs: int, seed: int, *, short: bool) -> list[dict[str, Any]]:
    """Run drills, some at a time, and return their rows; a terminal shows counts, a pipe gets a line for each drill."""
    console, counts = Console(stderr=True), dict.fromkeys(chosen, (0, 0))
    with console.status("starting") as status, ThreadPoolExecutor(jobs) as pool:

        def tell(name: str, tried: int, failed: int) -> None:
            counts[name] = (tried, failed)
            status.update(", ".join(f"{n} {t}" + (f" ({f} failed)" if f else "") for n, (t, f) in counts.items() if t))

        def one(name: str) -> dict[str, Any]:
            row = run(name, seed, short=short, tell=tell)
            if not console.is_terminal:
                console.print(
                    "\n".join(line for line in lines([row]) if line.startswith(name)), highlight=False, markup=False
                )
            return row

        return list(pool.map(one, chosen))


def lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the table, and below it what failed and what could not be tried."""
    total = {key: sum(row[key] for row in rows) for key in ("tried", "failed", "seconds")}
    yield f"{'drill':12} {'tried':>6} {'failed':>6} {'seconds':>7}"
    for row in [*rows, {"drill": "all", **total}]:
        yield f"{row['drill']:12} {row['tried']:6} {row['failed']:6} {row['seconds']:7}"
    for row in rows:
        shown = row["failures"][:_SHOWN]
        yield from (f"{row['drill']}: {one['trial']}: {one['problem']}" for one in shown)
        if len(row["failures"]) > len(shown):
            yield f"{row['drill']}: and {len(row['failures']) - len(shown)} more"
        yield from (f"{row['drill']}: not tried: {reason}" for reason in row["skipped"])


def names(text: str) -> list[str]:
    """Return the names of drills in a list with commas."""
    chosen = text.split(",")
    if unknown := [name for name in chosen if name not in DRILLS]:
        raise argparse.ArgumentTypeError(f"unknown drill {unknown[0]!r}; the drills are {', '.join(DRILLS)}")
    return chosen


def main() -> int:
    """Run the drills; return 1 if a trial failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", type=names, default=list(DRILLS), metavar="NAME,…", help=f"Some of {', '.join(DRILLS)}."
    )
    parser.add_argument("--seed", type=int, default=0, help="Random seed of all drills.")
    parser.add_argument("--short", action="store_true", help="A few trials of each drill, chosen by the seed.")
    parser.add_argument("--json", metavar="FILE", help="Write the table and all failures as JSON (-: standard output).")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count(), help="Drills at a time; default: all cores.")
    options = parser.parse_args()
    for ignored in (signal.SIGINT, signal.SIGHUP):  # in a shell's background job and under nohup: by commands as well
        signal.signal(ignored, signal.SIG_DFL)
    rows = run_all(options.only, options.jobs, options.seed, short=options.short)
    document = {
        "date": datetime.now(UTC).date().isoformat(),
        "seed": options.seed,
        "short": options.short,
        "drills": rows,
    }
    text = json.dumps(document, indent=1) + "\n"
    if options.json not in (None, "-"):
        Path(options.json).write_text(text, "utf-8")
    print(text if options.json == "-" else "\n".join(lines(rows)))
    return 1 if any(row["failed"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
