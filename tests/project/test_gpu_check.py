"""The check of a GPU in one command, rehearsed on the CPU: its parts, its files, its limits, and how it goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from convspec.cli.reports import load

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "gpu_check.sh"
PARTS = ["machine", "probes", "float32", "half", "replay", "large", "variants"]
pytestmark = [pytest.mark.slow, pytest.mark.processes]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True,
                   capture_output=True)  # fmt: skip
    (built,) = folder.glob("*.whl")
    return built


def run(*words, cwd, **variables):
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": "", **variables}
    return subprocess.run(["bash", SCRIPT, *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True,
                          check=False, timeout=240)  # fmt: skip


def parts(folder):
    lines = json.loads((folder / "machine.json").read_text())["parts"]
    return {line.split()[0]: line.split(" ", 1)[1] for line in lines}


@pytest.mark.torch
def test_a_rehearsal_checks_every_part_and_goes_on_where_it_was_cut(wheel, tmp_path):
    done = run("--cpu", "--adapters", "torch", "--seconds", 140, wheel, cwd=tmp_path, OUT=str(tmp_path / "out"))
    folder = tmp_path / "out"
    found = parts(folder)
    assert list(found) == PARTS, done.stderr
    assert all(words.startswith(("finished (", "cut: ")) for words in found.values()), found
    assert done.returncode == 0, done.stdout
    assert found["machine"].startswith("finished")
    files = list(folder.iterdir())
    assert len(files) <= 8
    assert sum(file.stat().st_size for file in files) < 16 << 20
    finished = [name for name in PARTS[1:] if found[name].startswith("finished")]
    assert finished, found  # a busy machine may cut some
    for name in finished:
        report = load.load(str(folder / f"{name}.jsonl"))
        assert report.results
        assert not report.missing
    again = run("--cpu", "--adapters", "torch", "--seconds", 25, wheel, folder, cwd=tmp_path)
    assert all(f"{name} finished earlier (0 s)" in again.stdout for name in finished), again.stdout


def test_without_the_device_every_part_is_skipped_in_words(wheel, tmp_path):
    done = run("--adapters", "no_such", "--seconds", 60, wheel, "results", cwd=tmp_path)
    found = parts(tmp_path / "results")
    assert found.pop("machine").startswith("finished")
    assert {words.rpartition(" (")[0] for words in found.values()} == {"skipped: no adapter has the device cuda"}
    assert done.returncode == 0
    assert "no_such" in (tmp_path / "results" / "log.txt").read_text()


def test_without_time_every_part_is_cut(wheel, tmp_path):
    run("--cpu", "--seconds", 9, wheel, "results", cwd=tmp_path)
    assert {words.rpartition(" (")[0] for words in parts(tmp_path / "results").values()} == {"cut: no time was left"}


def test_a_missing_wheel_is_a_bad_request(tmp_path):
    done = run("no.whl", cwd=tmp_path)
    assert done.returncode == 2
    assert "no wheel of convspec" in done.stderr


def test_nothing_is_fetched_or_installed():
    text = SCRIPT.read_text()
    assert not [word for word in ("pip install", "curl", "wget", "http://", "https://", "apt-get") if word in text]
