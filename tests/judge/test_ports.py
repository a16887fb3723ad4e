"""Right ports are accepted, wrong ones refused with their place, cheating ones refused: a sample of ``ports.py``."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.judge import networks, ports
from tests.prepared import Program

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.processes]
CHEATS = (
    "keeps the result of each shape", "looks at the stack", "runs the source's file",
    "is wrong when an input comes again", "ends with status 0 when imported", "puts a pipe in the place of its results", "returns float16",
)  # fmt: skip
WRONG = {0: "epsilon", 1: "padding larger", 2: "skip halved", 3: "values cut"}


@pytest.fixture
def quick(monkeypatch):
    """Let processes be forked from one that has imported PyTorch."""
    monkeypatch.syspath_prepend(str(Path(ports.__file__).with_name("preload")))


@pytest.mark.parametrize("seed", [7, 8])
def test_a_right_port_is_accepted(tmp_path, seed, quick):
    tried = ports.right(tmp_path, seed)
    assert tried.right, tried.judged
    assert tried.judged.evidence in ("equal", "measured")
    assert len(tried.judged.trials) > 20


@pytest.mark.parametrize(("seed", "kind"), WRONG.items())
def test_a_wrong_port_is_refused_with_the_place(tmp_path, seed, kind, quick):
    tried = ports.wrong(tmp_path, seed, kind)
    assert tried.right, tried.judged
    assert tried.placed, tried.judged


@pytest.mark.parametrize("kind", CHEATS)
def test_a_cheating_port_is_refused(tmp_path, kind):
    tried = ports.cheat(tmp_path, 1, kind)
    assert tried.right, tried.judged


@pytest.mark.flax
def test_a_port_in_another_framework_and_layout_is_accepted(tmp_path):
    tried = ports.right(tmp_path, 9, flax=True)
    assert tried.right, tried.judged


def test_the_command_repeats_a_judgement(tmp_path, quick):
    net = networks.draw(5)
    source = ports.source(tmp_path, net)
    networks.write(net, tmp_path / "port" / "port.py", name="Port")
    words = ["-m", "convspec", "judge", f"{tmp_path}/port/port.py:Port", "--source", source, "--shape", "2,3,22,19"]
    found = []
    for _ in range(2):
        run = Program(*words, "--seed", "11", "--fixed", "--json", "-", stdout=subprocess.PIPE, text=True)
        out, _ = run.communicate()
        assert run.returncode == 0
        found.append(json.loads(out))
    assert found[0] == found[1]
    assert found[0]["seed"] == 11
    assert {tuple(one["shapes"][0]) for one in found[0]["trials"]} == {(2, 3, 22, 19)}
