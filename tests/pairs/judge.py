"""Judge what convspec says of one pair by what both models compute."""

from __future__ import annotations

import itertools
import random
import re
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

import convspec
from tests.pairs import draw, network, plant, torch_writer
from tests.pairs.network import Net, Weights

ROUNDING = 2e-5  # of a result's largest number: float32 in networks of a dozen layers
SEEN = 1e-4  # what a planted mistake must change, to be told from rounding by this judge
_TRIES, _NETS = 4, 300  # places of a mistake without an effect, and networks without a place, before one is given up


class Writer(NamedTuple):
    """Makes models of one framework and style; ``takes``: whether it can make this network."""

    build: Callable[[Net, Weights], Any]
    run: Callable[[Any, np.ndarray], list[np.ndarray]]
    takes: Callable[[Net], bool] = lambda net: True
    last: bool = True


@dataclass
class Record:
    """One pair. ``fault``: what is wrong with convspec's answer, empty if nothing; ``skipped``: why it is no pair."""

    seed: int
    target: str
    kind: str = "right"
    skipped: str = ""
    fault: str = ""
    gap: float | None = None
    said: str = ""
    place: bool | None = None
    name: bool | None = None
    proved: bool | None = None
    seconds: float = 0.0
    net: str = ""


def gap(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """Return the largest difference in units of the largest number; infinite for other shapes."""
    if [y.shape for y in ours] != [y.shape for y in theirs]:
        return float("inf")
    return max(float(np.abs(p - q).max() / max(np.abs(p).max(), 1e-6)) for p, q in zip(ours, theirs, strict=True))


def inputs(net: Net, seed: int) -> np.ndarray:
    """Return a batch of two."""
    return np.random.default_rng(seed).standard_normal((2, *net.shape)).astype(np.float32)


def _largest_gap(writer: Writer, source: Any, target: Any, x: np.ndarray) -> float:
    """Return the largest gap on several inputs."""
    tried = (x, 8 * x, x[::-1, ...] + np.float32(0.5))
    return max(gap(torch_writer.run(source, one), writer.run(target, one)) for one in tried)


def judge_right(seed: int, name: str, writer: Writer) -> Record:
    """Port a right pair, and compare it."""
    record, started = Record(seed, name), time.process_time()
    net = draw.draw(seed, draw.chain if "sequential" in name else None)
    record.net = str(net)
    try:
        x, right = inputs(net, seed), network.weights(net, seed)
        moved = network.channels_last(net, right) if writer.last else right
        source, target = torch_writer.build(net, right), writer.build(net, moved)
        record.gap = _largest_gap(writer, source, target, x)
        if record.gap > ROUNDING:
            record.skipped = f"the generator's own port differs by {record.gap:.3g}"
            return record
        other = network.weights(net, seed + 1)
        target = writer.build(net, network.channels_last(net, other) if writer.last else other)
        _port(record, writer, source, target, x)
    except Exception as error:  # noqa: BLE001 – every fault is a record
        record.fault = f"raises {error!r}"[:300] + _where(error)
    record.seconds = time.process_time() - started
    return record


def _port(record: Record, writer: Writer, source: Any, target: Any, x: np.ndarray) -> None:
    report = convspec.port_weights(source, target, x)
    if not report.written:
        record.fault = "not ported"
        record.said = "; ".join([*report.ambiguous, *report.left])
        return
    found = report.comparison
    record.gap = _largest_gap(writer, source, report.model, x)
    record.said, record.proved = found.divergence or found.unknown, found.evidence in ("proved", "equal")
    if record.gap > ROUNDING:
        record.fault = "false proof" if found.agrees else "ported wrongly"
        record.said += "; ".join(report.unmoved)
    elif not found.agrees:
        record.fault = "false alarm"
    elif found.warnings or report.left:
        record.fault, record.said = "false warning", "; ".join([*found.warnings, *report.left])


def judge_planted(seed: int, kind: str, name: str, writer: Writer) -> Record:
    """Plant a mistake into the first network from the seed on that can have it, and compare."""
    record, started = Record(seed, name, kind, skipped="no network has a place for it"), time.process_time()
    for found in itertools.islice(_planted(seed, kind, name, writer), _TRIES):
        record.net, record.skipped = f"{found.source} | at {','.join(sorted(found.places))}", ""
        try:
            _compare(record, found, writer)
        except Exception as error:  # noqa: BLE001
            record.fault = f"raises {error!r}"[:300] + _where(error)
        if not record.skipped:
            break
    record.seconds = time.process_time() - started
    return record


def _planted(seed: int, kind: str, name: str, writer: Writer) -> Iterator[plant.Planted]:
    """Yield one place of the mistake in each network from the seed on that has one."""
    rng = random.Random(f"{seed} {kind}")
    for attempt in range(_NETS):
        net = draw.draw(seed + 100_000 * (attempt + 1), draw.chain if "sequential" in name else None)
        found = next((p for p in plant.MISTAKES[kind].plant(net, rng) if _is_possible(p, writer)), None)
        if found is not None:
            yield found


def _is_possible(found: plant.Planted, writer: Writer) -> bool:
    """Whether both networks have sizes and weights that fit, and the writer can make the target."""
    try:
        shapes = found.source.shapes(), found.target.shapes()
    except ValueError:
        return False
    if not writer.takes(found.target):
        return False
    kept = {op.name for op in found.source.ops} & {op.name for op in found.target.ops}
    return all(
        shapes[0][net[0].reads[0]][0] == shapes[1][net[1].reads[0]][0]
        for net in ((found.source[n], found.target[n]) for n in kept)
        if net[0].kind in network.LAYERS
    )


def _compare(record: Record, found: plant.Planted, writer: Writer) -> None:
    seed = record.seed
    x, right = inputs(found.source, seed), network.weights(found.source, seed)
    source = torch_writer.build(found.source, right)
    try:
        target = writer.build(found.target, plant.targets_weights(found, right, last=writer.last))
        record.gap = _largest_gap(writer, source, target, x)
    except Exception as error:  # noqa: BLE001
        record.skipped = f"the wrong model cannot be built: {error!r}"[:200]
        return
    if any(op.get("training") for op in found.target.ops):  # these runs have moved its statistics
        target = writer.build(found.target, plant.targets_weights(found, right, last=writer.last))
    if record.gap < SEEN:
        record.skipped = f"no difference: {record.gap:.3g}"
        return
    comparison = convspec.compare(source, target, x)
    record.said = said = comparison.divergence or f"{comparison.verdict}: {comparison.unknown}"
    if comparison.verdict != "differ":
        record.fault = "false proof" if comparison.agrees else "unknown"
        return
    place, reason = parse(said)
    record.place = place in found.places
    record.name = re.match(plant.MISTAKES[record.kind].names, reason) is not None
    record.fault = "" if record.place and record.name else "place" if not record.place else "name"


def parse(said: str) -> tuple[str, str]:
    """Return the place and the name in a comparison's sentence."""
    match = re.match(
        r"(?:on [^:]*: )?(?:after the last layer: ()|(?:before )?\w+ \d+(?: call \d+)? \(([^)]*)\): )(.*)", said, re.S
    )
    return (match[2] or network.END, match[3]) if match else ("", said)


def _where(error: BaseException) -> str:
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if "/convspec" in f.filename or "adapters" in f.filename
    ]
    return f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
