"""The commands of run-for-hours.md, one by one: a small corpus and an adapter of the tests in place of hours."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import prepared

UNIT = Path(__file__).parent
PAGE = (UNIT.parents[1] / "docs" / "how-to" / "run-for-hours.md").read_text("utf-8")


@pytest.fixture
def convspec(tmp_path):
    def run(line):
        for old, new in (("--corpus timm", "--corpus tutorial"), ("torch,keras", "convspec_fakes:GOOD")):
            line = line.replace(old, new)
        if "--adapters" not in line and " check --corpus" in line:
            line += " --adapters convspec_fakes:GOOD"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(UNIT.parent / "fakes"), *sys.path])}
        words = f"{prepared.python(environment)} -m convspec "
        return subprocess.run(
            ["bash", "-c", line.replace("convspec ", words, 1)], cwd=tmp_path, check=False, capture_output=True,
            text=True, timeout=100, env=environment,
        )  # fmt: skip

    return run


def test_the_commands_of_the_page_run(convspec, tmp_path):
    commands = re.findall(r"^\$ (convspec .+)$", PAGE, re.M)
    assert [" ".join(c.split()[1:3]) for c in commands] == [
        "check --corpus", "check --resume", "report run.jsonl", "report merge", "report diff",
    ]  # fmt: skip
    (shard,) = re.findall(r"- run: (convspec .+)$", PAGE, re.M)
    check, resume, report, merge, diff = commands
    whole = convspec(check)
    assert whole.returncode == 0, whole.stderr
    os.truncate(tmp_path / "run.jsonl", (tmp_path / "run.jsonl").stat().st_size - 700)
    assert convspec(report).returncode == 1
    for line in (resume, report):
        done = convspec(line)
        assert (done.returncode, done.stderr) == (0, "")
        assert "12 agree, 0 unexpected" in done.stdout
    for number in "1234":
        assert convspec(shard.replace("${{ matrix.shard }}", number)).returncode == 0
    done = convspec(merge)
    assert done.returncode == 0, done.stdout
    assert "12 agree, 0 unexpected" in done.stdout
    for version in ("2.11", "2.12"):
        (tmp_path / f"torch-{version}.jsonl").write_bytes((tmp_path / "run.jsonl").read_bytes())
    done = convspec(diff)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (
        0, "12 results compared: 0 verdicts changed",
    )  # fmt: skip
