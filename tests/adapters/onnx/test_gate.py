"""``convspec gate`` in a project that has only the wheel: it fails with a planted pool and passes when mended."""

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytestmark = [pytest.mark.onnx, pytest.mark.torch, pytest.mark.slow, pytest.mark.processes]

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "gate"
PAGE = ROOT / "docs" / "how-to" / "continuous-integration.md"
RIGHT, WRONG = "nn.MaxPool2d(3, 2, padding=1)", "nn.MaxPool2d(2, 2)"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the installed wheel and nothing else of the project."""
    built = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", built, folder=ROOT)
    (wheel,) = built.glob("*.whl")
    call(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--target", built / "site", wheel)
    return built / "site"


def call(*command, folder=None, site=None, status=0):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} | ({"PYTHONPATH": str(site)} if site else {})
    done = subprocess.run(
        [*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(site, tmp_path_factory):
    """A repository made from the templates, with the exported model."""
    import torch

    folder = tmp_path_factory.mktemp("project") / "repository"
    shutil.copytree(ROOT / "docs" / "templates", folder, ignore=shutil.ignore_patterns("*.y*ml"))
    names = {}
    exec((folder / "models.py").read_text("utf-8"), names)
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(names["source"](), (torch.zeros(2, 3, 16, 24),), dynamo=True, verbose=False).save(
            folder / "model.onnx"
        )
    where = call(sys.executable, "-c", "import convspec; print(convspec.__file__)", folder=folder, site=site)
    assert Path(where.strip()).is_relative_to(site)
    return folder


def gate(project, site, *arguments, status):
    printed = call(sys.executable, "-m", "convspec", "gate", *arguments, folder=project, site=site, status=status)
    return masked(printed)


def masked(text):
    """The text without what depends on the machine: the time, and what rounding explains."""
    return re.sub(r"rounding explains \S+", "rounding explains …", re.sub(r"in \d+\.\d s", "in 0.0 s", text))


def golden(name):
    return masked((GOLDEN / name).read_text("utf-8"))


def plant(project):
    """Plant the mistake into the port: the second function of the file."""
    text = (ROOT / "docs" / "templates" / "models.py").read_text("utf-8")
    head, port = text.split("def port():")
    assert RIGHT in port
    (project / "models.py").write_text(f"{head}def port():{port.replace(RIGHT, WRONG)}")


def test_a_planted_pool_fails_and_the_mended_port_passes(project, site):
    plant(project)
    failing = gate(project, site, "--markdown", "gate.md", "--junit", "gate.xml", "--json", "gate.json", status=1)
    assert failing == golden("failing.txt")
    assert masked((project / "gate.md").read_text("utf-8")) == golden("failing.md")
    document = json.loads((project / "gate.json").read_text("utf-8"))
    assert [check["result"] for check in document["checks"]] == ["failed", "passed", "passed"]
    assert '<failure type="differ"' in (project / "gate.xml").read_text("utf-8")

    gate(project, site, "--write-baseline", "known.json", status=0)
    assert "known" in gate(project, site, "--baseline", "known.json", status=0).splitlines()[-1]

    shutil.copy(ROOT / "docs" / "templates" / "models.py", project / "models.py")
    assert gate(project, site, status=0) == golden("mended.txt")


def test_the_how_to_shows_these_runs():
    text = PAGE.read_text("utf-8")
    for name in ("failing", "mended"):
        assert (GOLDEN / f"{name}.txt").read_text("utf-8") in text, name
