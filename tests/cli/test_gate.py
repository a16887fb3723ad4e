"""``convspec gate`` without a framework: its file, its baseline, its exit status, and the files for CI services."""

import json
import os
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from convspec.cli import gate as command
from convspec.cli.app import app
from convspec.errors import RequestError

ROOT = Path(__file__).parents[2]


def run(*arguments):
    return CliRunner().invoke(app, ["gate", *map(str, arguments)])


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A file of three checks; what each finds is in ``found``, None for one that cannot be run."""
    found = {"one": [], "two": [], "three": []}

    def answer(entry, accepted):
        assert Path.cwd() == tmp_path  # paths of the file are relative to its folder
        if found[entry["name"]] is None:
            raise RequestError("model.onnx: file not found")
        if found[entry["name"]] == "raises":
            raise KeyError("theirs")
        return "the conclusion", list(found[entry["name"]])

    monkeypatch.setattr(command, "_RUN", {name: (subject, answer) for name, (subject, _) in command._RUN.items()})
    (tmp_path / "convspec.toml").write_text(
        '[[compare]]\nname = "one"\na = "m:a"\nb = "m:b"\n[[verify]]\nname = "two"\nmodel = "model.onnx"\n'
        '[[check]]\nname = "three"\n'
    )
    return tmp_path / "convspec.toml", found


def test_the_status_is_that_of_the_worst_check_and_every_check_runs(project, tmp_path):
    file, found = project
    assert run(file).exit_code == 0
    found["one"] = [("conv 1 (a)", "diverges", "why")]
    done = run(file)
    assert done.exit_code == 1
    assert [line.split()[:3] for line in done.output.splitlines()[:3]] == [
        ["failed", "compare", "one"], ["passed", "verify", "two"], ["passed", "check", "three"]
    ]  # fmt: skip
    assert "one: conv 1 (a): diverges: why" in done.output
    assert done.output.splitlines()[-1] == "3 checks: 2 passed, 1 failed"
    found["two"] = None
    assert run(file).exit_code == 2
    found["two"] = "raises"
    done = run(file)
    assert done.exit_code == 2
    assert "KeyError: 'theirs'" in done.output
    assert "Traceback" not in done.output
    assert run(file, "--only", "three").exit_code == 0


def test_a_baseline_accepts_what_is_known_and_nothing_else(project, tmp_path):
    file, found = project
    found["one"] = [("conv 1 (a)", "diverges", "why"), ("model", "differ", "why")]
    found["two"] = [("model", "nothing-agreed", "no node agrees")]
    known = tmp_path / "known.json"
    assert run(file, "--write-baseline", known).exit_code == 0
    accepted = json.loads(known.read_text())["accepted"]
    assert accepted == [{"node": "one: conv 1 (a)", "id": "diverges"}, {"node": "one: model", "id": "differ"}]
    done = run(file, "--baseline", known)
    assert done.exit_code == 1  # that nothing agreed is never accepted
    assert done.output.splitlines()[-1] == "3 checks: 2 passed, 1 failed, 2 known findings"
    found["two"] = []
    file.write_text('baseline = "known.json"\n' + file.read_text())
    assert run(file).exit_code == 0
    found["three"] = [("model", "differ", "of another check")]
    assert run(file).exit_code == 1
    found["three"], found["one"] = [], [("model", "differ", "why"), ("conv 2 (b)", "diverges", "new")]
    done = run(file)
    assert done.exit_code == 1
    assert "the baseline accepts what no longer occurs: one: conv 1 (a): diverges" in done.output
    assert "one: conv 2 (b): diverges: new" in done.output
    assert "one: model: differ" not in done.output


def test_a_baseline_of_an_entry_that_did_not_run_is_not_stale(project, tmp_path):
    file, found = project
    found["one"] = [("model", "differ", "why")]
    run(file, "--write-baseline", tmp_path / "known.json")
    found["one"] = None
    done = run(file, "--baseline", tmp_path / "known.json")
    assert done.exit_code == 2
    assert "no longer occurs" not in done.output
    assert "no longer occurs" not in run(file, "--baseline", tmp_path / "known.json", "--only", "three").output


def test_every_report_says_the_same_and_names_are_escaped(project, tmp_path):
    file, found = project
    found["one"] = [("conv <b>|", "diverges", "a `tick`\x1b[31m")]
    done = run(file, "--json", tmp_path / "g.json", "--markdown", tmp_path / "g.md", "--junit", tmp_path / "g.xml")
    assert done.exit_code == 1
    assert "\x1b" not in done.output
    document = json.loads((tmp_path / "g.json").read_text())
    schema = json.loads(Path(command.__file__).with_name("gate.schema.json").read_text("utf-8"))
    jsonschema.validate(document, schema)
    assert (document["status"], document["summary"]) == (1, {"passed": 2, "failed": 1, "error": 0})
    markdown = (tmp_path / "g.md").read_text("utf-8")
    assert "<b>" not in markdown
    assert "| ❌ | one | compare | m&#58;a ↔ m&#58;b | the conclusion |" in markdown
    suite = ET.parse(tmp_path / "g.xml").getroot().find("testsuite")
    assert suite.attrib["tests"] == "3"
    assert suite.attrib["failures"] == "1"
    assert suite.find("testcase[@name='one']/failure").attrib["type"] == "diverges"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no checks: add [[compare]], [[verify]] or [[check]]"),
        ("compare = 3", "compare must be a list"),
        ('[[compare]]\nname = "a"\na = "m:a"', "compare[0].b must be given"),
        ('[[compare]]\nname = "a"\na = "m:a"\nb = "m:b"\nshapes = "1"', "shapes"),
        ('[[compare]]\nname = "a"\na = "m:a"\nb = "m:b"\nlayouts = "NCHW"', "layouts"),
        ('[[check]]\nname = "a"\n[[verify]]\nname = "a"\nmodel = "m.onnx"', "two checks have the name 'a'"),
        ("[[check]", "is not a TOML file"),
        (b"\xff", "is not a TOML file"),
    ],
)
def test_a_malformed_file_is_refused_before_anything_runs(text, message, tmp_path):
    file = tmp_path / "convspec.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = run(file)
    assert done.exit_code == 2
    assert message in done.output


def test_a_missing_file_and_an_unknown_check_are_refused(project, tmp_path):
    file, _ = project
    assert "cannot read" in run(tmp_path / "none.toml").output
    done = run(file, "--only", "four")
    assert done.exit_code == 2
    assert "has no check 'four'" in done.output


# -- files for CI services ---------------------------------------------------------------------------------------------


def test_options_of_the_file_are_options_of_the_commands():
    import inspect

    from convspec import check, compare, verify

    schema = json.loads(Path(command.__file__).with_name("gate-file.schema.json").read_text("utf-8"))
    own = {"compare": {"name", "a", "b", "shape", "seed"}, "verify": {"name", "model"}, "check": {"name", "corpus"}}
    for name, function in (("compare", compare), ("verify", verify), ("check", check)):
        options = {*schema["$defs"][name]["properties"]} - own[name]
        assert options <= {*inspect.signature(function).parameters}, name


def test_the_template_is_a_file_that_the_command_reads():
    document = command.read_file(ROOT / "docs" / "templates" / "convspec.toml")
    assert {*document} == {"compare", "verify", "check"}


@pytest.mark.processes
@pytest.mark.parametrize("status", [0, 1, 2])
def test_the_action_runs_the_gate_and_hands_on_its_status_and_summary(status, tmp_path):
    """Its own shell steps, with a command that writes what it was called with."""
    action = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
    steps = {step.get("name"): step for step in action["runs"]["steps"]}
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, rest in (("python", ""), ("convspec", f"echo summary > convspec-gate.md; exit {status}")):
        (tools / name).write_text(f'#!/bin/sh\necho "{name} $*" >> calls\n{rest}\n')
        (tools / name).chmod(0o755)
    base = {"PATH": f"{tools}:{os.environ['PATH']}", "GITHUB_OUTPUT": "output", "GITHUB_STEP_SUMMARY": "summary"}

    def step(name, **values):
        assert {*values} == {*steps[name]["env"]}
        environment = {**base, **values}
        return subprocess.run(["bash", "-e", "-c", steps[name]["run"]], cwd=tmp_path, env=environment, check=False)

    assert step("Install convspec", EXTRAS="torch,onnx", SOURCE="/actions/convspec").returncode == 0
    assert step("Install convspec", EXTRAS="", SOURCE="git+https://host/convspec@abc").returncode == 0
    assert step("Run the gate", FILE="my checks.toml").returncode == status
    assert (tmp_path / "calls").read_text().splitlines() == [
        "python -m pip install /actions/convspec[torch,onnx]",
        "python -m pip install convspec @ git+https://host/convspec@abc",
        "convspec gate my checks.toml --markdown convspec-gate.md --junit convspec-gate.xml --json convspec-gate.json",
    ]
    assert (tmp_path / "output").read_text() == f"status={status}\n"
    assert (tmp_path / "summary").read_text() == "summary\n"


def test_hooks_and_templates_call_the_command_with_options_that_it_has():
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    config = yaml.safe_load((ROOT / "docs" / "templates" / "pre-commit-config.yaml").read_text("utf-8"))
    assert config["repos"][0]["hooks"] == [{"id": hook["id"]}]
    assert hook["entry"] == "convspec gate"
    script = yaml.safe_load((ROOT / "docs" / "templates" / "gitlab-ci.yml").read_text("utf-8"))["convspec"]["script"]
    help_text = run("--help").output
    for word in (word for line in script if line.startswith("convspec") for word in line.split() if word[:2] == "--"):
        assert word in help_text
    steps = yaml.safe_load((ROOT / "docs" / "templates" / "github.yml").read_text("utf-8"))["jobs"]["gate"]["steps"]
    inputs = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))["inputs"]
    assert {*steps[1]["with"]} <= {*inputs}
