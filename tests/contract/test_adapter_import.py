"""Broken adapters of other distributions: each is skipped with the reason, and everything else works."""

import importlib.metadata
import json
import os
import sys
from pathlib import Path

import pytest
from broken_adapters import ASKED, CALLS, ENDS, GOOD, GOOD_ONES, REFUSED, WAYS, install
from typer.testing import CliRunner

import convspec
from convspec import Case, ConvSpec
from convspec.cli.app import app
from convspec.contract import adapter_import, isolation, registry
from convspec.errors import AdapterError, RequestError, printable
from tests import prepared

LAYER = '{"in_channels": 3, "out_channels": 4, "kernel_size": [3, 3]}'


@pytest.fixture(scope="class")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapter_import, "SECONDS", 8.0)
        yield patch
    registry._declared.cache_clear()


def install_alone(modules, tmp_path_factory, patch):
    """Install adapters without convspec's own, whose frameworks would take minutes."""
    patch.syspath_prepend(install(tmp_path_factory.mktemp("installed"), "others", modules))
    points = importlib.metadata.entry_points
    patch.setattr(importlib.metadata, "entry_points", lambda **of: [p for p in points(**of) if p.dist.name == "others"])
    registry._declared.cache_clear()


@pytest.fixture(scope="class")
def installed(tmp_path_factory, patch):
    """Every broken adapter and two good ones."""
    install_alone({name: text for name, (text, _) in WAYS.items()} | GOOD_ONES, tmp_path_factory, patch)


@pytest.fixture(scope="class")
def failing(tmp_path_factory, patch):
    """A good adapter, and every one whose methods fail when a command asks them."""
    modules = {f"{method}-{way}": text for (method, way), text in CALLS.items() if method in ASKED}
    install_alone(modules | {"good": GOOD}, tmp_path_factory, patch)


@pytest.fixture
def only(tmp_path, monkeypatch):
    """A function that installs further distributions, beside convspec's own adapters."""
    points = importlib.metadata.entry_points

    def only(*names):
        monkeypatch.syspath_prepend(tmp_path)
        kept = {"convspec", *names}
        chosen = [p for p in points(group=registry.GROUP) if registry._distribution(p) in kept]
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: chosen)
        registry._declared.cache_clear()

    yield only
    registry._declared.cache_clear()


@pytest.fixture
def children(monkeypatch):
    """The child processes that are started, by their modules."""
    started, start = [], isolation.ChildProcess.__init__

    def count(self, module, *arguments, **options):
        started.append(module)
        start(self, module, *arguments, **options)

    monkeypatch.setattr(isolation.ChildProcess, "__init__", count)
    return started


def command(*arguments):
    return CliRunner().invoke(app, arguments, env={"TERM": "dumb", "COLUMNS": "200"})


@pytest.mark.usefixtures("installed")
class TestEveryWayToBreak:
    @pytest.mark.parametrize("name", WAYS)
    def test_the_adapter_is_named_with_the_reason(self, name):
        sentence = registry.faults()[name]
        assert sentence.startswith(f"adapter {name!r} cannot be imported: ")
        assert WAYS[name][1] in sentence
        assert printable(sentence, None) == sentence
        with pytest.raises(AdapterError) as caught:
            registry.adapter(name)
        assert str(caught.value) == sentence

    def test_the_others_work_and_nothing_has_changed_in_this_process(self):
        folder = Path.cwd()
        assert list(registry.importable()) == sorted(GOOD_ONES)
        assert set(registry.adapters()) == {*WAYS, *GOOD_ONES}
        assert registry.expanded(["all"]) == ("good", "good:other", "prints", "prints:other")
        assert Path.cwd() == folder
        os.fstat(0)

    def test_they_are_tried_once(self, children):
        registry.faults()
        children.clear()
        registry.faults()
        assert registry.owner(int) is None
        assert registry.adapter("good").name == "good"
        assert children == []

    def test_the_command_adapters_lists_all_and_says_which_are_broken(self):
        done = command("adapters")
        assert done.exit_code == 0
        rows = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
        assert "fakeframe 2.5.0" in rows["good"]
        for name, (_, words) in WAYS.items():
            assert "cannot be imported" in rows[name]
            assert words in done.stdout

    def test_its_json_too_whatever_a_module_prints(self):
        entries = {entry["name"]: entry for entry in json.loads(command("adapters", "--json", "-").stdout)["adapters"]}
        assert set(entries) == {*WAYS, *GOOD_ONES}
        assert (entries["prints"]["present"], entries["prints"]["fault"]) == (True, None)
        for name, (_, words) in WAYS.items():
            assert not entries[name]["present"]
            assert words in entries[name]["fault"]

    def test_show_knows_the_others(self):
        done = command("show", LAYER, "--json", "-")
        assert done.exit_code == 0
        assert json.loads(done.stdout)["support"] == {"good": "native", "prints": "native"}

    @pytest.mark.parametrize("arguments", [
        ["show", LAYER, "--adapters", "segfaults"],
        ["source", LAYER, "--to", "segfaults"],
        ["check", "--adapters", "good,segfaults"], ["adapters", "--validate", "segfaults"],
        ["fuzz", "--cases", "1", "--adapters", "segfaults"],
    ])  # fmt: skip
    def test_by_name_it_is_a_wrong_request(self, arguments, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        done = command(*arguments)
        assert done.exit_code == 2
        said = [
            line for line in done.stderr.splitlines() if not line.startswith("noise ")
        ]  # an import's, the first time
        assert said == ["convspec: adapter 'segfaults' cannot be imported: the process ended with SIGSEGV"]

    def test_check_without_names_reports_them_as_skipped(self, tmp_path):
        corpus, journal = tmp_path / "one.jsonl", tmp_path / "run.jsonl"
        corpus.write_text(Case(ConvSpec(3, 4, (3, 5)), (1, 3, 5, 9)).to_json())
        done = command("check", "--corpus", str(corpus), "--layouts", "NCHW", "--journal", str(journal))
        assert done.exit_code == 0, done.output
        assert "4 agree, 0 unexpected" in done.stdout
        skipped = [line for line in done.stdout.splitlines() if line.startswith("skipped: ")]
        assert skipped == [f"skipped: {sentence}" for sentence in registry.faults().values()]
        assert [line for line in command("report", str(journal)).stdout.splitlines() if "skipped" in line] == skipped

    def test_a_model_finds_its_adapter_among_the_others(self):
        with pytest.raises(RequestError, match=r"builtins.object is no layer or model .* knows: good, prints"):
            convspec.compare(object(), object(), [])


@pytest.mark.usefixtures("failing")
class TestEveryMethodThatFails:
    def test_one_that_ends_the_process_is_found_out_in_a_child(self):
        assert set(registry.faults()) == {f"{method}-{way}" for method in ASKED for way in ENDS}
        assert registry.faults()["support-os-exits"] == (
            "adapter 'support-os-exits' cannot be used: its support() fails: the process ended with exit status 0"
        )
        assert "its gaps() raises SystemExit: 0 (" in registry.faults()["gaps-exits"]

    def test_check_without_names_skips_them_with_the_reason(self, tmp_path):
        corpus, file = tmp_path / "one.jsonl", tmp_path / "report.json"
        corpus.write_text(Case(ConvSpec(3, 4, (3, 5)), (1, 3, 5, 9)).to_json())
        words = ("check", "--corpus", str(corpus), "--layouts", "NCHW", "--data", "exact", "--json", str(file))
        done = command(*words)
        assert done.exit_code == 0, done.output
        absent = json.loads(file.read_text())["environment"]["absent"]
        assert set(absent) == {f"{method}-{way}" for method, way in REFUSED}
        assert all(reason.startswith(f"adapter '{name}' cannot be used: ") for name, reason in absent.items())
        assert r"known gaps of adapter 'gaps-raises' cannot be read: RuntimeError: no \x1b" in absent["gaps-raises"]
        assert "its support() must return a Support, got None" in absent["support-returns-none"]
        assert "its versions() must return a dict, got" in absent["versions-returns-text"]

    def test_a_model_is_nobodys_and_the_reasons_are_said(self):
        with pytest.raises(RequestError) as caught:
            convspec.compare(object(), object(), [])
        assert "adapter 'owns-raises' cannot be used: its owns() raises RuntimeError" in str(caught.value)
        assert "adapter 'owns-os-exits' cannot be used: its owns() fails" in str(caught.value)

    @pytest.mark.parametrize("arguments", [["show", LAYER, "--json", "-"], ["adapters", "--json", "-"]])
    def test_other_commands_go_on(self, arguments):
        done = command(*arguments)
        assert done.exit_code == 0, done.output
        assert "good" in done.stdout

    @pytest.mark.parametrize("way", ["raises", "returns-none", "returns-text"])
    @pytest.mark.parametrize("method", ["support", "source"])
    def test_by_name_it_is_a_message(self, method, way):
        done = command("source", LAYER, "--to", f"{method}-{way}")
        if (method, way) == ("source", "returns-text"):
            assert done.exit_code == 0
        else:
            assert done.exit_code == 2
            assert done.stderr.startswith(f"convspec: adapter '{method}-{way}' cannot be used: its {method}() ")

    @pytest.mark.parametrize("method", ["versions", "gaps"])
    def test_a_run_that_names_it_is_refused(self, method):
        done = command("check", "--adapters", f"{method}-raises")
        assert done.exit_code == 2
        assert "RuntimeError: no " in done.stderr


def test_a_name_that_two_distributions_declare_is_nobodys(tmp_path, only):
    install(tmp_path, "one", {"mine": GOOD}, ["torch = convspec_fakes:GOOD"])
    install(tmp_path, "other", {"yours": GOOD}, ["mine = convspec_fakes:GOOD", "a\x1b[31m = convspec_fakes:GOOD"])
    only("one", "other")
    assert registry.faults() == {
        r"a\x1b[31m": r"adapter 'a\x1b[31m' cannot be imported: its name must be letters, digits, '.', '_' or '-'",
        "mine": "adapter 'mine' cannot be imported: several distributions declare it: one, other",
        "torch (one)": "adapter 'torch (one)' cannot be imported: convspec has an adapter 'torch' itself",
    }
    assert registry.adapter("torch").requires == ("torch",)
    assert registry.adapter("yours").name == "good"
    assert "mine" not in registry.importable()


def test_a_distribution_without_metadata_is_one_like_others(tmp_path, only):
    install(tmp_path, "nameless", {"mine": GOOD}, metadata=False)
    only("a distribution without a name", "nameless")
    assert "mine" in registry.importable()


def test_a_good_one_costs_one_process_and_nothing_where_convspecs_own_are_enough(tmp_path, only, children):
    install(tmp_path, "one", {"fine": GOOD, "fine-too": GOOD})
    only("one")
    assert registry.graph_adapter("model.onnx").name == "onnx"
    assert registry.vectors_adapter().name == "onnx"
    assert registry.adapter("torch").name == "torch"
    assert children == []
    assert {"fine", "fine-too", "torch"} <= set(registry.importable())
    assert registry.adapter("fine").name == "good"
    assert children == ["convspec.contract.adapter_import"]


def test_an_adapter_by_import_path_is_tried_as_well(tmp_path, monkeypatch):
    (tmp_path / "bad_by_path.py").write_text("import os\nos._exit(5)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AdapterError, match=r"'bad_by_path:ADAPTER' cannot be imported: .* exit status 5"):
        registry.adapter("bad_by_path:ADAPTER")


@pytest.mark.parametrize("devices", ["'cpu'", "'gpu'", "None", "('cpu', 0)"])
def test_devices_that_are_no_names_are_an_error_of_its_cases_and_no_skip(devices, tmp_path, only):
    body = f"class Bad(Fake):\n    def devices(self):\n        return {devices}\nADAPTER = Bad('bad')"
    install(tmp_path, "one", {"places": f"from convspec_fakes import Fake\n{body}"})
    only("one")
    report = convspec.check([Case(ConvSpec(3, 4, (3, 5)), (1, 3, 5, 9))], ["places"], ["NCHW"], data=["exact"], jobs=1)
    (result,) = report.results
    assert (result.verdict, result.unexpected) == ("error", True)
    assert f"devices() must return a tuple of strings, got {devices}" in result.reason


@pytest.mark.parametrize(
    ("ending", "words"), [("os._exit(3)", "exit status 3"), ("raise OSError('no licence')", "no licence")]
)
def test_one_that_fails_only_in_a_worker_is_an_error_of_its_cases(tmp_path, only, ending, words):
    text = f"import os, sys\nif any('execution.worker' in word for word in sys.argv):\n    {ending}\n{GOOD}"
    name = "late-" + words.replace(" ", "-")
    install(tmp_path, "one", {name: text})
    only("one")
    report = convspec.check([Case(ConvSpec(3, 4, (3, 5)), (1, 3, 5, 9))], [name], ["NCHW"], data=["exact"], jobs=1)
    (result,) = report.results
    assert result.verdict == "error"
    assert result.reason.startswith("the worker did not start: ")
    assert words in result.reason


def test_a_command_of_its_own_survives_them(tmp_path):
    install(tmp_path, "others", {"os-exits": WAYS["os-exits"][0], "prints": GOOD_ONES["prints"]})
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = prepared.run("-m", "convspec", "adapters", "--json", "-", env={**os.environ, "PYTHONPATH": path})
    faults = {entry["name"]: entry["fault"] for entry in json.loads(done.stdout)["adapters"]}
    assert done.returncode == 0
    assert faults["os-exits"] == "adapter 'os-exits' cannot be imported: the process ended with exit status 0"
    assert faults["prints"] is None
    assert faults["torch"] is None
