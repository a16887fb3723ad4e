"""Run convspec on the lowest or newest versions of frameworks, each in an environment of its own; keep the result.

``python scripts/tested_versions.py lowest|newest FRAMEWORK…`` installs this project with the extra of that name:
``lowest`` with ``constraints/lowest/FRAMEWORK.txt``, whose versions are those of ``pyproject.toml``; ``newest`` with
whatever the index has. Then ``convspec check`` runs two corpora. The result replaces the one in
``docs/_data/tested_versions.json``, from which the page of tested versions is made. ``lowest`` ends with 1 if one
fails; ``newest`` reports, and ends with 0.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DATA = ROOT / "docs" / "_data" / "tested_versions.json"
CORPORA = ("tutorial", "features")
SETS = ("lowest", "newest")


def attempt(kind: str, framework: str) -> dict[str, Any]:
    """Return the result of one environment: its versions and verdicts, or the problem."""
    result: dict[str, Any] = {"set": kind, "framework": framework, "python": sys.version.split()[0]}
    with tempfile.TemporaryDirectory() as folder:
        own, report = Path(folder, "venv", "bin", "python"), Path(folder, "report.json")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        constraints = ["-c", str(ROOT / "constraints" / "lowest" / f"{framework}.txt")] if kind == "lowest" else []
        pip = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        corpora = [word for name in CORPORA for word in ("--corpus", name)]
        steps = {
            "cannot be installed": [*pip, *constraints, f"{ROOT}[{framework}]"],
            "cannot be run": [own, "-m", "convspec", "check", "--adapters", framework, *corpora, "--json", report],
        }
        subprocess.run([sys.executable, "-m", "venv", own.parents[1]], check=True, env=clean)
        for problem, command in steps.items():
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean, cwd=folder)
            if done.returncode not in (0, 1) or (done.returncode and not report.exists()):
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                return result | {"passes": False, "problem": f"{problem}: {last[:300]}"}
        document = json.loads(report.read_text("utf-8"))
    versions = {name: version for name, version in document["environment"]["versions"].items() if name != "convspec"}
    verdicts = document["summary"]
    return result | {"versions": versions, "verdicts": verdicts, "passes": done.returncode == 0, "problem": ""}


def keep(result: dict[str, Any]) -> None:
    """Replace the result of the same environment."""
    known = json.loads(DATA.read_text("utf-8")) if DATA.exists() else []
    key = (result["set"], result["framework"])
    kept = [*(one for one in known if (one["set"], one["framework"]) != key), result]
    kept.sort(key=lambda one: (one["set"], one["framework"]))
    DATA.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


def main() -> int:
    kind, *frameworks = sys.argv[1:]
    if kind not in SETS:
        sys.exit(__doc__)
    passed = True
    for framework in frameworks:
        result = attempt(kind, framework)
        keep(result)
        passed &= result["passes"]
        words = ", ".join(f"{name} {version}" for name, version in result.get("versions", {}).items())
        verdict = "passes" if result["passes"] else "fails"
        print(f"{kind} {framework}: {verdict}: {result['problem'] or words}", flush=True)
    return 0 if passed or kind == "newest" else 1


if __name__ == "__main__":
    sys.exit(main())
