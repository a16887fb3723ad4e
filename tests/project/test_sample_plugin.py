"""A third party's adapter, from its wheel, away from any checkout: found, validated, checked, and run by pytest."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests" / "sample_plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the wheels of convspec and of the sample, and nothing else of this repository."""
    target, built = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("wheels")
    for project in (ROOT, SAMPLE):
        run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)], project)
    for wheel in built.iterdir():
        shutil.unpack_archive(wheel, target, "zip")  # as an installer does with a wheel of modules
    return target


def run(command, folder, path="", expect=0):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | (
        {"PYTHONPATH": str(path)} if path else {}
    )
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout


def test_the_sample_is_found_validated_and_checked(installed, tmp_path):
    convspec = [sys.executable, "-m", "convspec"]
    where = run([sys.executable, "-c", "import convspec; print(convspec.__file__)"], tmp_path, installed)
    assert Path(where.strip()).is_relative_to(installed)
    assert "tinyconv" in run([*convspec, "adapters"], tmp_path, installed)
    assert "14 promises kept, 0 broken, 0 skipped" in run(
        [*convspec, "adapters", "--validate", "tinyconv"], tmp_path, installed
    )
    out = run([*convspec, "check", "--adapters", "tinyconv", "--corpus", "features"], tmp_path, installed)
    assert ", 0 unexpected" in out
    assert "gap tinyconv-empty-batch (tinyconv, upstream)" in out
    text = run([*convspec, "source", "nn.Conv2d(3, 8, 3, padding=1)", "--to", "tinyconv"], tmp_path, installed)
    assert "layer = tinyconv.Conv(\n    3,\n    8," in text


def test_its_own_tests_run_with_the_plug_in(installed, tmp_path):
    (tmp_path / "tests").mkdir()
    for name in ("pyproject.toml", "tests/test_conformance.py"):
        (tmp_path / name).write_bytes((SAMPLE / name).read_bytes())
    out = run([sys.executable, "-m", "pytest", "-q"], tmp_path, installed)
    assert out.splitlines()[-1].startswith("4 passed, 3 skipped"), out


FAILING = """
import numpy as np
import tinyconv
from convspec.testing import assert_layers_agree, assert_output


def layer(padding):
    made = tinyconv.Conv(2, 3, (3, 2), stride=(2, 1), padding=padding, dilation=(1, 1))
    made.kernel = np.random.default_rng(1).standard_normal(made.kernel.shape).astype(np.float32)
    return made


def test_agree():
    assert_layers_agree(layer((1, 0)), layer((1, 0)))


def test_disagree():
    assert_layers_agree(layer((1, 0)), layer((0, 0)))
"""


def test_a_users_failing_test_ends_in_the_diagnosis(installed, tmp_path):
    (tmp_path / "test_port.py").write_text(FAILING)
    out = run([sys.executable, "-m", "pytest", "-q", "--tb=short"], tmp_path, installed, expect=1)
    assert "1 failed, 1 passed" in out
    lines = [line.removeprefix("E").strip() for line in out.splitlines() if line.startswith("E  ")]
    golden = ROOT / "tests" / "golden" / "users_failing_test.txt"
    steady = [line for line in lines if "elements are wrong" not in line and "%" not in line and "what:" not in line]
    if os.environ.get("CONVSPEC_UPDATE_GOLDEN"):
        golden.write_text("\n".join(steady) + "\n")
    assert steady == golden.read_text().splitlines()
    assert any("settings: stride (2, 1): pads" in line for line in lines)
