"""A new adapter's package keeps every promise but those that need the framework's own calls."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from convspec.cli.app import app
from convspec.contract.scaffold import create
from convspec.errors import RequestError

ROOT = Path(__file__).parents[2]
FRAMEWORK = """
class Conv2d:
    def __init__(self, in_channels, out_channels, **settings):
        self.settings = settings
Conv1d = Conv3d = Conv2d
"""


def test_a_new_adapter_lacks_nothing_but_the_frameworks_calls(tmp_path):
    written = create("tiny-conv", tmp_path)
    names = {str(path.relative_to(tmp_path / "convspec-tiny-conv")) for path in written}
    assert {"pyproject.toml", "src/convspec_tiny_conv/known_gaps.toml", "tests/test_conformance.py"} <= names
    (tmp_path / "tiny_conv.py").write_text(FRAMEWORK)
    path = [ROOT, ROOT / "adapters", tmp_path, tmp_path / "convspec-tiny-conv" / "src"]
    code = (
        "from convspec.conformance.validation import validate\n"
        "for one in validate('convspec_tiny_conv:ADAPTER'): print(one.id, one.kept, one.reason)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    kept = [line.split()[0] for line in lines if line.split()[1] == "True"]
    assert kept[:8] == ["light", "complete", "named", "gaps", "support", "source", "precision", "parse"]
    broken = [line for line in lines if line.split()[1] != "True" and not line.startswith("present")]
    assert broken
    assert all("NotImplementedError" in line or "no version" in line or "present" in line for line in broken), broken


def test_what_is_written_is_laid_out_and_typed_as_it_should_be(tmp_path):
    create("other", tmp_path)
    ruff = [sys.executable, "-m", "ruff", "check", "--select", "E,F,I,UP,B", "--line-length", "120", str(tmp_path)]
    done = subprocess.run(ruff, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["Tiny", "a b", "../evil", "tiny--conv", "", "import", "1st"])
def test_names_that_are_none_are_refused(tmp_path, name):
    with pytest.raises(RequestError, match=r"must be lower-case words"):
        create(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["adapters", "--new", "mine"])
    assert done.exit_code == 0
    assert "next: pip install -e convspec-mine && convspec adapters --validate mine" in done.output
    again = CliRunner().invoke(app, ["adapters", "--new", "mine"])
    assert again.exit_code == 2
