"""The commands of run-on-a-cluster.md, one by one: another port, small corpora and adapters of the tests."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import prepared

UNIT = Path(__file__).parent
PAGE = (UNIT.parents[1] / "docs" / "how-to" / "run-on-a-cluster.md").read_text("utf-8")
COMMANDS = re.findall(r"^\$ (.+)$", PAGE, re.M)
PROGRAMS = {
    "dask scheduler": "-m distributed.cli.dask_scheduler --no-dashboard",
    "dask worker": "-m distributed.cli.dask_worker --no-dashboard",
    "convspec": "-m convspec",
}


@pytest.fixture
def line(tmp_path, tmp_path_factory, monkeypatch):
    """A command of the page as it is run here: on a port that is free, with adapters that need no framework."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(UNIT.parent / "fakes"), *sys.path]))
    monkeypatch.setenv("DASK_TEMPORARY_DIRECTORY", str(tmp_path_factory.getbasetemp()))  # one for all tests

    def changed(text):
        for old, new in (("8786", port), ("torch=1", "good=1"), ("onnx=1", "good2=1")):
            text = text.replace(old, new)
        text = re.sub("--adapters [a-z,]+", "--adapters convspec_fakes:GOOD,convspec_fakes:GOOD2", text)
        program = next(program for program in PROGRAMS if text.startswith(program))
        return text.replace(program, f"exec {prepared.python(os.environ, prepared.CLUSTER)} {PROGRAMS[program]}", 1)

    return changed


@contextlib.contextmanager
def started(*lines):
    """A scheduler and its workers, which have joined it, as long as the block."""
    outputs = [Path(f"program{number}.txt") for number in range(len(lines))]
    programs = []
    for line, output in zip(lines, outputs, strict=True):
        with output.open("w") as file:
            programs.append(subprocess.Popen(["bash", "-c", line], stdout=file, stderr=file))
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end and not all("Registered to" in output.read_text() for output in outputs[1:]):
            time.sleep(0.05)
        yield
    finally:
        for program in reversed(programs):
            program.terminate()
        for program in reversed(programs):
            program.wait(60)


def check(line, tries=1):
    """Run it, again while workers are still on their way."""
    for _ in range(tries):
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=200, check=False)
        if "and has none" not in done.stderr and "can be reached" not in done.stderr:
            break
        time.sleep(1)
    return done


def test_the_page_shows_these_commands():
    assert [" ".join(command.split()[:2]) for command in COMMANDS] == [
        "dask scheduler", "dask worker", "convspec check", "dask worker", "dask worker", "convspec check",
        "convspec check", "openssl req", "dask scheduler", "dask worker", "convspec check",
    ]  # fmt: skip


def test_the_first_example_runs_and_is_gone_on_with(line, tmp_path):
    scheduler, workers, run, *_, = COMMANDS  # fmt: skip
    with started(line(scheduler), line(workers)):
        done = check(line(run), 60)
        assert done.returncode == 0, done.stderr
        assert "24 agree, 0 unexpected" in done.stdout
        os.truncate(tmp_path / "run.jsonl", (tmp_path / "run.jsonl").stat().st_size - 700)
        done = check(line(COMMANDS[6]))
    assert done.returncode == 0, done.stderr
    assert "24 agree, 0 unexpected" in done.stdout


def test_resources_choose_and_a_gpu_must_be_there(line):
    scheduler, _, _, gpu, cpu, run, *_ = COMMANDS
    with started(line(scheduler), line(gpu).replace(" cuda=1", ""), line(cpu)):
        done = check(line(run), 60)
    assert done.returncode == 2
    assert (
        "device='cuda' with adapter 'good' must have a worker that declares the resources cuda and good" in done.stderr
    )


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_tls_as_the_page_sets_it_up(line, tmp_path, monkeypatch):
    openssl, scheduler, worker, run = COMMANDS[-4:]
    subprocess.run(["bash", "-c", openssl], check=True, capture_output=True)
    (tmp_path / "tls.yaml").write_text(re.search(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S)[1])
    monkeypatch.setenv("DASK_CONFIG", str(tmp_path / "tls.yaml"))
    with started(line(scheduler), line(worker)):
        done = check(line(run), 60)
        assert done.returncode == 0, done.stderr
        assert "24 agree, 0 unexpected" in done.stdout
