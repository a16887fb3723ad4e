"""The output of every command: encodings, closed and full outputs, lost folders, and text that a terminal obeys."""

import contextlib
import dataclasses
import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from fault_drills.outputs import COMMANDS
from typer.testing import CliRunner

from convspec import Case, ConvSpec, RequestError, atomic_files
from convspec.cli import console, streams
from convspec.cli.app import app
from convspec.cli.app import run as run_command
from convspec.cli.terminal import Terminal
from convspec.conformance.gap_ledger import Tally
from convspec.conformance.results import Report, Result
from convspec.contract.known_gaps import parse
from tests import prepared

FAKES = str(Path(__file__).parents[1] / "fakes")
LAYER = "nn.Conv2d(3, 16, 3, stride=2, padding=1)"
CASE = Case(ConvSpec(3, 5, (3, 5), stride=(2, 1)), (2, 3, 9, 11), "NHWC", data="random", seed=7, name="– ☃ –")
GAP = parse('[[gap]]\nid="g"\nkind="todo"\nwhen="bias"\nfails=["error"]\nreason="known"\nlink="https://x.y"', "file")[0]
EVIDENCE = {
    "index": [0, 1], "got": "1.5", "expected": "2.5", "wrong": 4, "total": 440, "worst_q": "7.5", "bound": "0.5",
    "unit": "u*G", "message": "head\nsecond\nthird", "last_words": "about to\nfall",
    "location": {"where": "the border", "picture": ["#..", "..#"], "channel": [0, 1]},
    "findings": [{"title": "flipped", "id": "flip", "fix": "turn it"}],
    "first": {"verdict": "crash", "reason": "SIGSEGV"}, "record": {"left_out": "no room"},
    "recorded": {"by": "torch", "device": "cuda", "verdict": "agree", "folder": "gpu", "differing": 0},
}  # fmt: skip


def result(verdict="disagree", gap=None, support="native", evidence=EVIDENCE):
    return Result(CASE, "torch", "torch", "default", "shipped", support, "why", verdict, "value: off", "tf32",
                  dict(evidence), gap, 0.25)  # fmt: skip


def report():
    about = {"convspec": "1", "versions": {"torch": "2.11"}, "adapters": ["torch"], "processor": "any", "seconds": 1.0,
             "replay": {"without": {"no room": 3}}}  # fmt: skip
    results = (result(), result("agree"), result("error", "g"), result("unsupported", support="unsupported"),
               result("crash", evidence={}))  # fmt: skip
    results = tuple(dataclasses.replace(one, index=index) for index, one in enumerate(results))
    tallies = (Tally(GAP, "torch", 3), Tally(GAP, "keras", 1, 2, {"case": "ab"}))
    return Report(about, results, tallies, {"flax": "needs jax"}, ("half of it",))


@pytest.fixture
def saved(tmp_path):
    file = tmp_path / "run.json"
    file.write_text(console.dumps(report().to_dict()), "utf-8")
    return str(file)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the command in this process with files as its streams; return the status, and what was written, as bytes."""

    def run(*arguments, encoding="utf-8", out=None, stdin=""):
        paths = {"stdout": Path(out or tmp_path / "stdout"), "stderr": tmp_path / "stderr"}
        with monkeypatch.context() as patch, contextlib.ExitStack() as opened:
            for name, path in paths.items():
                stream = opened.enter_context(path.open("w", encoding=encoding))
                patch.setattr(sys, name, stream)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin.encode()))))
            patch.setattr(sys, "argv", ["convspec", *arguments])
            with pytest.raises(SystemExit) as ended:
                run_command()
            sys.stderr.flush()
        return ended.value.code or 0, b"" if out else paths["stdout"].read_bytes(), paths["stderr"].read_bytes()

    return run


def process(line, python=None, **environment):
    """A line of the shell, in which ``convspec`` is the command."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([FAKES, *filter(None, sys.path)]), **environment}
    words = f"{python or prepared.python(environment)} -m convspec "
    return subprocess.run(
        ["bash", "-c", line.replace("convspec ", words)], capture_output=True, text=True, timeout=100, check=False,
        env=environment,
    )  # fmt: skip


# -- encodings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_encoding_gets_the_same_status(name, encoding, run, saved):
    arguments = [saved if word == "FILE" else word for word in COMMANDS[name]]
    whole, out, _ = run(*arguments, stdin=CASE.to_json())
    status, poor, errors = run(*arguments, encoding=encoding, stdin=CASE.to_json())
    assert status == whole
    assert b"Traceback" not in errors
    assert len(poor.decode(encoding).splitlines()) == len(out.decode().splitlines())


def test_characters_that_an_encoding_lacks_are_spelt(run):
    _, out, _ = run(*COMMANDS["show"], encoding="ascii")
    text = out.decode("ascii")
    for words in ("1 x 3 x 32 x 32", "H floor((32 + 1 + 1 - 3) / 2) + 1 = 16", "o not read"):
        assert words in text
    assert "\\u" not in text
    assert "1 × 3 × 32 × 32".encode("latin-1") in run(*COMMANDS["show"], encoding="latin-1")[1]
    _, _, errors = run("show", "☃", encoding="ascii")
    assert "convspec: '\\u2603' cannot be read" in errors.decode("ascii")


def test_every_character_of_the_programs_own_texts_has_a_spelling(run):
    for arguments in (COMMANDS["show"], COMMANDS["adapters"], COMMANDS["source"], COMMANDS["help"]):
        assert "\\u" not in run(*arguments, encoding="ascii")[1].decode("ascii")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_documents_keep_their_content_in_every_encoding(run, saved, encoding):
    expected = json.loads(Path(saved).read_text("utf-8"))
    _, out, _ = run("report", saved, "--json", "-", encoding=encoding)
    assert json.loads(out.decode("ascii")) == expected
    _, page, _ = run("report", saved, "--junit", "-", encoding=encoding)
    names = [case.get("name") for case in ET.fromstring(page.decode("ascii")).iter("testcase")]
    assert any("– ☃ –" in name for name in names)


def test_the_environment_decides_the_encoding():
    done = process(f"convspec show '{LAYER}' --input 1,3,9,9", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 x 3 x 9 x 9" in done.stdout
    posix = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = process(f"convspec show '{LAYER}' --input 1,3,9,9", **posix)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_path_that_is_not_text_is_reported_in_every_form(tmp_path, run):
    corpus = os.fsdecode(os.fsencode(tmp_path) + b"/k\xffrpus.jsonl")
    Path(corpus).write_text(CASE.to_json() + "\n")
    files = {name: tmp_path / f"out.{name}" for name in ("json", "html", "markdown", "junit")}
    options = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    status, _, errors = run("check", "--corpus", corpus, "--adapters", "convspec_fakes:GOOD", *options)
    assert (status, errors) == (0, b"")
    assert json.loads(files["json"].read_text("utf-8"))["environment"]["corpus"] == [corpus]
    assert "k\\udcffrpus" in files["html"].read_text("utf-8")
    ET.fromstring(files["junit"].read_text("utf-8"))
    again, _, _ = run("report", str(files["json"]), "--json", "-")
    assert again == 0


LOUD = """
import os
from convspec_fakes import Fake
class Loud(Fake):
    def __getattribute__(self, name):
        print("noise", flush=True)
        os.write(1, b"native noise\\n")
        return super().__getattribute__(name)
ADAPTER = Loud("loud")
"""


@pytest.mark.processes
@pytest.mark.parametrize("output", ["-", "/dev/stdout"])
@pytest.mark.parametrize(
    "line",
    [
        f"show '{LAYER}' --adapters convspec_loud:ADAPTER --json OUT",
        f"source '{LAYER}' --to convspec_loud:ADAPTER --json OUT",
        "check -j 1 --corpus cases.jsonl --adapters convspec_loud:ADAPTER --json OUT",
    ],
)
def test_what_adapters_print_goes_to_standard_error(line, output, tmp_path):
    (tmp_path / "convspec_loud.py").write_text(LOUD)
    (tmp_path / "cases.jsonl").write_text(CASE.to_json())
    done = process(f"cd {tmp_path}; convspec {line.replace('OUT', output)}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    assert {"noise", "native noise"} <= set(done.stderr.splitlines())


def test_a_command_gives_standard_output_back():
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        with streams.own_output():
            print("of an adapter", file=sys.stdout)
            streams.output().write("of the command")
        print(", and after it", end="")
    assert shown.getvalue() == "of the command, and after it"


# -- outputs that are closed, full, or left ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["show", "show --json", "report", "report --html", "source", "adapters", "help"])
def test_a_full_output_is_a_message_and_status_2(name, run, saved):
    status, _, errors = run(*[saved if word == "FILE" else word for word in COMMANDS[name]], out="/dev/full")
    assert status == 2
    assert errors.decode().endswith("convspec: cannot write standard output: No space left on device\n")
    assert "Traceback" not in errors.decode()


@pytest.mark.parametrize(
    ("redirection", "status", "words"),
    [
        (">&-", 2, "convspec: cannot write standard output: Bad file descriptor\n"),
        ("2>&-", 0, ""),
        ("2>/dev/full", 0, ""),
        (">&- 2>&-", 2, ""),
        (">/dev/full 2>/dev/full", 2, ""),
        ("<&-", 0, ""),
        ("- <&-", 2, "convspec: cannot read standard input: Bad file descriptor\n"),
    ],
)
def test_closed_and_full_descriptors(redirection, status, words):
    layer = "" if redirection.startswith("-") else f"'{LAYER}'"
    done = process(f"convspec show {layer} {redirection}")
    assert (done.returncode, done.stderr) == (status, words)


@pytest.mark.processes
@pytest.mark.parametrize(("redirection", "status"), [(">&-", 2), ("2>&-", 0), (">/dev/full", 2), ("<&-", 2)])
def test_a_run_with_workers_survives_closed_and_full_descriptors(redirection, status, tmp_path):
    file = tmp_path / "report.json"
    line = f"convspec check --corpus - --adapters convspec_fakes:GOOD --json {file}"
    given = f"{line} {redirection}" if "<" in redirection else f"echo '{CASE.to_json()}' | {line} {redirection}"
    done = process(given)
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    if "<" not in redirection:
        assert json.loads(file.read_text())["summary"]["agree"] == 4


def test_a_stream_that_does_not_block_is_waited_for(monkeypatch):
    reader, writer = os.pipe2(os.O_NONBLOCK)
    waited = []
    monkeypatch.setattr(streams.select, "select", lambda *_: waited.append(os.read(reader, 1 << 20)))
    with streams._Output(writer, "w") as stream:
        for _ in range(40):
            assert stream.write(bytes(4096))
    assert waited
    os.close(reader)


def test_standard_input_that_is_not_text_is_a_message(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"nn.Conv2d(\xff)"), encoding="utf-8"))
    with pytest.raises(RequestError, match="standard input is not utf-8 text: byte 0xff at 10"):
        streams.read_input()


# -- folders and files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["port", "a:b", "c:d", "--shape", "1,3,4,4"], "the working directory no longer exists"),
        (["compare", "a.pt", "b.pt", "--shape", "1,3,4,4"], "the working directory no longer exists"),
        (["check", "--json", "x.json"], "the working directory no longer exists"),
        (["adapters", "--new", "foo"], "cannot write convspec-foo: No such file or directory"),
        (["report", "x.json"], "cannot read x.json: No such file or directory"),
        (["diagnose", LAYER, "x.npz"], "cannot read x.npz: No such file or directory"),
        (["vectors", "run", "d"], "d: folder not found"),
    ],
)
def test_a_deleted_working_directory_is_a_message_and_status_2(arguments, words, tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("convspec: ")
    assert words in done.stderr


def test_what_needs_no_folder_works_in_a_deleted_one(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert CliRunner().invoke(app, COMMANDS["show"]).exit_code == 0


@pytest.mark.parametrize("form", ["json", "html", "markdown", "junit"])
def test_a_full_disk_leaves_the_file_before_and_no_other(form, saved, tmp_path, monkeypatch):
    target = tmp_path / "out"
    target.write_text("before")
    monkeypatch.setattr(atomic_files.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    done = CliRunner().invoke(app, ["report", saved, f"--{form}", str(target)])
    assert (done.exit_code, done.stderr) == (2, f"convspec: cannot write {target}: No space left on device\n")
    assert target.read_text() == "before"
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "out"}


def test_a_file_that_may_not_grow_leaves_the_file_before_and_no_other(saved, tmp_path):
    target = tmp_path / "out.json"
    target.write_text("before")
    done = process(f"ulimit -f 4; trap '' XFSZ; convspec report {saved} --json {target}", sys.executable)
    assert (done.returncode, done.stderr) == (2, f"convspec: cannot write {target}: File too large\n")
    assert target.read_text() == "before"
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "out.json"}


def test_files_keep_their_permissions_and_links(tmp_path):
    target, link = tmp_path / "kept", tmp_path / "link"
    target.write_text("before")
    target.chmod(0o640)
    link.symlink_to(target)
    atomic_files.write_file(link, "after")
    assert link.is_symlink()
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("after", 0o640)


def test_devices_and_pipes_are_written_and_not_replaced(saved, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    atomic_files.write_file(pipe, "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert pipe.is_fifo()
    assert CliRunner().invoke(app, ["report", saved, "--json", "/dev/null"]).exit_code == 1
    assert Path("/dev/null").is_char_device()
    done = CliRunner().invoke(app, ["report", saved, "--json", "/dev/full"])
    assert (done.exit_code, done.stderr) == (2, "convspec: cannot write /dev/full: No space left on device\n")
    folder = CliRunner().invoke(app, ["check", "--json", str(tmp_path)])
    assert (folder.exit_code, folder.stderr) == (2, f"convspec: cannot write {tmp_path}: it is a folder\n")


# -- text that a terminal obeys ----------------------------------------------------------------------------------------

EVIL = "\x1b[31m\u202e\x00\x9b31m\nFORGED\x07"


def places(value, path=()):
    """The path of every text in a document, and of every key under the environment, marked by ``None``."""
    if isinstance(value, str):
        yield path
    for key, entry in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(entry, (*path, key))
        if "environment" in path:
            yield (*path, key, None)


def poisoned(document, path):
    copy = json.loads(json.dumps(document))
    *way, last = path if path[-1] is not None else path[:-1]
    inner = copy
    for key in way:
        inner = inner[key]
    if path[-1] is None and isinstance(inner, dict):
        inner[f"{last}{EVIL}"] = inner[last]
    else:
        inner[last] = f"{inner[last]}{EVIL}"
    return copy


DOCUMENT = report().to_dict()
HOSTILE = [path for path in places(json.loads(json.dumps(DOCUMENT))) if path[0] != "results" or path[1] in (0, 3)]


def assert_clean(text, where, lines=True):
    """No control character is left but line breaks, and where ``lines`` count, no text begins one of its own."""
    assert not [c for c in text if not (c.isprintable() or c == "\n")], where
    assert not lines or not [line for line in text.splitlines() if line.startswith("FORGED")], where


def test_no_text_of_a_file_reaches_a_terminal_or_a_report_raw(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic_files.os, "fsync", lambda _: None)  # hundreds of files, which no power cut will spoil
    file, plain = tmp_path / "run.json", tmp_path / "plain.json"
    plain.write_text(console.dumps(DOCUMENT), "utf-8")
    outputs = {form: tmp_path / f"out.{form}" for form in ("json", "html", "markdown", "junit")}
    options = [word for form, path in outputs.items() for word in (f"--{form}", str(path))]
    shown = 0
    for path in HOSTILE:
        file.write_text(json.dumps(poisoned(DOCUMENT, path)), "utf-8")
        done = CliRunner().invoke(app, ["report", str(file), *options])
        assert done.exit_code in (1, 2), (path, done.output, done.exception)
        texts = [done.stdout, done.stderr]
        if done.exit_code == 1:
            written = {form: output.read_text("utf-8") for form, output in outputs.items()}
            assert json.loads(written["json"])["results"]
            assert ET.fromstring(written["junit"]).tag == "testsuites"
            assert_clean(written.pop("html"), path, lines=False)  # line breaks mean nothing there
            texts += written.values()
            shown += any("FORGED" in text for text in texts[:2])
            texts.append(CliRunner().invoke(app, ["report", "diff", str(file), str(plain), "--markdown", "-"]).output)
        for text in texts:
            assert_clean(text, path)
    assert len(HOSTILE) > 70
    assert shown > 25  # the poison does arrive, in a harmless form


def test_reports_printed_by_python_are_clean():
    report = Report({}, (Result(CASE.varied(device=EVIL), EVIL, EVIL, EVIL, EVIL, "native", EVIL, "error", EVIL, EVIL,
                                {"message": EVIL}, None, 0.0),), (), {}, (EVIL,))  # fmt: skip
    for text in (str(report), str(report.results[0]), repr(report)):
        assert_clean(text, text)


def test_a_report_that_forgets_to_clean_is_cleaned_by_the_console():
    shown = Terminal(file=io.StringIO(), width=80, force_terminal=True)
    shown.print(f"before{EVIL}after", style="bold red", markup=False)
    text = shown.file.getvalue()
    assert text.startswith("\x1b[1;31mbefore\\x1b")  # its own style, and nobody else's
    assert "\x1b[31m" not in text
    assert "\\u202e\\x00\\x9b31m" in text
    assert not {*"\u202e\x00\x9b\x07"} & set(text)
    assert isinstance(console.console(), Terminal)
