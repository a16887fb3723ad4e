"""Judge right, wrong and cheating ports: ``python -m tests.judge.ports 100`` judges 100 right and 100 wrong ones.

It prints a line for each, and ends with 1 if a verdict is not the one expected. ``--flax`` writes every fourth port in
Flax; ``--only right,wrong,cheats`` chooses. Right and wrong ports run in forks of a process that has imported PyTorch,
cheating ones, and all with ``--whole``, in a Python of their own.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import convspec
from convspec.models import Judgement
from tests.judge import networks
from tests.judge.cheats import BEGIN, CHEATS
from tests.judge.mistakes import MISTAKES, places

SHAPE = (2, 3, 22, 19)
_SEARCHED = 60


class Tried(NamedTuple):
    """A port, what was said of it, and whether that is right; ``placed``: whether the mistake's place was named."""

    kind: str
    judged: Judgement
    right: bool
    placed: bool | None = None


def source(folder: Path, net: networks.Net) -> str:
    """Write the source into a folder of its own; return its name."""
    (folder / "source").mkdir(parents=True)
    (folder / "port").mkdir()
    networks.write(net, folder / "source" / "network_of_the_source.py", name="Net")
    return f"{folder / 'source' / 'network_of_the_source.py'}:Net"


def _judge(folder: Path, named: str, *, flax: bool = False, seconds: float = 60.0) -> Judgement:
    layouts = ("NHWC", "NCHW") if flax else (None, None)
    return convspec.judge(f"{folder / 'port' / 'port.py'}:Port", named, [(SHAPE,)], layouts=layouts, seconds=seconds)


def right(folder: Path, seed: int, *, flax: bool = False) -> Tried:
    """Judge a right port."""
    net = networks.draw(seed)
    named = source(folder, net)
    networks.write(net, folder / "port" / "port.py", name="Port", flax=flax, prefix="p_")
    judged = _judge(folder, named, flax=flax)
    return Tried("right", judged, judged.verdict == "accepted")


def wrong(folder: Path, seed: int, kind: str, *, flax: bool = False) -> Tried:
    """Judge a port with a mistake."""
    rng = random.Random(f"{seed} {kind}")
    for own in itertools.islice(itertools.count(seed, 1000), _SEARCHED):
        net, right_ = networks.draw(own), networks.draw(own)
        if (op := MISTAKES[kind](net, rng)) is not None:
            break
    else:
        raise LookupError(f"no network has a place for {kind!r}")
    named = source(folder, right_)
    networks.write(net, folder / "port" / "port.py", name="Port", flax=flax, prefix="p_")
    judged = _judge(folder, named, flax=flax)
    seen = places(net, op) | (right_.weights.keys() - net.weights.keys())
    placed = any(f"({name})" in judged.divergence if name else "last layer" in judged.divergence for name in seen)
    return Tried(kind, judged, judged.verdict == "refused", placed)


def cheat(folder: Path, seed: int, kind: str) -> Tried:
    """Judge a port that cheats."""
    net = networks.draw(seed)
    named = source(folder, net)
    file = folder / "port" / "port.py"
    networks.write(net, file, name="Right")
    file.write_text(file.read_text() + BEGIN + CHEATS[kind])
    judged = _judge(folder, named, seconds=8 if kind == "sleeps" else 60.0)
    return Tried(kind, judged, judged.verdict == "refused")


def every(count: int, only: set[str], *, flax: bool, first: int = 0) -> Iterator[tuple[object, ...]]:
    """Yield what is to be judged: a function with its arguments."""
    for i in range(first, first + count) if "right" in only else ():
        yield right, i, {"flax": flax and i % 4 == 0}
    for i, kind in zip(range(first, first + count) if "wrong" in only else (), itertools.cycle(MISTAKES)):
        yield wrong, i, kind, {"flax": flax and i % 4 == 0}
    for kind in CHEATS if "cheats" in only else ():
        yield cheat, first, kind, {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--only", default="right,wrong,cheats")
    parser.add_argument("--flax", action="store_true")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--whole", action="store_true")
    options = parser.parse_args()
    preload = str(Path(__file__).with_name("preload"))
    counts: Counter[str] = Counter()

    def run(job: tuple[object, ...]) -> Tried:
        function, *words, own = job
        if not options.whole and preload not in sys.path and function is not cheat:
            sys.path.insert(0, preload)
        elif preload in sys.path and function is cheat:
            sys.path.remove(preload)
        with tempfile.TemporaryDirectory() as folder:
            return function(Path(folder).resolve(), *words, **own)

    jobs = list(every(options.count, set(options.only.split(",")), flax=options.flax, first=options.first))
    with ThreadPoolExecutor(options.jobs) as pool:
        for job, tried in zip(jobs, pool.map(run, jobs), strict=True):
            name = "cheats" if tried.kind in CHEATS else "right" if tried.kind == "right" else "wrong"
            counts[name] += 1
            counts[f"{name}: as expected"] += tried.right
            counts["wrong: place named"] += bool(tried.placed)
            judged = tried.judged
            mark = "" if tried.right else "UNEXPECTED "
            said = " | ".join(text[:150] for text in (judged.reason, judged.divergence, judged.cause, *judged.notes))
            line = f"{mark}{job[1]} {tried.kind}: {judged.verdict}: {said} | placed {tried.placed} | seed {judged.seed}"
            print(line, flush=True)
    for name, count in counts.items():
        print(f"{name}: {count}")
    return 0 if all(counts[f"{name}: as expected"] == counts[name] for name in ("right", "wrong", "cheats")) else 1


if __name__ == "__main__":
    sys.exit(main())
