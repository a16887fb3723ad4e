"""Networks as text: their parameters, cost and shapes are those that were published."""

import sys
from pathlib import Path

import pytest

from convspec import Network

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import site_networks  # noqa: E402 – it lies beside the other scripts of the site

PUBLISHED = site_networks.published()


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_totals_are_the_published_ones(name):
    entry, found = PUBLISHED[name], site_networks.facts(name)
    assert "error" not in found
    assert not [row for row in found["rows"] if row["problem"]]
    if "parameters" in entry:
        assert found["totals"]["parameters"] == entry["parameters"]
    if "gmacs" in entry:
        assert found["totals"]["macs"] / 1e9 == pytest.approx(entry["gmacs"], abs=0.0051)
    if "output" in entry:
        assert found["outputs"] == [entry["output"]]


def test_wavenet_reads_as_far_back_as_published():
    rows = Network.parse(site_networks.text_of("wavenet")).shapes((1, 256, 8000))
    dilated = [step for row in rows for step in row.steps if row.path.endswith("filter")]
    assert 1 + sum(step.effective_kernel[0] - 1 for step in dilated) == 3 * 1023 + 1


def test_every_network_has_a_page():
    pages = {page.stem for page in (ROOT / "docs" / "reference" / "networks").glob("*.md")}
    assert pages == {*PUBLISHED, "index"}
