"""Start-up: what ``import convspec`` and ``convspec --help`` cost beside ``import numpy``.

Every figure is the median over fresh processes, started in turn so that a busy moment hits all alike; processor time
is shown next to wall time, since only the former means anything on a busy machine.
Run: ``python benchmarks/startup.py [ROUNDS]``. Exit status 1 where a budget is exceeded.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

PUBLIC = "import convspec; [getattr(convspec, name) for name in convspec.__all__]"
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import numpy": [sys.executable, "-c", "import numpy"],
    "import convspec": [sys.executable, "-c", "import convspec"],
    "import convspec, every public name": [sys.executable, "-c", PUBLIC],
    "convspec --help": [str(Path(sys.executable).with_name("convspec")), "--help"],
}
MORE_THAN_NUMPY = 0.040
HELP = 0.4


def seconds(command: list[str]) -> tuple[float, float]:
    """Wall time and processor time of one process."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    wall = time.perf_counter() - began
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for i in range(rounds + 1):
        for name, command in COMMANDS.items():
            elapsed = seconds(command)
            if i:  # the first round warms the disk cache
                times[name].append(elapsed)
    wall, busy = ({name: statistics.median(t[i] for t in times[name]) for name in times} for i in (0, 1))
    print(f"{'':36}{'wall':>9}{'processor':>12}{'÷ import numpy':>17}")
    for name in COMMANDS:
        ratio = busy[name] / busy["import numpy"]
        print(f"{name:36}{wall[name] * 1e3:6.0f} ms{busy[name] * 1e3:9.0f} ms{ratio:17.2f}")
    more = wall["import convspec"] - wall["import numpy"]
    print(f"\nimport convspec: {more * 1e3:+.0f} ms against import numpy (budget +{MORE_THAN_NUMPY * 1e3:.0f} ms)")
    print(f"convspec --help: {wall['convspec --help'] * 1e3:.0f} ms (budget {HELP * 1e3:.0f} ms)")
    for name in ("import convspec", "convspec --help"):
        print(f"= {name} / import numpy, processor time | {busy[name] / busy['import numpy']:.2f} | |")
    met = {True: "met", False: "not met"}
    print(f"= import convspec, beyond NumPy | {more * 1e3:+.0f} ms | ≤ 40 ms | {met[more <= MORE_THAN_NUMPY]}")
    helped = wall["convspec --help"]
    print(f"= convspec --help | {helped * 1e3:.0f} ms | ≤ {HELP * 1e3:.0f} ms | {met[helped <= HELP]}")
    return int(more > MORE_THAN_NUMPY or wall["convspec --help"] > HELP)


if __name__ == "__main__":
    sys.exit(main())
