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

The networks are random, made of the blocks that people use.

## Read from text

Each network is written as text, read by `Network.parse`, and run by the framework. It is right if path, output shape
and number of parameters of every layer are those of the framework
(`CONVSPEC_NETWORKS=1000 pytest tests/adapters/torch/test_network.py`; other frameworks have tests of the same name).

"""
TRANSLATED = """
## Translated

`convspec source` writes the code of a live network for another framework. The code is run with the same weights, and
both results are compared (`python -m tests.pairs.translate SOURCE TARGET COUNT`). A program without convspec compares
the results too; the limit is 2e-5 of the largest result.

If a network showed a bug of convspec that was then fixed, the result after the fix is counted. Some runs were on
earlier commits of the same day.

* **proved**: every step of both is within its own rounding bound; **measured**: the results agree, but some steps are
  not judged.
* **missing**: a step has no counterpart, and the code and the exit status say so. **skipped**: the source's framework
  cannot express the network.
* **differs** and **raises**: the code is wrong, and convspec reports it; **false proof**: the code is wrong, and
  convspec does not report it; **false alarm**: the code is right, but convspec reports a mistake.

"""
BROKEN = """
## Broken

Each network has one of 15 kinds of mistake (`python -m tests.networks.broken COUNT`). The answer is right if
`convspec show` names the layer that fails, and the text runs after the proposed change.

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
