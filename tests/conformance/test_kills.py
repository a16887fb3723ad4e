"""kill -9 at twenty random moments: after each the run goes on, and in the end nothing is lost or there twice."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from fault_drills.interruptions import cases, kill_again_and_again, plain

import convspec
from convspec.conformance import journal
from tests import prepared

FAKES = Path(__file__).parents[1] / "fakes"
KILLS = 20
ADAPTERS = ["convspec_fakes:SEGFAULTS", "convspec_fakes:GAP_HOLDS"]
CASES = cases(100)


def command(arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(FAKES), *sys.path])}
    words = "-m", "convspec", "check", "-j", "2", *arguments
    return prepared.Program(*words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_kill_9_at_twenty_random_moments_loses_and_repeats_nothing(tmp_path):
    corpus, file = tmp_path / "cases.jsonl", tmp_path / "run.jsonl"
    corpus.write_text("".join(case.to_json() + "\n" for case in CASES))
    undisturbed = convspec.check(CASES, ADAPTERS, jobs=2)
    opening = ["--corpus", str(corpus), "--adapters", ",".join(ADAPTERS), "--journal", str(file)]
    total = len(undisturbed.results)
    killed = list(kill_again_and_again(command, opening, file, total, KILLS, random.Random(6)))
    assert sum(killed) >= KILLS // 2, "the run was over before it could be killed often enough"
    if file.read_bytes()[-1:] == b"\n":
        os.truncate(file, file.stat().st_size - 3)  # as a power cut leaves it
    report = convspec.resume(file)
    assert plain(report.to_dict()) == plain(undisturbed.to_dict())
    assert plain(journal.read(file).report().to_dict()) == plain(undisturbed.to_dict())
    entries = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert sum("verdict" in entry for entry in entries) == total
    assert sum("resumed" in entry for entry in entries) >= KILLS // 2
