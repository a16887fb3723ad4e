"""Right ports are accepted, wrong ones refused with their place, cheating ones refused: a sample of ``ports.py``."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

import convspec
from tests.judge import networks, ports
from tests.prepared import Program

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.processes]
CHEATS = (
    "keeps the result of each shape", "looks at the stack", "runs the source's file",
    "is wrong when an input comes again", "ends with status 0 when imported", "returns float16",
    "puts a pipe in the place of its results",
)  # fmt: skip
SOURCE = """
from pathlib import Path
import numpy as np, torch
def build():
    arrays = np.load(Path(__file__).with_suffix(".npz"))
    conv = torch.nn.Conv2d(3, 4, (3, 5), stride=2, padding=(1, 2))
    conv.weight.data, conv.bias.data = (torch.from_numpy(arrays[name]).float() for name in ("kernel", "bias"))
    return torch.nn.Sequential(conv)
"""
ROOT = Path(__file__).parents[2]
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


def test_a_source_and_a_port_may_have_arguments(tmp_path, monkeypatch, quick):
    text = "import torch\ndef build(width, *, scale=1.0):\n    torch.manual_seed(0)\n"
    net = "    return torch.nn.Sequential(torch.nn.Conv2d(3, width, 3), torch.nn.Threshold(scale, 0.0))\n"
    for name in ("source", "port"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"own_{name}.py").write_text(text + net)
    monkeypatch.chdir(tmp_path)
    for scale, verdict in (("0.5", "accepted"), ("0.25", "refused")):
        judged = convspec.judge(f"port/own_port.py:build(4, scale={scale})", "source/own_source.py:build(4, scale=0.5)",
                                [((1, 3, 12, 11),)], seconds=60.0)  # fmt: skip
        assert judged.verdict == verdict, judged


@pytest.mark.flax
def test_a_port_in_another_framework_and_layout_is_accepted(tmp_path):
    tried = ports.right(tmp_path, 9, flax=True)
    assert tried.right, tried.judged


@pytest.mark.onnx
def test_a_port_in_a_file_is_accepted_and_a_wrong_one_refused(tmp_path):
    import onnx

    (tmp_path / "net").mkdir()
    file = tmp_path / "net" / "net.py"
    file.write_text(SOURCE)
    spec = convspec.ConvSpec(3, 4, (3, 5), stride=2, padding=(1, 2))
    params = convspec.ConvParams.random(spec, seed=0)
    np.savez(file.with_suffix(".npz"), kernel=params.kernel, bias=params.bias)
    verdicts = []
    for port in (spec, convspec.ConvSpec(3, 4, (3, 5), stride=2, padding="same")):
        onnx.save(convspec.adapter("onnx").build(port, params), tmp_path / "port.onnx")
        judged = convspec.judge(str(tmp_path / "port.onnx"), f"{file}:build", [((2, 3, 12, 10),)])
        verdicts.append(judged.verdict)
    assert verdicts == ["accepted", "refused"]
    assert "'same'" in judged.divergence


def test_the_place_is_named_where_the_port_does_not_run(tmp_path, quick):
    text = """
import torch
def build():
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(4, 4, 5, padding=2)
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(4 * 8 * 7, 5)).eval()
"""
    files = [tmp_path / name / "net.py" for name in ("source", "port")]
    for file, own in zip(files, (text, text.replace("padding=2", "padding=1")), strict=True):
        file.parent.mkdir()
        file.write_text(own)
    judged = convspec.judge(f"{files[1]}:build", f"{files[0]}:build", [((1, 3, 8, 7),)])
    assert judged.verdict == "refused"
    assert judged.divergence == "conv 1 (1): pads (2, 2) against (1, 1)"


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


@pytest.mark.flax
def test_the_page_shows_what_the_command_prints(tmp_path, monkeypatch):
    page = (ROOT / "docs/how-to/judge-a-port.md").read_text("utf-8")
    net, port = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    (shown,) = re.findall(r"^```text\n(Repeat.*?)^```", page, re.M | re.S)
    for name, text in (("mine/net", net), ("agent/port", port)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / f"{name}.py").write_text(text)
    words: dict = {}
    exec(net, words)
    np.savez(tmp_path / "agent/weights.npz", **{k: v.numpy() for k, v in words["Net"]().state_dict().items()})
    monkeypatch.chdir(tmp_path)
    judged = convspec.judge("agent/port.py:Port", "mine/net.py:Net", [((2, 3, 16, 12),)], seed=7)
    found = str(judged).splitlines()[-5:]
    assert [re.sub(r"explains .*", "", line) for line in found] == [
        re.sub(r"explains .*", "", line) for line in shown.splitlines()
    ]
