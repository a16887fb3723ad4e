"""The command as a user meets it: exit status, what is said, what is written."""

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import convspec
from convspec.cli.app import app
from tests import prepared

FAKES = str(Path(__file__).parents[1] / "fakes")
CASE = (
    '{"spec": {"in_channels": 3, "out_channels": 5, "kernel_size": [3, 5]}, "input_shape": [2, 3, 9, 11], "seed": 7}\n'
)
TERMINAL = {"TERM": "dumb", "COLUMNS": "200"}


def process(*arguments, stdin):
    """The command in a process of its own."""
    path = os.pathsep.join([FAKES, os.environ.get("PYTHONPATH", "")])
    return prepared.run("-m", "convspec", *arguments, stdin=stdin, env={**os.environ, **TERMINAL, "PYTHONPATH": path})


def command(*arguments):
    return CliRunner().invoke(app, arguments, env=TERMINAL)


def fake(*names):
    return "--adapters", ",".join(f"convspec_fakes:{name}" for name in names)


def test_nothing_unexpected_is_status_0():
    done = process("check", "--corpus", "-", *fake("GOOD"), stdin=CASE)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 agree, 0 unexpected" in done.stdout
    assert [line.split()[:3] for line in done.stdout.splitlines()[1:3]] == [
        ["good", "NCHW", "0"],
        ["good", "NHWC", "0"],
    ]


def test_something_unexpected_is_status_1_and_is_shown_with_the_line_that_reproduces_it(tmp_path):
    done = process("check", "--corpus", "-", "--layouts", "NHWC", *fake("WRONG_NUMBERS"), stdin=CASE)
    assert done.returncode == 1
    assert "0 agree, 2 unexpected" in done.stdout
    for words in ("(1, 4, 6, 6)", "1 of ", "ConvSpec(3, 5, kernel_size=(3, 5))", "expected", "bound"):
        assert words in done.stdout
    line = next(line for line in done.stdout.splitlines() if "reproduce" in line).split("reproduce", 1)[1]
    again = subprocess.run(
        line.replace("convspec check", f"{sys.executable} -m convspec check"),
        shell=True, capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([FAKES, os.environ.get("PYTHONPATH", "")])}, cwd=tmp_path,
    )  # fmt: skip
    assert again.returncode == 1
    assert "0 agree, 2 unexpected" in again.stdout


def test_a_crash_shows_its_signal_and_last_words():
    done = process("check", "--corpus", "-", "--layouts", "NCHW", "--data", "exact", *fake("SEGFAULTS"), stdin=CASE)
    assert done.returncode == 1
    assert "crash – SIGSEGV" in done.stdout
    assert "last words about to touch address zero" in done.stdout


def test_a_gap_is_shown_and_is_not_unexpected():
    done = process("check", "--corpus", "-", *fake("GAP_HOLDS"), stdin=CASE)
    assert done.returncode == 0
    assert "gap g (gap-holds, upstream): 4 results; known" in done.stdout
    done = process("check", "--corpus", "-", *fake("GAP_CLOSED"), stdin=CASE)
    assert done.returncode == 1
    assert "gap g (gap-closed) is CLOSED: 4 matching results agree" in done.stdout


def test_the_report_goes_to_a_file_or_to_standard_output(tmp_path):
    file = tmp_path / "report.json"
    done = process("check", "--corpus", "-", *fake("GOOD"), "--json", str(file), stdin=CASE)
    assert done.returncode == 0
    written = json.loads(file.read_text())
    assert written["summary"]["agree"] == 4
    assert written["environment"]["corpus"] == ["-"]
    assert list(tmp_path.iterdir()) == [file]
    done = process("check", "--corpus", "-", *fake("GOOD"), "--json", "-", stdin=CASE)
    assert json.loads(done.stdout)["schema"] == "convspec.report/1"
    assert "0 unexpected" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (["--adapters", "torhc"], "", "unknown adapter 'torhc'; did you mean 'torch'? Known: "),
        (["--corpus", "turorial"], "", "unknown corpus 'turorial'; did you mean 'tutorial'? Known: "),
        (["--corpus", "no/such.jsonl"], "", "no/such.jsonl: file not found"),
        (["--corpus", "-"], CASE + '{"spec": {"in_channels": 3}}\n', "2"),
        (["--corpus", "-"], "", "has no case"),
        (["--corpus", "-", "--layouts", "NHCW"], CASE, "unknown layout 'NHCW'"),
        (["--corpus", "-", "--dtypes", "float23"], CASE, "did you mean 'float32'"),
        (["--corpus", "-", "--dtypes", ","], CASE, "has no name in it"),
        (["--corpus", "-", "--json", "/no/such/folder/x.json"], CASE, "cannot write /no/such/folder/x.json"),
        (["--corpus", "-", *fake("ABSENT_MODULE")], CASE, "needs no_such_framework_at_all, which is not installed"),
        (["--corpus", "-", "--devices", "cuda", *fake("GOOD")], CASE, "no device 'cuda' here"),
        (["--corpus", "-", "--timeout", "-1", *fake("GOOD")], CASE, "more than 0 seconds"),
    ],
)
def test_a_wrong_request_is_status_2_and_one_sentence(arguments, stdin, words, tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text(stdin)
    arguments = [str(file) if argument == "-" else argument for argument in arguments]
    done = CliRunner().invoke(app, ["check", *arguments])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("convspec: ")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_malformed_line_names_file_and_line_and_nothing_is_checked(tmp_path):
    file = tmp_path / "mine.jsonl.gz"
    file.write_bytes(gzip.compress((CASE + CASE.replace("[3, 5]", "0")).encode()))
    done = command("check", "--corpus", str(file), *fake("GOOD"))
    assert (done.exit_code, done.stdout) == (2, "")
    assert "mine.jsonl.gz" in done.stderr
    assert "2" in done.stderr
    assert "kernel_size=0 must" in done.stderr


def test_an_option_that_does_not_exist_is_status_2():
    assert command("check", "--corpsu", "x").exit_code == 2
    assert process("chek", stdin="").returncode == 2


def test_a_sample_is_part_of_the_corpus_and_repeatable():
    def cases(*options):
        done = command("check", "--corpus", "features", "--json", "-", "--layouts", "NCHW", "--data", "exact",
                       "--sample", "3", *options, *fake("GOOD"))  # fmt: skip
        return [result["case"] for result in json.loads(done.stdout)["results"]]

    assert len(cases()) == 3
    assert cases() == cases("--seed", "0") != cases("--seed", "1")


def ended(process):
    """Status and standard error of a process, whose standard output nobody reads."""
    process.stdout.close()
    with process.stderr as errors:
        error = errors.read()
    return process.wait(100), error


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["check", "--corpus", "tutorial", *fake("GOOD")],
        ["check", "--corpus", "tutorial", *fake("GOOD"), "--json", "-"],
        ["show", "nn.Conv2d(3, 16, 3)", "--input", "1x3x32x32"],
        ["adapters", "--gaps"],
    ],
    ids=" ".join,
)
def test_a_command_whose_reader_has_gone_ends_quietly(arguments):
    process = prepared.Program(
        "-m", "convspec", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([FAKES, os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    assert ended(process) == (141, "")


@pytest.mark.parametrize("reader", ["head -1", "true"])
def test_a_command_in_a_pipe_ends_quietly_also_under_pipefail(reader):
    line = f"{sys.executable} -m convspec adapters --gaps | {reader}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode in (0, 141)
    assert done.stderr == ""


def test_help_and_version():
    done = command("check", "--help")
    assert done.exit_code == 0
    for option in ("--adapters", "--layouts", "--dtypes", "--devices", "--corpus", "--sample", "--seed", "--jobs",
                   "--json", "--timeout", "Examples"):  # fmt: skip
        assert option in done.stdout
    panels = re.findall(r"╭─ ([\w ]+) ─", done.stdout)
    assert panels == ["Options", "What", "How", "Long runs", "Output"]
    assert done.stdout.index("--help") < done.stdout.index("--adapters") < done.stdout.index("--jobs")
    assert "--dask" not in command("fuzz", "--help").stdout
    assert command("--version").stdout == f"convspec {convspec.__version__}\n"


def test_help_imports_neither_numpy_nor_a_framework():
    code = (
        "import sys\nfrom convspec.cli.app import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'numpy', 'torch', 'jax', 'tensorflow', 'onnx'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_adapters_lists_them_without_importing_a_framework():
    done = command("adapters")
    assert done.exit_code == 0
    for name in ("torch", "flax", "keras", "onnx"):
        assert name in done.stdout
    entries = json.loads(command("adapters", "--gaps", "--json", "-").stdout)["adapters"]
    assert {"name", "present", "versions", "layouts", "dtypes", "variants", "gaps"} <= set(entries[0])
    assert command("adapters", "--gaps").exit_code == 0


def test_source_prints_code():
    spec = convspec.ConvSpec(3, 16, 3, stride=2, padding=1).to_json()
    done = command("source", spec, "--to", "torch")
    assert done.exit_code == 0
    assert "nn.Conv2d(3, 16" in done.stdout
    assert process("source", "-", "--to", "torch", stdin=spec).stdout == done.stdout
    wrong = command("source", '{"in_channels": 0, "out_channels": 2}', "--to", "torch")
    assert wrong.exit_code == 2
    assert wrong.stderr.startswith("convspec: kernel_size must be given")


def test_show_prints_the_facts_of_a_layer():
    spec = convspec.ConvSpec(3, 16, 3, stride=2, padding="same").to_json()
    done = command("show", spec, "--input", "1x3x32x30")
    assert done.exit_code == 0
    for words in ("1 × 16 × 16 × 15", "448", "PyTorch"):
        assert words in done.stdout
    found = json.loads(command("show", spec, "--input", "1,3,32,30", "--json", "-").stdout)
    assert found["output"] == [1, 16, 16, 15]
    assert found["padding"] == [[0, 1], [0, 1]]
    assert command("show", spec, "--input", "1,4,32,30").exit_code == 2
    assert command("show", spec, "--input", "1,four").exit_code == 2


@pytest.mark.parametrize(("arguments", "status"), [(["--version"], 0), (["show", "nope"], 2)])
def test_the_process_ends_without_what_frameworks_do_at_an_interpreters_end(arguments, status):
    code = f"""if True:
        import sys
        class Framework:
            def __del__(self, write=sys.stderr.write):
                write("its end")
        framework = Framework()
        from convspec.cli import main
        sys.argv[1:] = {arguments}
        main()"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == status
    assert done.stdout or done.stderr
    assert "its end" not in done.stderr
