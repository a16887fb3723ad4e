"""Random networks in another framework's code: written, run, given the weights, and judged by what both compute.

``python -m tests.pairs.translate SOURCE TARGET COUNT [FIRST [FILE]]`` prints a line for each network that is not
translated and proved, and the counts; these are a line of JSON in FILE, from which ``scripts/network_campaigns.py``
writes the report.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from convspec.models import ModelTranslation, translate_model
from tests.pairs import draw, judge, network, targets, torch_writer

SOURCES = ("torch", "keras", "nnx", "linen", "equinox")
_ADAPTERS = {"torch": "torch", "keras": "keras", "nnx": "flax", "linen": "flax-linen", "equinox": "equinox",
             "onnx": "onnx"}  # fmt: skip
_FIRST = ("torch", "equinox")  # those with channels first


def build(name: str, seed: int) -> tuple[Any, tuple[int, ...], Any]:
    """Return a random network in a framework, its input's shape, and what runs it; None where it has no counterpart."""
    net = draw.draw(seed)
    weights = network.weights(net, seed)
    shape = (2, *net.shape)
    if name == "torch":
        return torch_writer.build(net, weights), shape, torch_writer.run
    writer = targets.writer(name)
    if not writer.takes(net):
        return None, shape, None
    model = writer.build(net, network.channels_last(net, weights) if writer.last else weights)
    return model, shape, writer.run


def judge_translation(seed: int, source: str, target: str) -> tuple[str, str]:
    """Return how a network fares: ``proved``, ``measured``, ``missing``, ``skipped``, or what is wrong, with words."""
    model, shape, run = build(source, seed)
    if model is None:
        return "skipped", ""
    x = judge.inputs(draw.draw(seed), seed)
    own = shape if source in _FIRST else (shape[0], *shape[2:], shape[1])
    made = translate_model(model, _ADAPTERS[target], own)
    if made.code.missing:
        return "missing", "; ".join(f"{path}: {reason}" for path, reason in made.code.missing)
    return _verdict(made, run(model, x), _run(target, made.model, x))


def _run(target: str, model: Any, x: np.ndarray) -> list[np.ndarray]:
    if target == "onnx":
        from onnxruntime import InferenceSession

        session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return list(session.run(None, {session.get_inputs()[0].name: x}))
    return torch_writer.run(model, x) if target == "torch" else targets.writer(target).run(model, x)


def _verdict(made: ModelTranslation, ours: list[np.ndarray], theirs: list[np.ndarray]) -> tuple[str, str]:
    gap = judge.gap(ours, theirs)
    assert made.comparison is not None
    if gap > judge.ROUNDING:
        return ("false proof" if made.agrees else "differs"), f"{gap:.2g}: {made.comparison.divergence}"
    if not made.agrees:
        return "false alarm", str(made.comparison.divergence)
    return ("proved" if made.comparison.evidence in ("proved", "equal") else "measured"), ""


def main(source: str, target: str, count: str, first: str = "0", file: str = "") -> None:
    """Print what is not translated, and the counts."""
    counts: Counter[str] = Counter()
    for seed in range(int(first), int(first) + int(count)):
        try:
            verdict, words = judge_translation(seed, source, target)
        except Exception as error:  # noqa: BLE001 – every fault is a line
            place = traceback.extract_tb(error.__traceback__)[-1]
            verdict, words = "raises", f"{error!r}"[:300] + f" ({place.filename.rpartition('/')[2]}:{place.lineno})"
        counts[verdict] += 1
        if verdict not in ("proved", "measured", "skipped"):
            print(f"{seed} {verdict}: {words}", flush=True)
    print(f"{source} → {target}: {dict(counts)}", flush=True)
    if file:
        entry = {"campaign": "translate", "source": source, "target": target, "first": int(first), "counts": counts}
        with Path(file).open("a", encoding="utf-8") as lines:
            lines.write(f"{json.dumps(entry)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
