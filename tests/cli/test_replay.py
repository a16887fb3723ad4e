"""``convspec check --record`` and ``convspec replay`` as a user meets them: exit status, what is said and written."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from convspec.cli.app import app

FAKES = str(Path(__file__).parents[1] / "fakes")
CASE = (
    '{"spec": {"in_channels": 3, "out_channels": 5, "kernel_size": [3, 5]}, "input_shape": [2, 3, 9, 11], "seed": 7}\n'
)


def command(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def record(folder, *options):
    corpus = folder.with_suffix(".jsonl")
    corpus.write_text(CASE)
    return command("check", "--corpus", corpus, "--adapters", "convspec_fakes:GOOD", "--record", folder, *options)


def test_a_record_is_made_and_replayed(tmp_path):
    done = record(tmp_path / "a")
    assert done.exit_code == 0
    assert "record: 4 outputs saved, 0 left out" in done.stdout
    done = command("replay", tmp_path / "a", "--json", tmp_path / "r.json", "--markdown", tmp_path / "r.md")
    assert done.exit_code == 0
    assert "replay: 4 of 4 outputs are bit-for-bit equal" in done.stdout
    assert "4 agree, 0 unexpected" in done.stdout
    report = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert report["environment"]["replay"]["folders"] == [str(tmp_path / "a")]
    assert "replay&#58; 4 of 4 outputs are bit&#45;for&#45;bit equal" in (tmp_path / "r.md").read_text("utf-8")


def test_a_divergence_is_shown_with_the_line_that_reproduces_it(tmp_path):
    record(tmp_path / "a")
    done = command(
        "replay", tmp_path / "a", "--adapters", "convspec_fakes:WRONG_NUMBERS", "--html", tmp_path / "r.html"
    )
    assert done.exit_code == 1
    for words in (
        "this run has the larger error",
        "value      recorded ",
        "by convspec_fakes:GOOD on cpu, with verdict agree",
    ):
        assert words in done.stdout
    line = next(line for line in done.stdout.splitlines() if "reproduce" in line).split("reproduce")[1].split()
    assert line[:3] == ["convspec", "replay", str(tmp_path / "a")]
    again = command(*line[1:])
    assert (again.exit_code, again.stdout.count("this run has the larger error")) == (1, 4)
    page = (tmp_path / "r.html").read_text("utf-8")
    assert "replay: 0 of 4 outputs are bit-for-bit equal" in page
    assert "recorded " in page


def test_a_limit_is_told(tmp_path):
    done = record(tmp_path / "a", "--record-limit", "4KiB")
    assert done.exit_code == 0
    assert "record: 0 outputs saved, 4 left out: 4 × the limit of 4096B is reached" in done.stdout
    done = command("replay", tmp_path / "a")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "nothing to compare with" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["replay", "{}/none"], "is not a record: it has no run.jsonl"),
        (["replay"], "Missing argument"),
        (["replay", "{}/a", "--precision", "exact"], "unknown precision 'exact'"),
        (["replay", "{}/a", "--recorded", "torch"], "nothing to compare with"),
        (["replay", "{}/a", "--case", "0123"], "nothing to compare with"),
        (["check", "--record", "{}/b", "--record-limit", "much"], "record-limit='much' must be a size"),
        (["check", "--record", "{}/b", "--journal", "{}/j"], "leave journal and executor out"),
        (["check", "--resume", "{}/a/run.jsonl", "--record", "{}/b"], "--record cannot be used with --resume"),
        (["check", "--start-timeout", "0"], "start_timeout=0.0 must be more than 0 seconds"),
        (["check", "--resume", "{}/a/run.jsonl", "--start-timeout", "0"], "start_timeout=0.0 must be more than 0"),
        (["replay", "{}/a", "--start-timeout", "-1"], "start_timeout=-1.0 must be more than 0 seconds"),
    ],
)
def test_a_wrong_request_is_status_2(tmp_path_factory, arguments, words, made):
    done = command(*(argument.format(made) for argument in arguments))
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("record")
    assert record(folder / "a").exit_code == 0
    return folder


def test_names_from_a_record_are_text(tmp_path):
    """An escape sequence in a journal that somebody sent does not reach the terminal."""
    record(tmp_path / "a")
    path = tmp_path / "a" / "run.jsonl"
    text = path.read_text("utf-8")
    path.write_text(text.replace('"convspec_fakes:GOOD"', '"convspec_fakes:\\u001b[31mGOOD"'), "utf-8")
    done = command(
        "replay", tmp_path / "a", "--adapters", "convspec_fakes:WRONG_NUMBERS", "--html", tmp_path / "r.html"
    )
    assert done.exit_code == 1
    assert "\x1b" not in done.output
    assert "by convspec_fakes:\\x1b[31mGOOD on cpu" in done.stdout
    assert "\x1b" not in (tmp_path / "r.html").read_text("utf-8")
