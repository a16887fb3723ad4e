"""What a release says of itself: one version everywhere, whole distributions, and versions that were run."""

import email
import json
import re
import tomllib
from pathlib import Path

import distributions
import pytest
import site_evidence
import tested_versions

import convspec

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
FRAMEWORKS = site_evidence.FRAMEWORKS


def test_every_file_has_the_same_version():
    heads = re.findall(r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.M)
    assert heads[0] == cited[1] == convspec.__version__
    wheels = [
        w for page in ROOT.glob("docs/how-to/*.md") for w in re.findall(r"convspec-(\d[\d.]*)-py3", page.read_text())
    ]
    assert set(wheels) == {convspec.__version__}


def test_nothing_links_to_where_nothing_is():
    assert "urls" not in PROJECT
    for name in ("CITATION.cff", "SECURITY.md"):
        assert "http" not in (ROOT / name).read_text("utf-8")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_lowest_versions_are_those_that_are_declared(framework):
    pins = (ROOT / "constraints" / "lowest" / f"{framework}.txt").read_text("utf-8").split()
    assert [re.sub(r"(\.0)+$", "", pin) for pin in pins] == [
        re.sub(r"(\.0)+$|\[\w+\]", "", one.replace(">=", "==")) for one in PROJECT["optional-dependencies"][framework]
    ]


def test_the_table_of_versions_says_what_was_run_and_what_was_not():
    shown = site_evidence.version_tables(lambda head, rows: json.dumps([head, *rows]))
    rows = {row[0].strip("`"): row[1:] for row in json.loads(shown)[1:]}
    kept = {(one["set"], one["framework"]): one for one in json.loads(tested_versions.DATA.read_text("utf-8"))}
    assert list(rows) == list(FRAMEWORKS)
    for framework, (_, *cells) in rows.items():
        for kind, cell in zip(tested_versions.SETS, cells, strict=True):
            one = kept.get((kind, framework))
            assert ("not tried" in cell) == (one is None or bool(one["problem"]))
            assert ("passes:" in cell) == (one is not None and one["passes"])


@pytest.mark.processes
def test_the_distributions_have_all_files_and_their_licence(monkeypatch, tmp_path):
    monkeypatch.setattr(distributions, "DIST", tmp_path / "dist")
    sdist, wheel = distributions.build()
    assert list(distributions.problems(sdist, wheel)) == []
    monkeypatch.setattr(distributions, "MOST", 1000)
    assert any("more than 1,000" in words for words in distributions.problems(sdist, wheel))


def test_a_missing_file_a_strange_one_and_a_wrong_word_are_noticed():
    assert list(distributions._difference("the wheel", {"a", "b"}, {"b", "c"})) == [
        "the wheel lacks c",
        "the wheel has a",
    ]
    metadata = email.message_from_string("Name: other\nProject-URL: Home, https://nowhere.example\n")
    found = list(distributions._metadata_problems(metadata))
    assert found[0] == "the metadata says Name: other, not convspec"
    assert "links to" in found[-1]


def test_a_python_that_is_missing_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(distributions, "PYTHONS", ("3.2",))
    assert distributions.interpreters() == {"3.2": None}
