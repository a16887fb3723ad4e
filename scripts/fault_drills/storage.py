"""Drills on disks that are full and journals that are damaged: files stay whole, and the counts add up."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fault_drills.bench import Bench, Done, Trial
from fault_drills.interruptions import doubled, plain, write_corpus

GOOD = "convspec_fakes:GOOD,convspec_fakes:GAP_HOLDS"
LAYER = "nn.Conv2d(3, 16, 3, stride=2, padding=1)"
DOCUMENTS = {  # a command that writes a file OUT, and the KiB that it may write
    "report --json": ("report saved.json --json OUT", 4),
    "report --html": ("report saved.json --html OUT", 4),
    "report --markdown": ("report saved.json --markdown OUT", 0),
    "report --junit": ("report saved.json --junit OUT", 4),
    "report of a journal": ("report saved.jsonl --json OUT", 4),
    "report merge": ("report merge saved.jsonl --json OUT", 4),
    "show --json": (f"show {shlex.quote(LAYER)} --json OUT", 0),
    "show --svg": (f"show {shlex.quote(LAYER)} --svg OUT", 0),
    "source --json": (f"source {shlex.quote(LAYER)} --to keras --json OUT", 0),
    "adapters --json": ("adapters --json OUT", 0),
    "check --json": (f"check --corpus cases.jsonl --adapters {GOOD} --json OUT", 4),
}


def full_disk(bench: Bench) -> Iterator[Trial]:
    """Full disks and size limits, for a journal and for every document."""
    yield Trial("the run before", _saved(bench))
    mounts = _can_mount(bench)
    for name, (line, kibibytes) in bench.chosen(DOCUMENTS.items(), 2):
        if "check" not in line:  # whose workers have files of their own
            yield Trial(f"{name}, limit of {kibibytes} KiB", _limited_document(bench, line, kibibytes))
        if mounts:
            yield Trial(f"{name}, full disk", _full_document(bench, line))
        yield Trial(f"{name}, /dev/full", _refused(bench.shell(f"convspec {line.replace('OUT', '/dev/full')}")))
    expected = json.loads((bench.folder / "saved.json").read_text("utf-8"))
    for kibibytes in bench.chosen((4, 8, 12, 16, 24, 40, 64), 1) if mounts else ():
        yield Trial(f"journal on a disk of {kibibytes} KiB", _journal(bench, kibibytes, expected))


def _saved(bench: Bench) -> str:
    corpus = write_corpus(bench.folder / "cases.jsonl", 20)
    words = ("--corpus", corpus.name, "--adapters", GOOD, "--journal", "saved.jsonl", "--json", "saved.json")
    return bench.run("check", "-j", "1", *words).problem({0, 1})


def _can_mount(bench: Bench) -> bool:
    done = bench.shell("unshare -Urm sh -c 'mkdir -p probe && mount -t tmpfs -o size=8k none probe'")
    if done.status != 0:
        bench.skipped.append(f"no disk was filled, as none can be mounted: {done.err.strip()[-100:]}")
    return done.status == 0


def _limited_document(bench: Bench, line: str, kibibytes: int) -> str:
    """Run a command that cannot write its document over one that is there; return what is wrong."""
    place = bench.folder / "place"
    place.mkdir(exist_ok=True)
    (place / "out").write_text("before")
    limited = f"ulimit -f {kibibytes}; trap '' XFSZ; exec convspec {line.replace('OUT', 'place/out')}"
    return _judged(bench.shell(f"({limited}) 2>&1 | cat; exit ${{PIPESTATUS[0]}}"), place)  # messages are in no file


def _refused(done: Done) -> str:
    """Return what is wrong with a command that could not write; another refusal, of an option, is no trial."""
    written = re.search(r"^convspec: cannot write ", done.out + done.err, re.M)
    return done.problem({2}) or ("" if written else f"no message: {(done.out + done.err)[-100:]}")


def _judged(done: Done, place: Path) -> str:
    problem = _refused(done)
    if not problem and (place / "out").read_text() != "before":
        problem = "the file before is lost"
    others = [path.name for path in place.iterdir() if path.name != "out"]
    return problem or (f"left behind: {', '.join(others)}" if others else "")


def _mounted(size: int, line: str) -> str:
    """Return a line of the shell that runs another one with a small file system as ``disk``, copied to ``kept``."""
    inner = f"mount -t tmpfs -o size={size}k none disk || exit 77; {line}; status=$?; cp -a disk/. kept; exit $status"
    return f"rm -rf disk kept; mkdir disk kept; unshare -Urm bash -c {shlex.quote(inner)}"


def _full_document(bench: Bench, line: str) -> str:
    """Run a command on a disk on which nothing but the file before has room."""
    fill = "printf before > disk/out; cat /dev/zero > disk/filler 2> /dev/null; "
    run = f"{fill}convspec {line.replace('OUT', 'disk/out')}; ended=$?; rm disk/filler; (exit $ended)"
    return _judged(bench.shell(_mounted(16, run)), bench.folder / "kept")


def _journal(bench: Bench, size: int, expected: dict[str, Any]) -> str:
    """Run with a journal on a small disk, then resume where there is room; return what is wrong."""
    line = f"convspec check -j 1 --corpus cases.jsonl --adapters {GOOD} --journal disk/run.jsonl"
    done, journal = bench.shell(_mounted(size, line)), bench.folder / "kept" / "run.jsonl"
    problem = done.problem({2}) if size < 64 else done.problem({0, 1, 2})
    if problem or not journal.exists():
        others = [path.name for path in journal.parent.iterdir()]
        return problem or (f"left behind: {', '.join(others)}" if others else "")
    if not journal.read_bytes().endswith(b"\n"):
        return "the journal ends within a line"
    again = bench.run("check", "--resume", str(journal), "--json", "resumed.json")
    if problem := again.problem({0, 1}):
        return problem
    if plain(json.loads((bench.folder / "resumed.json").read_text("utf-8"))) != plain(expected):
        return "the resumed run has other results"
    return "verdicts twice" if doubled(journal) else ""


# -- damaged journals --------------------------------------------------------------------------------------------------

VALUES = (
    None, True, -1, 0, 1e400, float("nan"), 10**30, "", "zz", "\x1b[31m\u202e", [], [[]], {}, {"a": []}, [None],
    "agree", "x" * 5000, -(10**9), 0.5, "1e400", ["\ud800"],
)  # fmt: skip


def journals(bench: Bench) -> Iterator[Trial]:
    """Journals and reports with random damage, to bytes and to JSON, in `report` and `--resume`."""
    yield Trial("the run before", _saved(bench))
    originals = {name: (bench.folder / name).read_bytes() for name in ("saved.jsonl", "saved.json")}
    total = len(json.loads(originals["saved.json"])["results"])
    requests, titles = [], []
    for number in range(bench.count(400, 20)):
        name = "saved.jsonl" if number % 4 else "saved.json"
        title, content = _damaged(bench, originals[name])
        path = bench.folder / f"damaged-{number}{Path(name).suffix}"
        path.write_bytes(content)
        titles.append(f"report, {name} {number}: {title}")
        requests.append(["report", str(path), "--json", str(path.with_suffix(".out"))])
    for title, request, done in zip(titles, requests, bench.many(requests), strict=True):
        yield Trial(title, done.problem({0, 1, 2}) or (_added_up(Path(request[-1]), total) if done.status != 2 else ""))
    for number in range(bench.count(25, 2)):
        title, content = _damaged(bench, originals["saved.jsonl"])
        path = bench.folder / f"resumed-{number}.jsonl"
        path.write_bytes(content)
        done = bench.run("check", "-j", "1", "--resume", str(path), "--json", "resumed.json")
        problem = done.problem({0, 1, 2})
        if not problem and done.status != 2:
            problem = _added_up(bench.folder / "resumed.json", total)
        yield Trial(f"--resume {number}: {title}", problem)


def _damaged(bench: Bench, content: bytes) -> tuple[str, bytes]:
    """Return a journal or report with damage, and what that is."""
    chance, lines = bench.chance, content.splitlines(keepends=True)
    at, line = chance.randrange(len(content)), chance.randrange(2 if chance.random() < 0.3 else len(lines))
    kind = chance.choice(("byte", "cut", "end", "zeros", "twice", "swap", "lost", "value", "value", "value", "value"))
    if kind == "byte":
        return f"byte {at}", content[:at] + bytes([chance.randrange(256)]) + content[at + 1 :]
    if kind == "cut":
        return f"bytes lost at {at}", content[:at] + content[at + chance.choice((1, 2, 9, 500)) :]
    if kind == "end":
        return f"ends at {at}", content[:at]
    if kind == "zeros":
        return f"zeros at {at}", content[:at] + bytes(400) + content[at + 400 :]
    if kind in ("twice", "swap", "lost"):
        other = chance.randrange(len(lines))
        lines[line : line + 1] = {"twice": [lines[line]] * 2, "swap": [lines[other]], "lost": []}[kind]
        return f"line {line} {kind}", b"".join(lines)
    whole = content.startswith(b"{\n")
    document = json.loads(content if whole else lines[line])
    where, value = _replace(bench, document)
    text = json.dumps(document, separators=(",", ":")).encode()
    lines[line] = text + b"\n"
    return f"line {line}: {where} is {value!r:.40}", text if whole else b"".join(lines)


def _replace(bench: Bench, document: Any) -> tuple[str, Any]:
    """Replace a random value of a document, at any depth."""
    path, inner = "", document
    while True:
        keys = list(inner) if isinstance(inner, dict) else range(len(inner))
        key = bench.chance.choice(keys)
        path += f".{key}"
        if not (isinstance(inner[key], dict | list) and inner[key]) or bench.chance.random() < 0.2:
            inner[key] = bench.chance.choice(VALUES)
            return path, inner[key]
        inner = inner[key]


def _added_up(path: Path, total: int) -> str:
    """Return what is wrong with the counts of a report: its summary, its results, and those missing of the total."""
    document = json.loads(path.read_text("utf-8"))
    results = len(document["results"])
    counted = sum(count for name, count in document["summary"].items() if name != "unexpected")
    missing = [re.match(r"(-?\d+) of (\d+) verdicts", line) for line in document["missing"]]
    numbers = [(int(m[1]), int(m[2])) for m in missing if m]
    if counted != results:
        return f"the summary counts {counted} of {results} results"
    if any(left < 0 or left > whole or left + results != whole for left, whole in numbers):
        return f"{results} results, but {document['missing']}"
    return f"{results} results of {total}" if results > total and not numbers else ""
