"""Run the conformance suite as pytest tests, and provide fixtures for an adapter's own tests; loaded by name.

::

    pytest -p convspec.testing.pytest_plugin --pyargs convspec.conformance --convspec-adapter torch --convspec-corpus
    features

Every layer in every layout is one test. The suite starts its own worker processes, so a framework that aborts costs one
test. A declared gap is an expected failure; a layer that the adapter does not support is skipped, with the reason.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import pytest

from convspec import corpora
from convspec.conformance import Report, Result, Tally, check
from convspec.contract import registry
from convspec.corpora import Case
from convspec.errors import ConvspecError, printable
from convspec.spec import LAYOUTS

_REPORT: pytest.StashKey[RunResults] = pytest.StashKey()


@dataclass(frozen=True, slots=True)
class Layer:
    """The subject of one test: a case, an adapter and a layout."""

    case: Case
    adapter: str
    layout: str

    def __str__(self) -> str:
        name = (self.case.name or self.case.id).replace(" ", "-")
        return f"{self.adapter}-{self.layout}-{name}"


@dataclass(frozen=True, slots=True)
class RunResults:
    """A run's results by layer."""

    report: Report
    by_layer: dict[tuple[str, str, str], list[Result]]

    def of(self, layer: Layer) -> list[Result]:
        return self.by_layer[layer.adapter, layer.layout, layer.case.id]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results of one layer."""

    layer: Layer
    findings: RunResults

    def expect(self) -> None:
        """Fail on anything unexpected, with the evidence and a command that reproduces it.

        A declared gap is an expected failure; a layer that is unsupported throughout is skipped.
        """
        results = self.findings.of(self.layer)
        unexpected = [result for result in results if result.unexpected]
        if unexpected:
            pytest.fail("\n".join([*map(str, unexpected), "", _reproduce(self.layer)]), pytrace=False)
        gaps = sorted({result.gap for result in results if result.gap})
        if gaps:
            reasons = {tally.gap.id: tally.gap.reason for tally in self.findings.report.gaps}
            pytest.xfail(printable("; ".join(f"gap {gap}: {reasons[gap]}" for gap in gaps), None))
        if all(result.verdict == "unsupported" for result in results):
            pytest.skip(printable(results[0].support_reason, None))


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("convspec", "convspec: conformance of convolution layers")
    for name, metavar, default, text in (
        ("adapter", "A,B", None, "Adapters to test, e.g. torch, `name:variant` or `package.module:OBJECT`."),
        ("device", "D", "cpu", "Device to test on (default: cpu)."),
        ("corpus", "NAME|FILE", "tutorial", "Corpus of cases (default: tutorial)."),
        ("layouts", "L,L", ",".join(LAYOUTS), "Layouts to test (default: both)."),
        ("dtypes", "D,…", None, "Dtypes to test (default: each case's own)."),
    ):
        group.addoption(f"--convspec-{name}", metavar=metavar, default=default, help=text)
    group.addoption("--convspec-jobs", metavar="N", type=int, help="Number of worker processes (default: cores).")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    names = _names(metafunc.config, "adapter")
    if "convspec_layer" in metafunc.fixturenames:
        layers = _layers(metafunc.config, names)
        metafunc.parametrize("convspec_layer", layers, ids=_ids(layers), scope="session")
    elif "convspec_adapter" in metafunc.fixturenames:
        metafunc.parametrize("convspec_adapter", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def convspec_adapter(request: pytest.FixtureRequest) -> object:
    """Return each adapter of ``--convspec-adapter`` in turn."""
    return registry.adapter(request.param)


@pytest.fixture(scope="session")
def convspec_device(pytestconfig: pytest.Config) -> str:
    """Return the device of ``--convspec-device``."""
    return str(pytestconfig.getoption("--convspec-device"))


@pytest.fixture(scope="session")
def convspec_findings(request: pytest.FixtureRequest) -> RunResults:
    """Return the results of all selected layers, from one run."""
    config = request.config
    if _REPORT not in config.stash:
        specs = (getattr(item, "callspec", None) for item in request.session.items)
        layers = [spec.params.get("convspec_layer") for spec in specs if spec is not None]
        config.stash[_REPORT] = _run(config, [layer for layer in layers if isinstance(layer, Layer)])
    return config.stash[_REPORT]


@pytest.fixture
def convspec_outcome(convspec_layer: Layer, convspec_findings: RunResults) -> Outcome:
    """Return the results of one layer, which :meth:`Outcome.expect` judges."""
    return Outcome(convspec_layer, convspec_findings)


@pytest.fixture
def convspec_gaps(convspec_adapter: object, convspec_findings: RunResults) -> list[Tally]:
    """Return the adapter's declared gaps that the run proved too wide, or closed."""
    name = getattr(convspec_adapter, "name")  # noqa: B009 – of the Protocol
    return [tally for tally in convspec_findings.report.gaps if tally.unexpected and tally.adapter == name]


def _names(config: pytest.Config, option: str) -> list[str]:
    text = config.getoption(f"--convspec-{option}")
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    if option == "adapter" and not names:
        known = ", ".join(registry.adapters())
        raise pytest.UsageError(f"--convspec-adapter must name the adapters to test; the known ones are {known}")
    return names


def _layers(config: pytest.Config, adapters: list[str]) -> list[Layer]:
    try:
        cases = corpora.load(config.getoption("--convspec-corpus"))
        return [
            Layer(case, name, layout)
            for name in registry.expanded(adapters)
            for case in cases
            for layout in _names(config, "layouts")
        ]
    except ConvspecError as error:
        raise pytest.UsageError(str(error)) from None


def _ids(layers: list[Layer]) -> list[str]:
    """Return a name for each; the name of a case that occurs twice ends in its id."""
    names = [str(layer) for layer in layers]
    times = Counter(names)
    return [name if times[name] == 1 else f"{name}-{layer.case.id}" for name, layer in zip(names, layers, strict=True)]


def _run(config: pytest.Config, layers: list[Layer]) -> RunResults:
    try:
        report = check(
            list(dict.fromkeys(layer.case for layer in layers)),
            list(dict.fromkeys(layer.adapter for layer in layers)),
            list(dict.fromkeys(layer.layout for layer in layers)),
            _names(config, "dtypes") or None, [config.getoption("--convspec-device")],
            jobs=config.getoption("--convspec-jobs"),
        )  # fmt: skip
    except ConvspecError as error:
        raise pytest.UsageError(str(error)) from None
    by_layer = defaultdict(list)
    for result in report.results:
        by_layer[result.request, result.case.layout, result.case.id].append(result)
    return RunResults(report, dict(by_layer))


def _reproduce(layer: Layer) -> str:
    command = f"convspec check --corpus - --adapters {layer.adapter} --layouts {layer.layout}"
    return f"reproduce: echo '{layer.case.to_json()}' | {command}"
