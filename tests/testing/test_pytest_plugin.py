"""The suite as a plug-in of pytest, with adapters that need no framework."""

import os
from pathlib import Path

import pytest

from convspec import Case, ConvSpec
from tests import prepared

ROOT = Path(__file__).parents[2]
FAKES = Path(__file__).parents[1] / "fakes"

CASES = [  # the faulty adapters do their mischief where out_channels is odd
    Case(ConvSpec(2, 4, (3, 5)), (2, 2, 7, 9), seed=2, name="even"),
    Case(ConvSpec(2, 3, (2, 3)), (2, 2, 6, 8), seed=3, name="odd"),
    Case(ConvSpec(1, 2, (2, 1, 1)), (1, 1, 3, 4, 5), name="solid"),
]


def suite(folder, *arguments):
    """Run the suite in a folder of its own; the lines that it printed."""
    (folder / "cases.jsonl").write_text("".join(f"{case.to_json()}\n" for case in CASES))
    path = os.pathsep.join([str(ROOT), str(ROOT / "adapters"), str(FAKES)])
    done = prepared.run(
        "-m", "pytest", "-q", "-rA", "--pyargs", "convspec.conformance", *arguments, cwd=folder,
        modules=(*prepared.COMMAND, "pytest"),
        env={**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    return done.returncode, done.stdout


def asked(folder, adapter, *arguments):
    return suite(folder, "-p", "convspec.testing.pytest_plugin", "--convspec-corpus", "cases.jsonl",
                 "--convspec-adapter", f"convspec_fakes:{adapter}", *arguments)  # fmt: skip


def test_a_good_adapter_passes_and_what_it_lacks_is_skipped_with_the_reason(tmp_path):
    status, out = asked(tmp_path, "GOOD")
    assert status == 0
    assert out.count("PASSED") == 5  # two layers in two layouts, and the gaps
    assert "SKIPPED [2]" in out
    assert "no 3-D here" in out


def test_a_wrong_adapter_fails_where_it_is_wrong_and_says_how_to_repeat_it(tmp_path):
    status, out = asked(tmp_path, "WRONG_NUMBERS", "--convspec-layouts", "NHWC")
    assert status == 1
    assert "FAILED" in out
    assert "NHWC-odd]" in out
    assert "disagree, value: " in out
    assert "reproduce: echo '{" in out
    assert "| convspec check --corpus - --adapters convspec_fakes:WRONG_NUMBERS --layouts NHWC" in out
    assert not [line for line in out.splitlines() if line.startswith("FAILED") and "even" in line]


def test_only_what_was_selected_is_run(tmp_path):
    status, out = asked(tmp_path, "SEGFAULTS", "-k", "even and NCHW")
    assert status == 0
    assert "1 passed, 6 deselected" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "run with -p convspec.testing.pytest_plugin --convspec-adapter NAME"),
        (
            ("-p", "convspec.testing.pytest_plugin"),
            "--convspec-adapter must name the adapters to test; the known ones are ",
        ),
        (("-p", "convspec.testing.pytest_plugin", "--convspec-adapter", "trch"), "did you mean 'torch'"),
        (
            ("-p", "convspec.testing.pytest_plugin", "--convspec-adapter", "torch", "--convspec-corpus", "tutrial"),
            "tutorial",
        ),
    ],
)
def test_a_request_that_cannot_be_met_says_what_to_do(tmp_path, arguments, said):
    status, out = suite(tmp_path, *arguments)
    assert status
    assert said in out
    assert " passed" not in out
