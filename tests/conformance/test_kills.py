"""kill -9 at twenty random moments: after each the run goes on, and in the end nothing is lost or there twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import convspec
from convspec import Case, ConvSpec
from convspec.conformance import journal

FAKES = Path(__file__).parents[1] / "fakes"
KILLS = 20
ADAPTERS = ["convspec_fakes:SEGFAULTS", "convspec_fakes:GAP_HOLDS"]
CASES = [Case(ConvSpec(3, 3 if n in (17, 71) else 2 + 2 * (n % 5), (1, 3)), (2, 3, 5, 7), seed=n) for n in range(100)]


def command(*arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(FAKES), *sys.path])}
    words = [sys.executable, "-m", "convspec", "check", "-j", "2", *arguments]
    return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def plain(report):
    """The verdicts, without times, last words, and whether a suspect was alone from the start."""
    found = [result.to_dict() for result in report.results]
    for result in found:
        del result["seconds"]
        for key in ("first", "last_words"):
            result["evidence"].pop(key, None)
    return found, [tally.to_dict() for tally in report.gaps], report.summary


@pytest.mark.slow
def test_kill_9_at_twenty_random_moments_loses_and_repeats_nothing(tmp_path):
    corpus, file = tmp_path / "cases.jsonl", tmp_path / "run.jsonl"
    corpus.write_text("".join(case.to_json() + "\n" for case in CASES))
    undisturbed = convspec.check(CASES, ADAPTERS, jobs=2)
    total, chance = len(undisturbed.results), random.Random(6)
    killed = []
    for _ in range(KILLS):
        begin = ["--resume", str(file)] if file.exists() else [
            "--corpus", str(corpus), "--adapters", ",".join(ADAPTERS), "--journal", str(file)
        ]  # fmt: skip
        process, before = command(*begin), lines(file)
        wanted = before + chance.randrange(2 * total // KILLS)
        while process.poll() is None and lines(file) < wanted:
            time.sleep(0.002)
        time.sleep(chance.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        killed.append(process.wait() == -signal.SIGKILL)
        process.stderr.close()
    assert sum(killed) >= KILLS // 2, "the run was over before it could be killed often enough"
    if file.read_bytes()[-1:] == b"\n":
        os.truncate(file, file.stat().st_size - 3)  # as a power cut leaves it
    report = convspec.resume(file)
    assert plain(report) == plain(undisturbed)
    assert plain(journal.read(file).report()) == plain(undisturbed)
    entries = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert sum("verdict" in entry for entry in entries) == total
    assert sum("resumed" in entry for entry in entries) >= KILLS // 2
