"""What README and docs show is what happens: every Python block runs, and a text block after it is its output.

The blocks of a page share their names. Those after ``<!-- needs the frameworks -->`` run, with all before them, in a
process of their own, under the marker ``torch`` – all four frameworks have to be there.
"""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *(page for depth in ("*", "*/*", "*/*/*") for page in sorted(ROOT.glob(f"docs/{depth}.md"))),
]
PAGES = [p for p in PAGES if p.parent.name not in ("divergences", "decisions", "_generated")]
NEEDS = "<!-- needs the frameworks -->\n"
BLOCK = re.compile(
    rf"^(?P<needs>{NEEDS})?```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<shown>.*?)^```\n)?", re.M | re.S
)


def blocks(page):
    """(code, output shown or None, whether frameworks are needed, line) of every Python block."""
    text = page.read_text("utf-8")
    found = [
        (m["code"], m["shown"], bool(m["needs"]), text[: m.start("code")].count("\n")) for m in BLOCK.finditer(text)
    ]
    assert len(found) == len(re.findall(r"^[ \t]*`{3,}[ \t]*\{?python", text, re.M)), (
        "a Python block that this test cannot see"
    )
    return found


def run(codes, namespace):
    """The output of each piece of code, run one after the other."""
    for code, name in codes:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, name, "exec"), namespace)
        yield out.getvalue()


def compare(page, found, outputs):
    for (_, shown, _, line), output in zip(found, outputs, strict=True):
        if shown is not None:
            assert output.rstrip() == shown.rstrip(), f"{page.relative_to(ROOT)}:{line}"


def named(page, found):
    return [(code, f"{page.name}:{line}") for code, _, _, line in found]


def ids(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [p for p in PAGES if not all(b[2] for b in blocks(p))], ids=ids)
def test_blocks_that_need_no_framework(page):
    found = [block for block in blocks(page) if not block[2]]
    compare(page, found, list(run(named(page, found), {"__name__": "page"})))


WITH_FRAMEWORKS = [page for page in PAGES if any(needs for _, _, needs, _ in blocks(page))]


@pytest.fixture(scope="module")
def ran():
    """By page, what its blocks printed, or what went wrong: one process for all, as frameworks take long to start."""
    done = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps({ids(page): named(page, blocks(page)) for page in WITH_FRAMEWORKS}),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_FRAMEWORKS, ids=ids)
def test_blocks_that_need_the_frameworks(page, ran):
    outputs = ran[ids(page)]
    assert isinstance(outputs, list), outputs
    compare(page, blocks(page), outputs)


CONSOLE = re.compile(
    rf"^(?P<needs>{NEEDS})?```console\n\$ (?P<command>[^\n]*\bconvspec [^\n]*)\n(?P<shown>.*?)^```\n", re.M | re.S
)


ELSEWHERE = re.compile(r"<!-- the commands of this page are run by (\S+) -->")


def commands():
    for page in PAGES:
        text = page.read_text("utf-8")
        if named_test := ELSEWHERE.search(text):
            assert page.name in (ROOT / named_test[1]).read_text("utf-8")
            continue
        for m in CONSOLE.finditer(text):
            marks = [pytest.mark.torch, pytest.mark.slow] if m["needs"] else []
            yield pytest.param(m["command"], m["shown"], marks=marks, id=f"{page.name}: {m['command'][:40]}")


@pytest.mark.parametrize(("command", "shown"), [*commands()])
def test_commands_print_what_is_shown(command, shown):
    """Up to the width of columns, and to seconds; after a line of ``…`` anything may follow."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f"{command} 2>&1"], capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )

    def plain(text):
        return re.sub(r"\d+\.\d s?", "# ", re.sub(r"\s+", " ", text + " ")).strip()

    wanted = plain(shown)
    assert plain(done.stdout).startswith(wanted[:-1]) if wanted.endswith("…") else plain(done.stdout) == wanted


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\((?!\w+:)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def test_no_python_block_is_left_out():
    """Of all pages of the project; the divergences are run by their own test, which looks at every one of them."""
    run = {*PAGES, *ROOT.glob("docs/divergences/*.md")}
    everything = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("adapters/**/*.md")]
    built = ROOT / "docs" / "_build", ROOT / "docs" / "_generated"
    pages = [page for page in everything if not any(folder in page.parents for folder in built)]
    with_python = [page for page in pages if re.search(r"^\s*[`~]{3,}.*py", page.read_text("utf-8"), re.M)]
    assert len(with_python) > 50
    assert not [ids(page) for page in with_python if page not in run]


def test_the_readme_shows_the_job_first():
    first_screen = (ROOT / "README.md").read_text("utf-8")[:2500]
    assert {"describe", "build", "check"} <= set(re.findall(r"# \d\. (\w+)", first_screen))
    assert len(blocks(ROOT / "README.md")) >= 2


def test_a_wrong_output_is_noticed():
    """The twin of the tests above."""
    block = ("print(1 + 1)\n", "3\n", False, 7)
    with pytest.raises(AssertionError, match=r"README\.md:7"):
        compare(ROOT / "README.md", [block], list(run([("print(1 + 1)", "x")], {})))


def attempted(codes):
    """What the blocks of a page print, or the trace of what went wrong."""
    try:
        return list(run(codes, {"__name__": "page"}))
    except Exception:  # noqa: BLE001 – whatever a page raises is shown
        return traceback.format_exc()


def test_a_block_that_fails_is_noticed():
    assert "ZeroDivisionError" in attempted([("1 / 0", "x")])


if __name__ == "__main__":
    print(json.dumps({page: attempted(codes) for page, codes in json.load(sys.stdin).items()}))
