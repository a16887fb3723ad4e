"""The files of the calculator page: Python for the browser, the project's wheel, and answers to the page's examples.

Python is the npm package ``pyodide``, one pinned release with its checksum. It is fetched once, into ``docs/_build``;
without npm or a network the site is built without it, and the page says what is missing. The page loads the modules
that it needs, compiled; the whole library and the wheel lie beside them for a request that needs another module.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl

from convspec.layers import calculate

ROOT = Path(__file__).parents[1]
VERSION = "314.0.7"
INTEGRITY = "0YvXxEhfEdpLfb/XkM2BFAeMROq0iMUX2bzzH9pOttyMcWkwq+HbE5uyuGD82LN7y2q+SNvi/6V5JEsOlD2R1A=="  # SHA-512
NEEDED = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
PACKED = ("pyodide.asm.mjs", "pyodide.asm.wasm")  # the page asks for them compressed: a third of the bytes
ARCHIVE = ROOT / "docs" / "_build" / f"pyodide-{VERSION}.tgz"
SECONDS = 180
PACKING = 600  # seconds; ten on an idle core


def main(site: Path) -> str | None:
    """Write all files into the folder ``calculator`` of a built site; return what is missing, if anything."""
    folder = site / "calculator"
    folder.mkdir(exist_ok=True)
    wheel(folder / "convspec.whl")
    problem = fetch()
    if problem is None:
        unpack(folder / "pyodide")
        bundle(folder)
    return problem


def bundle(folder: Path) -> None:
    """Write the modules that the page needs, compiled by the page's own Python, unless nothing has changed."""
    scripts = [ROOT / "scripts" / f"site_bundle.{kind}" for kind in ("mjs", "py")]
    made = folder / "python.zip"  # the last file that is written
    if made.exists() and all(
        file.stat().st_mtime < made.stat().st_mtime for file in (folder / "convspec.whl", ARCHIVE, *scripts)
    ):
        return
    command = ["node", str(scripts[0]), str(folder)]
    subprocess.run(command, input=json.dumps(requests()), text=True, check=True, timeout=PACKING)


def wheel(target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=SECONDS)
        made = next(Path(folder).glob("*.whl")).read_bytes()
    if not target.exists() or target.read_bytes() != made:
        target.write_bytes(made)


def fetch() -> str | None:
    """Fetch the archive unless it exists, and check it; return the problem, if any."""
    if not ARCHIVE.exists():
        npm = shutil.which("npm")
        if npm is None:
            return "npm, which fetches pyodide, is not installed"
        ARCHIVE.parent.mkdir(exist_ok=True)
        command = [npm, "pack", "--silent", f"pyodide@{VERSION}", "--pack-destination", str(ARCHIVE.parent)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return f"npm has not fetched pyodide {VERSION} within {SECONDS} seconds"
        if done.returncode:
            return f"npm cannot fetch pyodide {VERSION}: {(done.stderr.strip() or 'no reason given').splitlines()[-1]}"
    if base64.b64encode(hashlib.sha512(ARCHIVE.read_bytes()).digest()).decode() != INTEGRITY:
        ARCHIVE.unlink()
        raise RuntimeError(f"{ARCHIVE.name} differs from the pinned release in its SHA-512")
    return None


def unpack(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    with tarfile.open(ARCHIVE) as archive:
        for name in NEEDED:
            member = archive.extractfile(f"package/{name}")
            assert member is not None, name
            (folder / name).write_bytes(member.read())
    lock = folder / "pyodide-lock.json"
    lock.write_text(json.dumps(json.loads(lock.read_text("utf-8")) | {"packages": {}}), "utf-8")  # none of them is used
    for name in PACKED:
        packed = folder / f"{name}.gz"
        if not packed.exists() or packed.stat().st_mtime < (folder / name).stat().st_mtime:
            packed.write_bytes(gzip.compress((folder / name).read_bytes(), 9, mtime=0))


def requests() -> list[dict[str, str]]:
    """Return the page's examples as requests."""
    page = (ROOT / "docs" / "_data" / "calculator.html").read_text("utf-8")
    return [dict(parse_qsl(unescape(found))) for found in re.findall(r'href="#(layer=[^"]+)"', page)]


def built_answers() -> tuple[str, str]:
    """Return the answers to the page's examples: the first with the page's script, the others as JSON."""
    answers = [
        {
            "request": request,
            "answer": calculate(
                request["layer"], request.get("input", ""), request.get("layout", ""), request.get("in_channels", "")
            ),
        }
        for request in requests()
    ]
    text = json.dumps(answers[:1], ensure_ascii=False).replace("<", "\\u003c")
    first = f'<script type="application/json" id="built">{text}</script>\n'  # the page's script reads it, and waits for
    first += '<script type="module" async src="_static/calculator.js"></script>\n'  # nothing that comes after
    return first, json.dumps(answers[1:], ensure_ascii=False)


if __name__ == "__main__":
    if problem := main(Path(sys.argv[1])):
        sys.exit(problem)
