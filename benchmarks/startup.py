"""Start-up: what ``import convspec`` and ``convspec --help`` cost beside ``import numpy``.

Every figure is the median over fresh processes, started in turn so that a busy moment hits all alike.
Run: ``python benchmarks/startup.py [ROUNDS]``. Exit status 1 where a budget is exceeded.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import numpy": [sys.executable, "-c", "import numpy"],
    "import convspec": [sys.executable, "-c", "import convspec"],
    "import convspec, all public names": [
        sys.executable,
        "-c",
        "import convspec; [getattr(convspec, name) for name in convspec.__all__]",
    ],
    "convspec --help": [str(Path(sys.executable).with_name("convspec")), "--help"],
}
MORE_THAN_NUMPY = 0.040
HELP = 0.4


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    return time.perf_counter() - began


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for i in range(rounds + 1):
        for name, command in COMMANDS.items():
            elapsed = seconds(command)
            if i:  # the first round warms the disk cache
                times[name].append(elapsed)
    medians = {name: statistics.median(values) for name, values in times.items()}
    base = medians["import numpy"]
    print(f"{'':36}{'median':>9}  {'÷ import numpy':>14}")
    for name, median in medians.items():
        print(f"{name:36}{median * 1e3:6.0f} ms  {median / base:14.2f}")
    worst = max(medians["import convspec"], medians["import convspec, all public names"]) - base
    print(f"\nimport convspec: {worst * 1e3:+.0f} ms against import numpy (budget +{MORE_THAN_NUMPY * 1e3:.0f} ms)")
    print(f"convspec --help: {medians['convspec --help'] * 1e3:.0f} ms (budget {HELP * 1e3:.0f} ms)")
    return int(worst > MORE_THAN_NUMPY or medians["convspec --help"] > HELP)


if __name__ == "__main__":
    sys.exit(main())
