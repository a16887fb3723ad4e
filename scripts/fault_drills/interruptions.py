"""Drills on runs that are killed, stopped and ended: no verdict is lost or doubled, and nothing is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from convspec import Case, ConvSpec
from fault_drills.bench import LIMIT, Bench, Running, Trial, alive, descendants, lines, wait_for

ADAPTERS = "convspec_fakes:SEGFAULTS,convspec_fakes:GAP_HOLDS"
_KEYS = ("index", "request", "layout", "dtype", "device", "precision", "data", "direction")


def cases(number: int) -> list[Case]:
    """Return cases of which every seventeenth crashes or fails in the adapters."""
    return [
        Case(ConvSpec(3, 3 if n % 54 == 17 else 2 + 2 * (n % 5), (1, 3)), (2, 3, 5, 7), seed=n) for n in range(number)
    ]


def write_corpus(path: Path, number: int) -> Path:
    """Write the cases as a corpus."""
    path.write_text("".join(case.to_json() + "\n" for case in cases(number)), "utf-8")
    return path


def plain(document: dict[str, Any]) -> tuple[Any, ...]:
    """Return what a report says of the cases: without times, last words, and whether a suspect was alone at first."""
    found = [dict(result, evidence=dict(result["evidence"])) for result in document["results"]]
    for result in found:
        del result["seconds"]
        for key in ("first", "last_words", "reproduce"):
            result["evidence"].pop(key, None)
    return found, document["gaps"], document["summary"]


def doubled(path: Path) -> list[Any]:
    """Return the keys of verdicts that a journal has twice."""
    entries = [json.loads(line) for line in path.read_bytes().splitlines()]
    counts = Counter(tuple(entry[key] for key in _KEYS) for entry in entries if "verdict" in entry)
    return [key for key, count in counts.items() if count > 1]


def kill_again_and_again(
    start: Callable[[Sequence[str]], subprocess.Popen[Any]], opening: Sequence[str], file: Path, verdicts: int,
    times: int, chance: random.Random,
) -> Iterator[bool]:  # fmt: skip
    """Start a run with a journal, kill it at a random moment, resume it, and so on; yield whether it was killed."""
    for _ in range(times):
        process, before = start(["--resume", str(file)] if file.exists() else opening), lines(file)
        wanted = before + chance.randrange(2 * verdicts // times)
        while process.poll() is None and lines(file) < wanted:
            time.sleep(0.01)
        time.sleep(chance.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        yield process.wait() == -signal.SIGKILL


def kill(bench: Bench) -> Iterator[Trial]:
    """SIGKILL of the run, and resume."""
    corpus = write_corpus(bench.folder / "cases.jsonl", bench.count(100, 20))
    request, file = ["--corpus", str(corpus), "--adapters", ADAPTERS], bench.folder / "run.jsonl"
    whole = bench.run("check", "-j", "2", *request, "--json", "whole.json")
    yield Trial("the undisturbed run", whole.problem({1}))
    expected = json.loads((bench.folder / "whole.json").read_text("utf-8"))
    runs: list[Running] = []

    def start(words: Sequence[str]) -> subprocess.Popen[Any]:
        runs.append(bench.start("check", "-j", "2", *words))
        return runs[-1].process

    opening = [*request, "--journal", str(file)]
    total, times = len(expected["results"]), bench.count(20, 3)
    for killed in kill_again_and_again(start, opening, file, total, times, bench.chance):
        statuses = {-signal.SIGKILL} if killed else {1}
        yield Trial(f"kill {len(runs)}", runs[-1].end().problem(statuses))
    if not file.exists():
        yield Trial("the kills", "the journal was never begun")
        return
    os.truncate(file, max(file.stat().st_size - 3, 0))  # as a power cut leaves it
    done = bench.run("check", "--resume", str(file), "--json", "resumed.json")
    problem = done.problem({1})
    if not problem and plain(json.loads((bench.folder / "resumed.json").read_text("utf-8"))) != plain(expected):
        problem = "the resumed run has other results than the undisturbed one"
    yield Trial("resume after the kills", problem or (f"{len(doubled(file))} verdicts twice" * bool(doubled(file))))


class Signal(NamedTuple):
    """A signal to a process of a command: the run itself, its worker, or verify's child.

    Attributes:
        target: the command, or the process that works for it: ``"run"``, ``"worker"``, ``"start"`` of a worker,
            ``"fuzz"``, ``"verify"``, ``"audit"``.
        then: sent after a second to the process; 0 for nothing.
    """

    target: str
    number: int
    statuses: frozenset[int]
    then: int = 0

    @property
    def title(self) -> str:
        later = f", then {signal.Signals(self.then).name}" if self.then else ""
        return f"{signal.Signals(self.number).name}{later} to {self.target}"


_ANY = frozenset({0, 1})
_TERM, _HUP, _INT, _KILL = signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL
_STOP, _CONT = signal.SIGSTOP, signal.SIGCONT
SIGNALS = (
    Signal("run", _TERM, frozenset({130})), Signal("run", _INT, frozenset({130})),
    Signal("run", _HUP, frozenset({130})), Signal("run", _STOP, frozenset({-_KILL}), _KILL),
    Signal("run", _STOP, frozenset({130}), _TERM),
    *(Signal("worker", number, _ANY) for number in (_TERM, _INT, _HUP, _KILL, _STOP)),
    *(Signal("start", number, _ANY) for number in (_TERM, _HUP, _KILL, _STOP)),
    *(Signal("fuzz", number, frozenset({130})) for number in (_TERM, _HUP, _INT)),
    Signal("verify", _TERM, frozenset({-_TERM, 130})), Signal("verify", _INT, frozenset({130})),
    Signal("verify", _HUP, frozenset({-_HUP, 130})), Signal("verify", _STOP, frozenset({-_KILL}), _KILL),
    Signal("audit", _STOP, frozenset({1, 2})), Signal("audit", _KILL, frozenset({1, 2})),
    Signal("audit", _TERM, frozenset({1, 2})),
)  # fmt: skip
_SECONDS = 6.0  # the time limits of the commands
_MANY = 200  # cases, so that a run lasts until its worker gets a signal


def stop(bench: Bench) -> Iterator[Trial]:
    """SIGSTOP, SIGTERM, SIGHUP, SIGINT and SIGKILL to a run, a worker, verify and its child."""
    write_corpus(bench.folder / "cases.jsonl", _MANY)
    hanging = Case(ConvSpec(3, 3, (1, 3)), (2, 3, 5, 7))
    (bench.folder / "hanging.jsonl").write_text(f"{cases(1)[0].to_json()}\n{hanging.to_json()}\n", "utf-8")
    endless = _endless_graph(bench)
    for one in bench.chosen(SIGNALS, 3):
        if endless or one.target not in ("verify", "audit"):
            yield Trial(one.title, _signalled(bench, one))


def cluster(bench: Bench) -> Iterator[Trial]:
    """SIGKILL of a Dask cluster's scheduler: while its workers are asked, and during a run."""
    if find_spec("distributed") is None:
        bench.skipped.append("no cluster was started: distributed is not installed")
        return
    write_corpus(bench.folder / "cases.jsonl", _MANY)
    for moment in ("while workers are asked", "during a run"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        address, dask = f"tcp://127.0.0.1:{port}", [sys.executable, "-m"]
        words = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
        scheduler = Running([*dask, *words], bench.folder, {})
        words = ["distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        worker = Running([*dask, *words, "--death-timeout", "10"], bench.folder, {})
        (bench.folder / "run.jsonl").unlink(missing_ok=True)
        request = ("--corpus", "cases.jsonl", "--adapters", "convspec_fakes:GOOD", "--dask", address)
        first = ("--layouts", "NCHW", "--data", "exact")
        joined = wait_for(lambda words=(*request, *first): bench.run("check", *words).status == 0, LIMIT)
        if joined and moment == "while workers are asked":
            worker.process.send_signal(_STOP)
        running = bench.start("check", *request, "--journal", "run.jsonl")
        if moment == "during a run":
            wait_for(lambda: lines(bench.folder / "run.jsonl") > 5, LIMIT)
        else:
            time.sleep(15.0)
        scheduler.process.kill()
        problem = running.end().problem({2}) if joined else "no worker joins the cluster"
        for one in (worker, scheduler):
            one.process.kill()
            one.end()
        yield Trial(f"the scheduler is killed {moment}", problem)


def _endless_graph(bench: Bench) -> bool:
    try:
        import onnx

        from tests.adapters.onnx.hostile import endless_loop
    except ImportError as error:
        bench.skipped.append(f"verify was not stopped: {error}")
        return False
    onnx.save(endless_loop(), bench.folder / "endless.onnx")
    return True


def _children(main: int) -> list[int]:
    """Return a command's workers, or the audit of verify, each after its reaper; not the child that tries adapters."""
    found = []
    for process in descendants(main):
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{process}/comm").read_text("utf-8").strip()
            found += [process] if name in ("worker", "audit") else []
    return found


def _signalled(bench: Bench, one: Signal) -> str:
    """Start the command, wait until the process in question works, send the signals; return what is wrong."""
    journal = bench.folder / "run.jsonl"
    journal.unlink(missing_ok=True)
    limits = ("--timeout", f"{_SECONDS:g}", "--start-timeout", f"{_SECONDS:g}")
    if one.target in ("verify", "audit"):
        limit = f"{_SECONDS:g}" if (one.target, one.number) == ("audit", _STOP) else "600"
        running = bench.start("verify", "endless.onnx", "--timeout", limit)
    elif one.target == "fuzz":
        running = bench.start("fuzz", "-j", "1", "--cases", "100000", "--adapters", "convspec_fakes:GOOD")
    elif one.target == "run":
        words = ("--corpus", "hanging.jsonl", "--adapters", "convspec_fakes:HANGS", "--journal", "run.jsonl")
        running = bench.start("check", "-j", "1", "--timeout", "600", *words)
    else:
        words = ("--corpus", "cases.jsonl", "--adapters", "convspec_fakes:GOOD", "--journal", "run.jsonl")
        running = bench.start("check", "-j", "1", *limits, *words)
    main = running.process.pid
    ready = (lambda: lines(journal) > 5) if one.target in ("run", "worker") else lambda: len(_children(main)) >= 2
    if not wait_for(lambda: ready() or running.process.poll() is not None, 120):
        return f"the command does not begin to work; {running.end(0).err[-200:]}"
    if one.target not in ("worker", "start"):
        time.sleep(3.0 if one.target != "run" else 0.5)  # it is in the middle of it
    family = _children(main)
    target = main if one.target in ("run", "fuzz", "verify") else family[-1] if family else 0
    if not alive(target):
        return "the command was over before the signal"
    began = time.monotonic()
    for number in (one.number, one.then):
        if number:
            os.kill(target, number)
            time.sleep(1.0)
    if one.then and one.then != _KILL:
        os.kill(target, _CONT)  # a stopped process takes other signals when it continues
    done = running.end()
    problem = done.problem(one.statuses)
    if not problem and time.monotonic() - began > 10 * _SECONDS:
        problem = f"the time limit of {_SECONDS:g} s was not kept: {time.monotonic() - began:.0f} s"
    if not problem and one.target in ("worker", "start"):
        found = sum("verdict" in json.loads(line) for line in journal.read_bytes().splitlines())
        problem = "" if found == 4 * _MANY and not doubled(journal) else f"{found} verdicts of {4 * _MANY}"
    return problem
