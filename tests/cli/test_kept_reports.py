"""Reports that were kept: loaded, put together, compared."""

import dataclasses
import json
from importlib import resources

import jsonschema
import pytest
from typer.testing import CliRunner

from convspec import Case, ConvSpec, RequestError, check
from convspec.cli.app import app
from convspec.cli.console import dumps
from convspec.cli.reports.diff import Difference
from convspec.cli.reports.load import from_dict, load, merge
from convspec.conformance.gap_ledger import Tally
from convspec.conformance.results import Report, Result
from convspec.contract.known_gaps import parse

CASE = Case(ConvSpec(3, 5, (3, 5), stride=(2, 1)), (2, 3, 9, 11), "NHWC", data="random", seed=7, name="it's")
GAP = parse('[[gap]]\nid="g"\nkind="todo"\nwhen="bias"\nfails=["error"]\nreason="known"\nlink="https://x.y"', "file")[0]
CASES = [Case(ConvSpec(3, n, (1, 3)), (2, 3, 5, 7), seed=n) for n in range(2, 9)]
NAMES = ["convspec_fakes:GOOD", "convspec_fakes:GAP_HOLDS"]
ABOUT = {"convspec": "1", "versions": {"torch": "2.11"}, "adapters": ["torch"], "seconds": 1.0}


def result(verdict="disagree", *, case=CASE, adapter="torch", request="torch", gap=None, **more):
    return Result(case, adapter, request, "default", "shipped", "native", "", verdict, "value: off", None,
                  {"index": [0, 1], "wrong": 4}, gap, 0.25, **more)  # fmt: skip


def report(*results, gaps=(), missing=(), **about):
    return Report({**ABOUT, **about}, results, tuple(gaps), {"flax": "needs jax"}, tuple(missing))


def written(path, found):
    path.write_text(dumps(found.to_dict()))
    return str(path)


def command(*arguments):
    return CliRunner().invoke(app, ["report", *arguments])


def without_times(found):
    data = found.to_dict()
    for key in ("seconds", "shard"):
        data["environment"].pop(key, None)
    for entry in data["results"]:
        entry.pop("seconds")
    return data


def test_a_document_gives_back_its_report():
    example = {"case": "ab"}
    tallies = [Tally(GAP, "torch", 3), Tally(GAP, "keras", 1, 2, example), Tally(GAP, "x", 0, 1, example, whole=False)]
    for found in (report(result(), result("agree", gap="g", index=3)), report(gaps=tallies, missing=["half of it"])):
        assert from_dict(json.loads(dumps(found.to_dict()))).to_dict() == found.to_dict()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a convspec report"),
        ("[]", "is not a convspec report"),
        ("{}", "has schema 'None', neither 'convspec.report/1' nor 'convspec.run/1'"),
        ('{"schema": "convspec.report/1"}', "is not a convspec report: environment must be given"),
        (
            '{"schema":\n "convspec.report/1", "environment": {}, "gaps": [], "results": [{"spec": 3}]}',
            "is not a convspec report",
        ),
        ("[" * 99999, "is not a convspec report"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path, text, words):
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(RequestError, match=words):
        load(file)
    done = command(str(file))
    assert (done.exit_code, done.stdout) == (2, "")
    assert command(str(tmp_path / "none")).exit_code == 2


def test_merged_shards_are_the_whole_run():
    whole = check(CASES, NAMES)
    shards = [check(CASES, NAMES, shard=(i, 3)) for i in (3, 1, 2)]
    assert without_times(merge(shards)) == without_times(whole)
    lacking = merge(shards[:2])
    assert lacking.missing == ("shard 2/3 is missing",)
    assert len(lacking.results) < len(whole.results)


def test_a_gap_that_passes_on_a_shard_is_named_over_the_whole_run():
    shards = [check(CASES[:3], ["convspec_fakes:GAP_TOO_WIDE"], shard=(i, 3)) for i in (1, 2, 3)]
    assert [shard.gaps[0].status for shard in shards] == ["passing", "holds", "passing"]
    assert [tally.status for tally in merge(shards).gaps] == ["too wide"]
    assert [tally.status for tally in merge(shards[::2]).gaps] == ["passing"]
    assert all(report.gaps[0].unexpected for report in (*shards[::2], merge(shards)))
    closed = [check(CASES, ["convspec_fakes:GAP_CLOSED"], shard=(i, 2)) for i in (1, 2)]
    assert [tally.status for tally in merge(closed).gaps] == ["closed"]


def test_runs_of_other_versions_or_the_same_cases_are_not_merge():
    with pytest.raises(RequestError, match=r"the runs have torch 2\.11 and 2\.12: .*convspec report diff"):
        merge([report(result()), report(versions={"torch": "2.12"})])
    with pytest.raises(RequestError, match="is in more than one run"):
        merge([report(result()), report(result("agree"))])


def test_what_changed_is_told_and_is_status_1(tmp_path):
    other = CASE.varied(layout="NCHW")
    probe = CASE.varied(data="probe")
    old = report(
        result("agree"), result("error", case=other, gap="g"), result("agree", request="gone"),
        dataclasses.replace(result("agree", case=probe), accuracy_class="float32"), gaps=[Tally(GAP, "torch", 1)],
    )  # fmt: skip
    new = report(
        result("disagree"), result("agree", case=other), result("agree", request="added"),
        dataclasses.replace(result("agree", case=probe), accuracy_class="tf32"),
        gaps=[Tally(GAP, "torch", 0, 1)], versions={"torch": "2.12"},
    )  # fmt: skip
    files = written(tmp_path / "old.json", old), written(tmp_path / "new.json", new)
    done = command("diff", *files, "--json", str(tmp_path / "diff.json"))
    assert done.exit_code == 1
    for words in (
        "version    torch: 2.11 → 2.12",
        "gap        torch: g: holds → closed",
        "verdicts   torch: 1 × agree → disagree",
        "verdict    torch NHWC float32 random, case",
        "error (gap g) → agree",
        "float32 → tf32",
        "only old   gone: 1 results",
        "only new   added: 1 results",
        "3 results compared: 2 verdicts changed, 1 accuracy classes changed, 1 gaps changed, 1 results missing",
    ):
        assert words in done.stdout
    found = json.loads((tmp_path / "diff.json").read_text())
    jsonschema.validate(
        found, json.loads(resources.files("convspec.cli.reports").joinpath("diff.schema.json").read_text("utf-8"))
    )
    assert (found["schema"], found["changed"], found["compared"]) == ("convspec.diff/1", True, 3)
    assert [(v["old"]["verdict"], v["new"]["verdict"]) for v in found["verdicts"]] == [
        ("agree", "disagree"), ("error", "agree"),
    ]  # fmt: skip
    assert found["versions"] == {"torch": ["2.11", "2.12"]}
    assert [entry["request"] for entry in found["gone"]] == ["gone"]


def test_nothing_changed_is_status_0_whatever_the_versions(tmp_path):
    files = (written(tmp_path / "a", report(result())), written(tmp_path / "b", report(result(), convspec="2")))
    done = command("diff", *files)
    assert done.exit_code == 0
    assert "version    convspec: 1 → 2" in done.stdout
    assert "1 results compared: 0 verdicts changed\n" in done.stdout
    assert not Difference(load(files[0]), load(files[0])).versions


def test_a_kept_report_is_shown_as_it_was(tmp_path):
    good = written(tmp_path / "good.json", report(result("agree")))
    assert command(good).exit_code == 0
    assert "1 results in 1.0 s: 1 agree, 0 unexpected" in command(good).stdout
    assert command("show", good).stdout == command(good).stdout
    bad = written(tmp_path / "bad.json", report(result(adapter="keras", request="keras")))
    assert command(bad).exit_code == 1
    both = command("merge", good, bad, "--json", str(tmp_path / "both.json"))
    assert both.exit_code == 1
    assert len(load(tmp_path / "both.json").results) == 2
    unfinished = written(tmp_path / "u.json", report(result("agree"), missing=["3 of 4 verdicts were not reached"]))
    done = command(unfinished)
    assert done.exit_code == 1
    assert "unfinished: 3 of 4 verdicts were not reached" in done.stdout


def test_what_a_file_says_is_shown_and_never_obeyed(tmp_path):
    evil = report(dataclasses.replace(result(), reason="\x1b[2J\x07gone"), missing=["\x1b]0;title"])
    done = command(written(tmp_path / "evil.json", evil))
    assert "\x1b" not in done.stdout
    assert "\\x1b[2J\\x07gone" in done.stdout
