"""``convspec explain`` as a user meets it."""

import json

from typer.testing import CliRunner

from convspec.cli.app import app

MESSAGE = "RuntimeError: running_mean should contain 16 elements not 8"


def run(*words, **given):
    return CliRunner().invoke(app, ["explain", *words], **given)


def test_a_known_message_is_status_0_and_the_fix_has_its_numbers():
    done = run(MESSAGE)
    assert done.exit_code == 0
    assert "PyTorch: running_mean should contain" in done.stdout
    assert "What to do: The tensor has 16 channels, the norm was created for 8: `nn.BatchNorm2d(16)`." in done.stdout


def test_an_unknown_message_is_status_1_with_what_to_do_next():
    done = run("something else")
    assert done.exit_code == 1
    assert done.stdout.startswith("No known message was found in this text.\n")
    assert "convspec show" in done.stdout


def test_an_empty_message_is_status_2():
    assert run("  ").exit_code == run("-", input="\n").exit_code == 2


def test_a_log_on_standard_input_as_json():
    found = json.loads(run("-", "--json", "-", input=f"log\n{MESSAGE}\n").stdout)
    assert found["known"]
    assert found["next"] == []
    assert found["explanations"][0]["id"] == "torch-batch-norm-features"
    assert found["explanations"][0]["numbers"] == {"got": 16, "expected": 8}
    assert not json.loads(run("x", "--json", "-").stdout)["known"]
