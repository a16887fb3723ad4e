"""Every divergence page is run: its script must still print, and end, as the page says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from convspec.contract import known_gaps

PAGES = sorted((Path(__file__).parents[2] / "docs" / "divergences").glob("*.md"))
FRONT = re.compile(r"\A---\nframework: (\w+)\nexit: (-?\d+)\n(?:cpu: (\w+)\n)?(?:not-cpu: (\w+(?:, \w+)*)\n)?---\n")
CPU = known_gaps.processor_features()
FRAMEWORKS = ("torch", "flax", "keras", "onnx", "equinox", "openvino", "mlx", "litert", "ncnn")
MARKS = {name: getattr(pytest.mark, name) for name in FRAMEWORKS}


def parts(page):
    """Framework, exit status, the CPU feature needed, those not allowed, script and printed text of a page."""
    text = page.read_text("utf-8")
    front = FRONT.match(text)
    assert front, f"{page.name} must begin with framework and exit"
    (code,), (printed,) = (re.findall(rf"^```{kind}\n(.*?)^```$", text, re.M | re.S) for kind in ("python", "text"))
    return front[1], int(front[2]), front[3], set((front[4] or "").split(", ")), code, printed


def pages():
    for page in PAGES:
        if page.stem != "index":
            yield pytest.param(page, id=page.stem, marks=MARKS[parts(page)[0]])


@pytest.mark.parametrize("page", list(pages()))
def test_the_framework_still_does_what_the_page_says(page, tmp_path):
    _, status, feature, excluded, code, printed = parts(page)
    if feature and feature not in CPU:
        pytest.skip(f"this processor has no {feature}")
    if present := excluded & CPU:
        pytest.skip(f"this processor has {min(present)}")
    script = tmp_path / "reproducer.py"
    script.write_text(code, "utf-8")
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.stdout == printed, f"behaviour changed – update the page and its gap:\n{done.stderr[-2000:]}"
    assert done.returncode == status


def test_the_scripts_are_plain_framework_code():
    for page in PAGES:
        if page.stem != "index":
            assert "convspec" not in parts(page)[4], page.name
