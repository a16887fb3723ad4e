"""CONTRIBUTING.md names modules and commands: they exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
PATHS = sorted(set(re.findall(r"`((?:convspec|adapters|tests|scripts|docs)/[^`<>*\s]+)`", TEXT)))


@pytest.mark.parametrize("path", PATHS)
def test_the_path_exists(path):
    assert (ROOT / path).exists()


def test_every_package_of_the_core_is_in_the_tree():
    packages = {p.name for p in (ROOT / "convspec").iterdir() if (p / "__init__.py").exists()}
    assert packages
    assert packages <= {path.split("/")[1] for path in PATHS}


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([\w-]+)`", TEXT))))
def test_the_target_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.M)
