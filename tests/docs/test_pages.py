"""The pages are whole: one with all its parts per parameter, pictures that can be drawn, answers to the questions."""

import inspect
import pkgutil
import re
import tomllib
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl
from xml.etree import ElementTree as ET

import pytest

from convspec import Chain, ConvSpec
from convspec.layers import calculate, pictures

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PARAMETERS = tomllib.loads((DOCS / "_data" / "parameters.toml").read_text("utf-8"))
NAMES = {name: getattr(pictures, name) for name in pictures.__all__} | {"ConvSpec": ConvSpec, "Chain": Chain}
PICTURES = [
    pytest.param(m[1], id=f"{page.stem}-{i}")
    for page in sorted(DOCS.rglob("*.md"))
    for i, m in enumerate(re.finditer(r"^```\{picture\}\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S))
]
SECTIONS = (  # in this order
    "The same layer in four frameworks",
    "Formula",
    "Where they differ",
    "Classic mistakes",
    "Error messages",
    "What each framework calls it",
)


def page(name):
    return (DOCS / "reference" / "parameters" / f"{name}.md").read_text("utf-8")


@pytest.mark.parametrize("expression", PICTURES)
def test_pictures_can_be_drawn(expression):
    assert ET.fromstring(eval(expression, dict(NAMES))).tag.endswith("svg")


def test_there_is_a_page_for_every_field_of_a_spec():
    fields = set(ConvSpec.__dataclass_fields__) - {"ndim"}
    assert set(PARAMETERS) == fields | {"layout", "dtype", "device"}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_page_has_all_parts(name):
    text = page(name)
    headings = re.findall(r"^## (.+)$", text, re.M)
    assert [heading for heading in headings if heading in SECTIONS] == [*SECTIONS]
    title, first = re.search(r"^# (.+)\n\n(.+)", text, re.M).groups()
    assert title.startswith(f"{name}: ")
    assert title.endswith("?")
    assert first.startswith("**")
    assert "{picture}" in text
    for part in ("names", "errors", "layers"):
        assert f"_generated/{name}-{part}.md" in text
    assert f"[`{name}`]({name}.md)" in page("index")


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_example_layer_shows_its_parameter(name):
    entry = PARAMETERS[name]
    spec = ConvSpec.from_dict(entry["layer"])
    assert spec.output_shape(entry["input"])
    assert name in entry["layer"] or (name in ("layout", "dtype", "device") and entry[name])
    sizes = entry["input"][1:]
    assert len(set(sizes)) == len(sizes), "equal sizes hide swapped axes"


@pytest.mark.parametrize("name", ["torch", "flax", "keras", "onnx"])
def test_a_framework_page_has_all_parts(name):
    text = (DOCS / "reference" / "frameworks" / f"{name}.md").read_text("utf-8")
    for part in ("declared", "names", "kernels", "pads", "gaps", "divergences", "messages"):
        assert f"_generated/framework-{name}-{part}.md" in text


def test_the_tables_of_a_framework_are_its_own(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import generate_docs
    import site_frameworks

    found = site_frameworks.parts(generate_docs.table)
    assert "| 2-D | `(O, I, H, W)` | `(6, 4, 3, 5)` |" in found["framework-torch-kernels"]
    assert "| 2-D | `(H, W, I, O)` | `(3, 5, 4, 6)` |" in found["framework-keras-kernels"]
    assert "`keras.layers.Conv2D(8, 3, strides=2, padding='same')`" in found["framework-keras-pads"]
    assert '| `"same"` with a stride | composed | composed |' in found["framework-torch-pads"]
    assert "feature_group_count" in found["framework-flax-names"]
    for page in (DOCS / "divergences").glob("[!i]*.md"):
        listed = [name for name, text in found.items() if name.endswith("-divergences") and page.name in text]
        assert len(listed) == 1, page


def test_every_divergence_has_its_row_and_its_text_for_the_issue_tracker(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import site_divergences

    pages = {page.stem: page.read_text("utf-8") for page in (DOCS / "divergences").glob("*.md") if page.stem != "index"}
    known = site_divergences.facts()
    assert known.keys() == pages.keys(), "add the page to docs/_data/divergences.toml"
    table = site_divergences.table()
    for name, text in pages.items():
        entry = known[name]
        assert entry["kind"] in site_divergences.KINDS
        assert ("upstream" in entry) == ("state" in entry)
        assert entry.get("upstream", "https://github.com/").startswith("https://github.com/")
        assert entry.get("state", "reported").split(",")[0] in ("reported", "confirmed", "fixed")
        assert f'<a href="{name}.html">' in table
        issue = site_divergences.issue(text)
        for part in ("Expected: ", "Versions: ", site_divergences.block(text, "python")):
            assert part in issue
        source = [text]
        site_divergences.add_issue(None, f"divergences/{name}", source)
        assert source[0].startswith(text)
        assert issue in source[0]


def test_the_transposes_of_the_cheat_sheet_give_the_other_kernel(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import generate_docs
    import numpy as np
    import site_cheat_sheet

    found = site_cheat_sheet.parts(generate_docs.table)
    lines = found["sheet-transposes"].splitlines()
    assert lines[2] == "| PyTorch |  | `(2, 3, 1, 0)` | `(2, 3, 1, 0)` | as it is | as it is | as it is |"
    assert np.zeros((6, 4, 3, 5)).transpose(2, 3, 1, 0).shape == (3, 5, 4, 6)
    assert '| k3 s2 "same" | 4 | 7 | 14 | 14 | 16 | 112 |' in found["sheet-sizes"]


DEFAULTS = tomllib.loads((DOCS / "_data" / "defaults.toml").read_text("utf-8"))


@pytest.mark.parametrize(
    "framework", [pytest.param(f, marks=getattr(pytest.mark, f)) for f in ("torch", "flax", "keras")]
)
def test_the_defaults_of_the_cheat_sheet_are_the_frameworks(framework):
    for name, entry in DEFAULTS.items():
        for where, place, argument, default in entry["checks"]:
            if where == framework:
                called = pkgutil.resolve_name(place)
                called = called.__init__ if inspect.isclass(called) else called
                found = inspect.signature(called).parameters[argument].default
                assert repr(found) == default, (name, place)


def test_every_example_layer_opens_in_the_calculator(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import site_parameters

    for entry in PARAMETERS.values():
        spec = ConvSpec.from_dict(entry["layer"])
        link = re.search(r'#(.*?)"', site_parameters.calculator(spec, entry["input"]))[1]
        query = dict(parse_qsl(unescape(link)))
        found = calculate(query["layer"], query["input"], query["layout"])
        assert found["layers"][0]["title"] == repr(spec)


def test_without_npm_or_a_network_the_site_is_built_all_the_same(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import site_calculator

    monkeypatch.setattr(site_calculator, "ARCHIVE", tmp_path / "none.tgz")
    monkeypatch.setattr(site_calculator, "wheel", lambda target: target.write_bytes(b""))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "npm" in site_calculator.main(tmp_path)
    (tmp_path / "npm").write_text("#!/bin/sh\necho no network >&2; exit 1\n")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert "no network" in site_calculator.main(tmp_path)


def test_a_changed_pyodide_is_refused(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import site_calculator

    monkeypatch.setattr(site_calculator, "ARCHIVE", tmp_path / "other.tgz")
    (tmp_path / "other.tgz").write_bytes(b"something else")
    with pytest.raises(RuntimeError, match="differs from the pinned release"):
        site_calculator.fetch()
    assert not (tmp_path / "other.tgz").exists()


def test_the_commands_page_has_every_command_and_option(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import generate_docs
    import site_commands
    from typer.main import get_command

    from convspec.cli.app import app

    text = site_commands.reference(generate_docs.table)
    sections = dict(re.findall(r"^## convspec ?(.*?)\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    found = {" ".join(words): command for words, command in site_commands.commands(get_command(app))}
    assert [*sections] == [*found]
    assert {"", "check", "report diff", "vectors run"} <= set(found)
    for words, command in found.items():
        for option in (name for parameter in command.params for name in parameter.opts if name.startswith("--")):
            assert f"`{option}`" in sections[words], (words, option)
    assert (
        "| `--timeout` | `SECONDS` | Time limit of one build and run, in seconds. Default: `120.0`. |"
        in sections["check"]
    )
    assert "convspec check --corpus timm --sample 500 --seed 1\n" in sections["check"]


CARD = re.compile(r"^:::\{grid-item-card\} ([^\n]+)\n:link: (\S+)\n:link-type: (doc|ref)\n(.*?)^:::$", re.M | re.S)


def test_the_front_page_answers_the_questions():
    text = (DOCS / "index.md").read_text("utf-8")
    part = text[text.index("## Questions") : text.index("## Wrong numbers")]
    cards = CARD.findall(part)
    assert len(cards) == 11
    words = (
        "out_channels",
        "same",
        "output_padding",
        "NHWC",
        "size",
        "weights",
        "mat1 and mat2",
        "groups",
        "Given groups=1",
        "auto_pad",
        "ONNX",
    )
    for word, (question, _, _, answer) in zip(words, cards, strict=True):
        assert word in question
        assert answer.count("\n") == 1, "the answer is one line"
        assert answer.rstrip().endswith(".")


def test_the_numbers_of_the_front_page_are_printed_by_the_scripts_of_their_pages():
    text = (DOCS / "index.md").read_text("utf-8")
    cards = CARD.findall(text[text.index("## Wrong numbers") :])
    assert len(cards) == 3
    for _, page, _, shown in cards:
        printed = re.search(r"^```text\n(.*?)^```$", (DOCS / f"{page}.md").read_text("utf-8"), re.M | re.S)[1]
        for word in ("expected", "actual"):
            numbers = re.search(rf"^{word} `\[(.+)\]`$", shown, re.M)[1]
            assert re.search(rf"^{word} +\[+{re.escape(numbers)}\]", printed, re.M), (page, word)


@pytest.mark.torch
@pytest.mark.slow
def test_every_output_of_every_layer_shown_is_the_references(tmp_path):
    """What the site's build shows, run again: in all four frameworks, exact to the last bit."""
    import site_parameters

    wanted = [request for entry in PARAMETERS.values() for request in site_parameters.requests(entry)]
    outcomes = site_parameters.run(wanted, tmp_path / "outcomes.json")
    assert len(outcomes) == 4 * len(PARAMETERS)
    for request, outcome in zip(wanted, outcomes, strict=True):
        right, total = re.search(r"; ([\d,]+) of ([\d,]+) outputs are exactly", outcome).groups()
        assert right == total != "0", (request, outcome)
