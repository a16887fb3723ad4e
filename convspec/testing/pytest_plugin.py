"""A pytest plug-in, asked for by name: the conformance suite as tests, and fixtures for an adapter's own.

::

    pytest -p convspec.testing.pytest_plugin --pyargs convspec.conformance --convspec-adapter torch --convspec-corpus
    features

Every layer in every layout is one test. The suite starts its own worker processes, so a framework that aborts costs one
test. A declared gap is an expected failure; what an adapter says that it does not support is skipped, with its reason.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from convspec import corpora
from convspec.conformance import check
from convspec.contract import registry
from convspec.errors import ConvspecError
from convspec.spec import LAYOUTS

if TYPE_CHECKING:
    from convspec.conformance import Report, Result, Tally
    from convspec.corpora import Case

_REPORT: pytest.StashKey[Findings] = pytest.StashKey()


@dataclass(frozen=True, slots=True)
class Layer:
    """What one test is about: a case, the adapter that it was asked of, and the layout."""

    case: Case
    adapter: str
    layout: str

    def __str__(self) -> str:
        name = (self.case.name or self.case.id).replace(" ", "-")
        return f"{self.adapter}-{self.layout}-{name}"


@dataclass(frozen=True, slots=True)
class Findings:
    """A run's results by layer."""

    report: Report
    by_layer: dict[tuple[str, str, str], list[Result]]

    def of(self, layer: Layer) -> list[Result]:
        return self.by_layer[layer.adapter, layer.layout, layer.case.id]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one layer."""

    layer: Layer
    findings: Findings

    def expect(self) -> None:
        """Fail on anything unexpected, with the evidence and a line that repeats it.

        A declared gap is an expected failure; a layer that is unsupported throughout is skipped.
        """
        results = self.findings.of(self.layer)
        unexpected = [result for result in results if result.unexpected]
        if unexpected:
            pytest.fail("\n".join([*map(str, unexpected), "", _again(self.layer)]), pytrace=False)
        gaps = sorted({result.gap for result in results if result.gap})
        if gaps:
            reasons = {tally.gap.id: tally.gap.reason for tally in self.findings.report.gaps}
            pytest.xfail("; ".join(f"gap {gap}: {reasons[gap]}" for gap in gaps))
        if all(result.verdict == "unsupported" for result in results):
            pytest.skip(results[0].support_reason)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("convspec", "convspec: conformance of convolution layers")
    group.addoption(
        "--convspec-adapter", metavar="A,B", help="Adapters to test; `name:variant`, `package.module:OBJECT`."
    )
    group.addoption("--convspec-device", metavar="D", default="cpu", help="Device to test on (default: cpu).")
    group.addoption("--convspec-corpus", metavar="NAME|FILE", default="tutorial", help="Cases (default: tutorial).")
    group.addoption("--convspec-layouts", metavar="L,L", default=",".join(LAYOUTS), help="Default: both.")
    group.addoption("--convspec-dtypes", metavar="D,…", help="Default: each case's own.")
    group.addoption("--convspec-jobs", metavar="N", type=int, help="Busy workers (default: cores).")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    names = _names(metafunc.config, "adapter")
    if "convspec_layer" in metafunc.fixturenames:
        layers = _layers(metafunc.config, names)
        metafunc.parametrize("convspec_layer", layers, ids=_ids(layers), scope="session")
    elif "convspec_adapter" in metafunc.fixturenames:
        metafunc.parametrize("convspec_adapter", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def convspec_adapter(request: pytest.FixtureRequest) -> object:
    """Each adapter of ``--convspec-adapter``, one after the other."""
    return registry.adapter(request.param)


@pytest.fixture(scope="session")
def convspec_device(pytestconfig: pytest.Config) -> str:
    """The device of ``--convspec-device``."""
    return str(pytestconfig.getoption("--convspec-device"))


@pytest.fixture(scope="session")
def convspec_findings(request: pytest.FixtureRequest) -> Findings:
    """The results of all layers that were not deselected, from one run."""
    config = request.config
    if _REPORT not in config.stash:
        found = (getattr(item, "callspec", _NONE).params.get("convspec_layer") for item in request.session.items)
        chosen = [layer for layer in found if isinstance(layer, Layer)]
        config.stash[_REPORT] = _run(config, chosen)
    return config.stash[_REPORT]


@pytest.fixture
def convspec_outcome(convspec_layer: Layer, convspec_findings: Findings) -> Outcome:
    """The results of one layer, to be judged by :meth:`Outcome.expect`."""
    return Outcome(convspec_layer, convspec_findings)


@pytest.fixture
def convspec_gaps(convspec_adapter: object, convspec_findings: Findings) -> list[Tally]:
    """The adapter's declared gaps that the run found too wide, or closed."""
    name = getattr(convspec_adapter, "name")  # noqa: B009 – of the Protocol
    return [tally for tally in convspec_findings.report.gaps if tally.unexpected and tally.adapter == name]


class _NONE:
    """A test without parameters."""

    params: dict[str, object] = {}  # noqa: RUF012


def _names(config: pytest.Config, option: str) -> list[str]:
    text = config.getoption(f"--convspec-{option}")
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    if option == "adapter" and not names:
        known = ", ".join(registry.adapters())
        raise pytest.UsageError(f"--convspec-adapter must name what is tested; there are {known}")
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
    """A name for each; that of a case that is there twice ends in its id."""
    names = [str(layer) for layer in layers]
    times = Counter(names)
    return [name if times[name] == 1 else f"{name}-{layer.case.id}" for name, layer in zip(names, layers, strict=True)]


def _run(config: pytest.Config, layers: list[Layer]) -> Findings:
    cases = list(dict.fromkeys(layer.case for layer in layers))
    try:
        report = check(
            cases,
            list(dict.fromkeys(layer.adapter for layer in layers)),
            list(dict.fromkeys(layer.layout for layer in layers)),
            _names(config, "dtypes") or None,
            [config.getoption("--convspec-device")],
            jobs=config.getoption("--convspec-jobs"),
        )
    except ConvspecError as error:
        raise pytest.UsageError(str(error)) from None
    found = defaultdict(list)
    for result in report.results:
        found[result.request, result.case.layout, result.case.id].append(result)
    return Findings(report, dict(found))


def _again(layer: Layer) -> str:
    command = f"convspec check --corpus - --adapters {layer.adapter} --layouts {layer.layout}"
    return f"again: echo '{layer.case.to_json()}' | {command}"
