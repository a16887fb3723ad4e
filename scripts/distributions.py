"""Build the sdist and the wheel, look at what is in them, install each into fresh environments, and try it there.

``python scripts/distributions.py [--only-build]``: ``make dist``. Each of ``PYTHONS`` is looked for on the path and
among pyenv's; one that is not there is skipped by name. It ends with 1 if something is wrong.
"""

from __future__ import annotations

import email
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import convspec

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
PYTHONS = ("3.11", "3.12", "3.13")
MOST = 2 << 20  # bytes of the wheel
EXTRA = {"CHANGELOG.md", "CITATION.cff", "LICENSE", "PKG-INFO", "README.md", "SECURITY.md", "pyproject.toml"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
ADAPTERS = {*PROJECT["entry-points"]["convspec.adapters"]}
SMOKE = {
    "the version": ["-m", "convspec", "--version"],
    "the command": ["-c", "import shutil, os; assert os.access(shutil.which('convspec') or '', os.X_OK)"],
    "a layer explained": ["-m", "convspec", "show", "nn.Conv2d(3, 16, 3, stride=2)", "--input", "1,3,32,32"],
    "a layer translated": ["-m", "convspec", "source", "nn.Conv2d(3, 16, 3)", "--to", "keras"],
    "all adapters known": ["-c", f"import convspec as c; assert {{*c.adapters()}} == {ADAPTERS}, c.adapters()"],
    "the reference": ["-c", """
import numpy as np
from convspec import ConvParams, ConvSpec, reference
spec = ConvSpec(3, 4, (3, 5), stride=2, padding="same")
assert reference.conv(spec, ConvParams.random(spec, seed=0), np.ones((1, 3, 9, 9))).shape == (1, 4, 5, 5)
"""],
    "a diagnosis": ["-c", """
import numpy as np
import convspec
from convspec import ConvParams, ConvSpec, reference
spec = ConvSpec(3, 4, 3, stride=2, padding=1)
params, x = ConvParams.random(spec, seed=0), np.random.default_rng(0).standard_normal((1, 3, 8, 8))
wrong = reference.conv(ConvSpec(3, 4, 3, stride=2, padding="same"), params, x)
assert convspec.diagnose(spec, params, x, wrong, seconds=0).findings
"""],
    "corpora": ["-c", "from convspec import corpora; assert len(list(corpora.load('features'))) > 100"],
}  # fmt: skip


def build() -> tuple[Path, Path]:
    """Return the sdist, and the wheel that is built from it."""
    shutil.rmtree(DIST, ignore_errors=True)
    _run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(DIST)], ROOT)
    (sdist,) = DIST.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(sdist) as archive:
            archive.extractall(folder, filter="data")
        (unpacked,) = Path(folder).iterdir()
        _run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(DIST)], unpacked)
    (wheel,) = DIST.glob("*.whl")
    return sdist, wheel


def problems(sdist: Path, wheel: Path) -> Iterator[str]:
    """Yield what is wrong with the files and the metadata of both."""
    tracked = _run(["git", "ls-files", "convspec", "adapters"], ROOT).splitlines()
    code = {name for name in tracked if not (name.startswith("adapters/") and name.count("/") == 1)}
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()} - {".gitignore"}
    yield from _difference("the sdist", names, code | EXTRA)
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        about = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        licences = [name for name in archive.namelist() if "/licenses/" in name]
        metadata = email.message_from_bytes(archive.read(about))
    yield from _difference("the wheel", names, {name.removeprefix("adapters/") for name in code})
    if wheel.stat().st_size > MOST:
        yield f"the wheel has {wheel.stat().st_size:,} bytes, more than {MOST:,}"
    if [Path(name).name for name in licences] != ["LICENSE"]:
        yield f"the licence files of the wheel are {licences}, not LICENSE"
    yield from _metadata_problems(metadata)


def _difference(where: str, found: set[str], expected: set[str]) -> Iterator[str]:
    if missing := sorted(expected - found):
        yield f"{where} lacks {', '.join(missing[:5])}"
    if strange := sorted(found - expected):
        yield f"{where} has {', '.join(strange[:5])}"


def _metadata_problems(metadata: Message) -> Iterator[str]:
    expected = {"Name": "convspec", "Version": convspec.__version__, "License-Expression": "Apache-2.0",
                "Requires-Python": ">=3.11", "Description-Content-Type": "text/markdown"}  # fmt: skip
    for name, value in expected.items():
        if metadata[name] != value:
            yield f"the metadata says {name}: {metadata[name]}, not {value}"
    if links := metadata.get_all("Project-URL"):  # nothing is published: a link would lead nowhere
        yield f"the metadata links to {links}"


def interpreters() -> dict[str, str | None]:
    """Return each Python's path, None where it is not there."""
    return {version: next(_candidates(version), None) for version in PYTHONS}


def _candidates(version: str) -> Iterator[str]:
    folder = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    known = sorted(folder.glob(f"{version}.*/bin/python{version}"), reverse=True)
    for path in [shutil.which(f"python{version}"), *map(str, known)]:
        if path and subprocess.run([path, "-c", "import venv"], capture_output=True, check=False).returncode == 0:
            yield path


def attempt(python: str, file: Path) -> list[str]:
    """Install a distribution into a fresh environment, and return which smoke tests fail."""
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder, "venv", "bin", "python")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        clean["PATH"] = f"{own.parent}{os.pathsep}{clean.get('PATH', '')}"
        words = [[python, "-m", "venv", str(own.parents[1])],
                 [str(own), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(file)]]  # fmt: skip
        for command in words:
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean, cwd=folder)
            if done.returncode:
                return [f"{' '.join(command[1:4])}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}"]
        failed = []
        for name, command in SMOKE.items():
            done = subprocess.run([own, *command], capture_output=True, text=True, check=False, env=clean, cwd=folder)
            if done.returncode:
                failed.append(f"{name}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
        return failed


def _run(words: list[str], folder: Path) -> str:
    return subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout


def main() -> int:
    sdist, wheel = build()
    print(f"{sdist.name}: {sdist.stat().st_size:,} bytes; {wheel.name}: {wheel.stat().st_size:,} bytes")
    found = list(problems(sdist, wheel))
    for version, python in interpreters().items() if "--only-build" not in sys.argv else ():
        for file in (sdist, wheel):
            failed = [] if python is None else attempt(python, file)
            kind = "sdist" if file == sdist else "wheel"
            passed = "skipped: not installed" if python is None else f"{len(SMOKE)} smoke tests pass"
            words = "; ".join(failed) or passed
            print(f"Python {version}, {kind}: {words}", flush=True)
            found += [f"Python {version}, {kind}: {one}" for one in failed]
    for problem in found:
        print(f"wrong: {problem}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
