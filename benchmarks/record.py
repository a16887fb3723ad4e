"""Every benchmark, one after the other, into the page that keeps what they gave: ``docs/performance.md``.

A benchmark prints a table, and lines ``= what | ratio | target | met`` that become the page's table of ratios.

    python benchmarks/record.py [--only check,scaling,…] [-- options of the benchmark]
"""

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from convspec.conformance import environment

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"
BENCHMARKS = {
    "check": ("check.py",), "small": ("check.py", "--corpora", "features"),
    **{name: (f"{name}.py",) for name in ("scaling", "oracle", "startup", "verify", "compare")},
}  # fmt: skip
PACKAGES = (
    *("torch", "jax", "flax", "keras", "tensorflow", "onnx", "onnxruntime", "equinox", "openvino"),
    *("mlx", "ai-edge-litert", "ncnn", "numpy", "polygraphy"),
)


def measured(name: str, options: list[str]) -> str:
    """What a benchmark prints, shown as it comes."""
    script, *its = BENCHMARKS[name]
    command = [sys.executable, str(HERE / script), *its, *options]
    print(f"== {name}", flush=True)
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    if process.returncode and not any(line.startswith("= ") for line in lines):
        raise SystemExit(f"{name} ended with {process.returncode}")
    return "\n".join(lines)


def section(printed: str) -> str:
    """The part of the page: date, machine and versions, the ratios as a table, and what was printed."""
    ratios = [[cell.strip() for cell in line[2:].split("|")] for line in printed.splitlines() if line.startswith("= ")]
    shown = "\n".join(line for line in printed.splitlines() if not line.startswith("= ")).strip("\n")
    rows = "\n".join(f"| {' | '.join(cells)} |" for cells in ratios)
    about = f"{environment.cpu_model()}, {environment.cores()} cores, Python {sys.version.split()[0]}"
    return (
        f"{datetime.date.today().isoformat()}, {about}; {', '.join(_versions())}.\n\n"
        f"| | ratio (least–most) | target | |\n|---|---|---|---|\n{rows}\n\n```text\n{shown}\n```"
    )


def _versions() -> list[str]:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found


def filed(page: str, name: str, text: str) -> str:
    """The page with another text between the marks of that benchmark."""
    marks = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    pattern = re.compile(f"{re.escape(marks[0])}.*?{re.escape(marks[1])}", re.S)
    if not pattern.search(page):
        raise SystemExit(f"{PAGE} has no place for {name}")
    return pattern.sub(lambda _: f"{marks[0]}{text}\n{marks[1]}", page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(BENCHMARKS))
    parser.add_argument("options", nargs="*", help="Options of the benchmark, after --.")
    options = parser.parse_args()
    for name in options.only.split(","):
        text = section(measured(name, options.options))
        PAGE.write_text(filed(PAGE.read_text("utf-8"), name, text), "utf-8")


if __name__ == "__main__":
    main()
