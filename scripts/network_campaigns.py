"""Write the report on random networks: read, translated, and broken, from the outcomes of the campaigns.

    python -m tests.pairs.translate torch keras 100 0 docs/_data/network_campaigns.jsonl
    python scripts/network_campaigns.py

A campaign that is read or broken is a line that a person adds: ``{"campaign": "read", "framework": …, "form": …,
"networks": …, "right": …}``, ``{"campaign": "broken", "networks": …, "right": …}``, with a ``note`` where needed.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DATA = ROOT / "docs/_data/network_campaigns.jsonl"
PAGE = ROOT / "docs/reports/networks.md"
VERDICTS = ("proved", "measured", "missing", "skipped", "differs", "false proof", "false alarm", "raises")
NAMES = {"torch": "PyTorch", "keras": "Keras", "nnx": "Flax nnx", "linen": "Flax linen", "equinox": "Equinox",
         "onnx": "ONNX"}  # fmt: skip
HEAD = """\
# Random networks: read, translated and broken

Networks of the blocks that people write are drawn at random.

## Read from text

Each network is written as text, read by `Network.parse`, and run by the framework. Right: path, output shape and number
of parameters of every layer are the framework's (`CONVSPEC_NETWORKS=1000 pytest tests/adapters/torch/test_network.py`,
likewise for the others).

"""
TRANSLATED = """
## Translated

`convspec source` writes a live network in another framework's code; that code is run, gets the weights, and both
results are compared (`python -m tests.pairs.translate SOURCE TARGET COUNT`). A judge without convspec compares the
results too, to 2e-5 of the largest.

A network that showed a fault which was mended is counted as after the mend. Some runs were on earlier
commits of the same day.

* **proved**: every step of both is within its own rounding bound; **measured**: the results agree, some
  steps are not judged.
* **missing**: a step has no counterpart, which the code and the status say. **skipped**: the source's framework cannot
  express the network.
* **differs** and **raises**: wrong, and said; **false proof**: wrong, and not said; **false alarm**: right, and not
  said.

"""
BROKEN = """
## Broken

Each network has one of 15 kinds of mistake (`python -m tests.networks.broken COUNT`). Right: the layer that fails is
named, and the text with the change that `convspec show` proposes runs.

"""


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a table in Markdown."""
    lines = [list(head), ["---"] * len(list(head)), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def page(entries: list[dict[str, Any]]) -> str:
    """Return the report on these outcomes."""
    kinds: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in entries:
        kinds[entry["campaign"]].append(entry)
    pairs: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for entry in kinds["translate"]:
        pairs[entry["source"], entry["target"]] += Counter(entry["counts"])
    read = [(NAMES[e["framework"]], e["form"], f"{e['networks']:,}", f"{e['right']:,}", e.get("note", ""))
            for e in kinds["read"]]  # fmt: skip
    sums = [(NAMES[a], NAMES[b], sum(found.values()), *(found[v] for v in VERDICTS)) for (a, b), found in pairs.items()]
    broken = [(f"{e['networks']:,}", f"{e['right']:,}", e.get("note", "")) for e in kinds["broken"]]
    return (
        HEAD + table(("framework", "form", "networks", "right", "note"), read)
        + TRANSLATED + table(("from", "to", "networks", *VERDICTS), sums)
        + BROKEN + table(("networks", "right", "note"), broken)
    )  # fmt: skip


def main() -> None:
    """Write the page."""
    lines = DATA.read_text("utf-8").splitlines()
    PAGE.write_text(page([json.loads(line) for line in lines]), encoding="utf-8")


if __name__ == "__main__":
    main()
