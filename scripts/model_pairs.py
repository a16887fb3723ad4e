# ruff: noqa: T201 – a script for people
"""Port and compare random pairs of models, right ones and ones with a planted mistake.

    python scripts/model_pairs.py --pairs 2000 --targets keras,nnx --journal pairs.jsonl
    python scripts/model_pairs.py --journal pairs.jsonl --page docs/reports/model-pairs.md

The networks are drawn by ``tests/pairs/draw.py`` and written in PyTorch and in the target's framework; the mistakes are
those of ``tests/pairs/plant.py``. The truth is what both models compute. Every pair is a line of the journal; a second
run resumes it.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import importlib.metadata
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.pairs import judge, plant, targets  # noqa: E402 – of the repository, which is no package

PACKAGES = ("torch", "keras", "tensorflow", "jax", "flax", "equinox", "numpy")
Records = list[dict[str, Any]]
_SHOWN = 40

HEAD = """# Random pairs of models: what do compare and port_weights say?

The networks are random, and are written in PyTorch and in a target framework. Their blocks are those that people use:
plain, depthwise and grouped convolutions, residual blocks, branches with other dilations, squeeze-and-excitation, U-Net
skips, ConvNeXt blocks with a layer scale, shared heads, several results, generators from a latent vector, four norms,
PReLU.

* A **right** pair starts with other weights in the target; `port_weights` must move them, and `compare` must agree.
* A **planted** pair has one mistake; `compare` must differ, at the right layer, and name the mistake first.

Which answer is right is decided by the models' own results on three inputs: right pairs differ by at most 2e-5 of the
largest result, planted pairs by at least 1e-4. Other pairs are not judged (skipped). *Place right* and *named first*
are shares of all planted pairs. A pair that showed a fault which was mended is counted as after the mend;
some pairs were judged on earlier commits.

```
{command}
```

{versions}. {seconds:.1f} seconds of processor time per pair.

"""


def run(names: list[str], pairs: int, journal: Path) -> None:
    """Judge the pairs that the journal does not have."""
    done = {(r["target"], r["kind"], r["seed"]) for r in read(journal)}
    kinds = list(plant.MISTAKES)
    wanted = [(name, kind, seed) for seed in range(pairs) for name in names
              for kind in ("right", kinds[seed % len(kinds)])]  # fmt: skip
    with journal.open("a", encoding="utf-8") as file:
        for name, kind, seed in wanted:
            if (name, kind, seed) in done:
                continue
            writer = targets.writer(name)
            record = (judge.judge_right(seed, name, writer) if kind == "right"
                      else judge.judge_planted(seed, kind, name, writer))  # fmt: skip
            print(json.dumps(dataclasses.asdict(record)), file=file, flush=True)
            if record.fault:
                print(f"{name} {kind} {seed}: {record.fault}: {record.said[:200]}", flush=True)


def read(journal: Path) -> Records:
    """Return the records of a journal; a half-written last line is dropped."""
    if not journal.exists():
        return []
    lines = journal.read_text("utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def page(records: Records, command: str) -> str:
    """Return the report in Markdown."""
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in PACKAGES)
    seconds = sum(r["seconds"] for r in records) / max(len(records), 1)
    parts = [HEAD.format(command=command, versions=versions, seconds=seconds)]
    right = [r for r in records if r["kind"] == "right"]
    planted = [r for r in records if r["kind"] != "right"]
    parts += ["## Right pairs\n", *_table(("target",), right, _right_columns)]
    parts += ["## Planted mistakes\n", *_table(("target",), planted, _planted_columns)]
    parts += ["## By kind of mistake\n", *_table(("kind",), planted, _planted_columns)]
    parts += ["## Wrong answers\n", *_wrong(records)]
    return "\n".join(parts)


def _wrong(records: Records) -> Iterable[str]:
    """Yield the first wrong answers; a pair's target, kind and seed draw it again."""
    wrong = [r for r in records if r["fault"]]
    yield f"{len(wrong)} answers were wrong; the first {min(len(wrong), _SHOWN)}:\n"
    yield "| target | kind | seed | wrong | said |\n|---|---|---|---|---|"
    for r in wrong[:_SHOWN]:
        said = r["said"][:120].replace("|", "/").replace("\n", " ")
        yield f"| {r['target']} | {r['kind']} | {r['seed']} | {r['fault'][:120]} | {said} |"
    yield ""


def _table(by: tuple[str, ...], records: Records, columns: Any) -> Iterable[str]:
    groups: dict[str, Records] = collections.defaultdict(list)
    for record in records:
        groups[" ".join(record[key] for key in by)].append(record)
    rows = {name: columns(own) for name, own in sorted(groups.items())} | {"all": columns(records)}
    names = [*by, *next(iter(rows.values()))]
    yield f"| {' | '.join(names)} |"
    yield "|" + "---|" * len(names)
    for name, row in rows.items():
        yield f"| {name} | {' | '.join(str(value) for value in row.values())} |"
    yield ""


_FAULTS = ("false proof", "false alarm", "false warning", "ported wrongly", "not ported", "raises")


def _right_columns(records: Records) -> dict[str, Any]:
    judged = [r for r in records if not r["skipped"]]
    faults = collections.Counter(
        r["fault"].split(" ")[0] if r["fault"].startswith("raises") else r["fault"] for r in judged
    )
    return {
        "pairs": len(judged), "right": faults[""], "proved": sum(r["proved"] is True for r in judged),
        **{name: faults[name] for name in _FAULTS},
        "skipped": len(records) - len(judged),
    }  # fmt: skip


def _planted_columns(records: Records) -> dict[str, Any]:
    judged = [r for r in records if not r["skipped"]]
    return {
        "pairs": len(judged), "said to differ": sum(r["place"] is not None for r in judged),
        "false proof": sum(r["fault"] == "false proof" for r in judged),
        "place right": _share(judged, "place"), "named first": _share(judged, "name"),
        "raises": sum(r["fault"].startswith("raises") for r in judged), "skipped": len(records) - len(judged),
    }  # fmt: skip


def _share(records: Records, key: str) -> str:
    count = sum(r[key] is True for r in records)
    return f"{count} ({100 * count / max(len(records), 1):.1f} %)"


def main() -> None:
    """Judge pairs, and print or write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pairs", type=int, default=0, help="Right pairs per target, and as many planted ones.")
    parser.add_argument("--targets", default=",".join(targets.NAMES), help="Frameworks and styles, comma-separated.")
    parser.add_argument(
        "--journal", type=Path, default=Path("pairs.jsonl"), help="File of all results; runs resume it."
    )
    parser.add_argument("--page", type=Path, help="Write the report to this file.")
    options = parser.parse_args()
    run(options.targets.split(","), options.pairs, options.journal)
    records = read(options.journal)
    counts = collections.Counter(r["target"] for r in records if r["kind"] == "right")
    command = "\n".join(f"python scripts/model_pairs.py --pairs {n} --targets {name}" for name, n in counts.items())
    text = page(records, command)
    print(text) if options.page is None else options.page.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
