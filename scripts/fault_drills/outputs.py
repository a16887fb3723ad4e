"""Drills on the output of every command: encodings that lack characters, and descriptors that are closed or full."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from fault_drills.bench import Bench, Trial
from fault_drills.interruptions import write_corpus
from fault_drills.storage import GOOD, LAYER

COMMANDS = {  # FILE is a report; the standard input of all is a case
    "show": ["show", LAYER, "--input", "1,3,32,32"],
    "show --json": ["show", LAYER, "--json", "-"],
    "show --svg": ["show", LAYER, "--svg", "-"],
    "source": ["source", LAYER, "--to", "keras"],
    "adapters": ["adapters", "--gaps"],
    "help": ["show", "--help"],
    "usage": ["show", "--no-such-option"],
    "wrong": ["show", "nn.Conv2d(3, 16, 3, strude=2)…"],
    "report": ["report", "FILE"],
    "report --markdown": ["report", "FILE", "--markdown", "-"],
    "report --html": ["report", "FILE", "--html", "-"],
    "report diff": ["report", "diff", "FILE", "FILE"],
    "check": ["check", "--corpus", "-", "--adapters", "convspec_fakes:GOOD"],
}
ENCODINGS = ("ascii", "latin-1", "cp1252", "POSIX")
SILENT = ("usage", "wrong")  # on standard output
REDIRECTIONS = {  # and whether standard output fails
    ">&-": True, "2>&-": False, ">/dev/full": True, "2>/dev/full": False, ">&- 2>&-": True,
    ">/dev/full 2>/dev/full": True, "<&-": False,
}  # fmt: skip


def _environment(encoding: str) -> dict[str, str]:
    if encoding == "POSIX":
        return {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    return {"PYTHONIOENCODING": encoding}


def _line(name: str) -> str:
    words = ["saved.json" if word == "FILE" else word for word in COMMANDS[name]]
    given = "< case.jsonl" if name == "check" else ""
    return f"convspec {shlex.join(words)} {given}"


def _prepare(bench: Bench) -> str:
    write_corpus(bench.folder / "case.jsonl", 1)
    write_corpus(bench.folder / "cases.jsonl", 18)
    words = ("--corpus", "cases.jsonl", "--adapters", f"{GOOD},convspec_fakes:WRONG_NUMBERS", "--json", "saved.json")
    return bench.run("check", "-j", "1", *words).problem({1})


def encodings(bench: Bench) -> Iterator[Trial]:
    """Every command in every encoding: no character stops it."""
    yield Trial("the run before", _prepare(bench))
    for name in bench.chosen(COMMANDS, 3):
        whole = bench.shell(_line(name), **_environment("utf-8"))
        yield Trial(f"{name} in utf-8", whole.problem({0, 1, 2}))
        for encoding in bench.chosen(ENCODINGS, 1):
            done = bench.shell(_line(name), **_environment(encoding))
            yield Trial(f"{name} in {encoding}", done.problem({whole.status or 0}))


def descriptors(bench: Bench) -> Iterator[Trial]:
    """Every command with closed and full descriptors: a message and status 2, never the status of a finding."""
    yield Trial("the run before", _prepare(bench))
    for name in bench.chosen(COMMANDS, 3):
        whole = bench.shell(_line(name)).status or 0
        for redirection, fails in bench.chosen(REDIRECTIONS.items(), 2):
            reads = redirection == "<&-" and name == "check"  # its case
            status = 2 if reads or (fails and name not in SILENT) else whole
            done = bench.shell(f"{_line(name)} {redirection}")
            yield Trial(f"{name} {redirection}", done.problem({status}))
        done = bench.shell(f"{_line(name)} | head -c 0; exit ${{PIPESTATUS[0]}}")
        yield Trial(f"{name} | head -c 0", done.problem({whole, 141}))
