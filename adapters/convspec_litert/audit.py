"""The audit of one ``.tflite`` file in a child process: every convolution judged, run by each kind of kernels.

:mod:`convspec.models.verification.verifier` starts it, and describes the messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from convspec import reference
from convspec.contract import Array, TracedStep
from convspec.contract.isolation import limit_memory, serve_audit
from convspec.errors import ConvspecError, RequestError
from convspec.reference import Verdict
from convspec.spec.steps import Other, Parameter
from convspec_litert.flatbuffer import Graph, Operator, parse
from convspec_litert.judge import judge_conv, spec_at
from convspec_litert.model import Trace
from convspec_litert.read import data_input
from convspec_litert.rounded import compare_rounded, weights_type
from convspec_litert.weights import ORDERS

_TO_RUN, _COPIES = 768 << 20, 8  # bytes, and copies of the file that exist at once
_FLOATS = ("float16", "float32")


def serve(requests: BinaryIO, replies: int) -> None:
    """Answer one request."""
    serve_audit(audit, requests, replies)


def audit(request: Mapping[str, Any], report: Any, ask: Any) -> None:
    """Read, run and judge a file. Raises RequestError for one that cannot be read, and for inputs that do not fit."""
    try:
        content = Path(request["path"]).read_bytes()
    except OSError as error:
        raise RequestError(f"the model cannot be read: {error.strerror}") from None
    if request.get("limited"):
        limit_memory((request.get("memory") or _TO_RUN) + _COPIES * len(content), files=True)
    graph = Graph(parse(content))
    convs = [operator for operator in graph.operators if operator.kind in ORDERS]
    report({"convs": [_described(graph, conv) for conv in convs], "notes": [], "opsets": {}, "sets": 1})
    feeds = _feeds(graph, request.get("inputs"), request.get("seed", 0))
    title = "the given inputs" if request.get("inputs") else "random inputs"
    if request.get("oracle", True):
        for level in request["levels"]:
            report({"begin": [conv.path for conv in convs]})
            for message in _judged(graph, convs, feeds, level):
                report({"inputs": title, "level": level, "provider": "CPU", **message})
        report({"operators": _judge_others(graph, feeds), "inputs": title, "level": "builtin"})
    if request.get("source"):
        _compare(graph, request, feeds, report, ask)
    report({"done": True})


def _described(graph: Graph, conv: Operator) -> dict[str, Any]:
    shapes = [list(graph.signature(n)) for n in (data_input(conv), conv.outputs[0])]
    return {"name": conv.path, "op_type": conv.kind, "spec": None, "input_shape": shapes[0], "output_shape": shapes[1],
            "notes": [], "problem": ""}  # fmt: skip


def _feeds(graph: Graph, path: str | None, seed: int) -> list[Array]:
    """Return the inputs in the file, else random ones of the declared shapes."""
    if path is not None:
        try:
            given = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise RequestError(f"the inputs cannot be read: {error}") from None
        if isinstance(given, np.ndarray):
            return graph.feeds([given])
        named = dict(given)
        in_order = all(name.isdigit() for name in named)
        return graph.feeds([named[str(i)] for i in range(len(named))] if in_order else named)
    rng, feeds = np.random.default_rng(seed), []
    for shape, number in zip(graph.shapes(), graph.inputs, strict=True):
        dtype = np.dtype(graph.dtype(number))
        if dtype.kind in "iu":
            low, high = max(np.iinfo(dtype).min, -128), min(np.iinfo(dtype).max, 255)
            middle, deviation = (low + high + 1) / 2, (high - low + 1) / 8  # as of a calibration on normal numbers
            feeds.append(np.rint(rng.normal(middle, deviation, shape)).clip(low, high).astype(dtype))
        else:
            feeds.append(rng.standard_normal(shape).astype(dtype))
    return feeds


def _judged(graph: Graph, convs: Sequence[Operator], feeds: Sequence[Array], level: str) -> list[dict[str, Any]]:
    """Return the verdict on each convolution, run by one kind of kernels."""
    try:
        values = graph.values(feeds, level)
    except (RuntimeError, ValueError) as error:
        broken: dict[str, Any] = {
            "verdict": "error",
            "reason": str(error),
            "evidence": {},
            "notes": [],
            "shapes": {},
            "spec": None,
        }
        return [{"broken": f"{level}: {error}"}, *({"path": conv.path, **broken} for conv in convs)]
    found = []
    for conv in convs:
        try:
            verdict, spec = judge_conv(graph, conv, values, level), spec_at(conv, values).to_dict()
        except ConvspecError as error:
            verdict, spec = Verdict("unsupported", str(error)), None
        x, y = values[data_input(conv)], values[conv.outputs[0]]
        notes = [{**note, "title": f"{level}: {note['title']}"} for note in verdict.evidence.pop("notes", [])]
        found.append({
            "path": conv.path, "verdict": verdict.verdict, "reason": verdict.reason, "class": None, "spec": spec,
            "evidence": verdict.evidence, "notes": notes,
            "shapes": {"x": list(np.moveaxis(x, -1, 1).shape), "y": list(np.moveaxis(y, -1, 1).shape)},
        })  # fmt: skip
    return found


def _judge_others(graph: Graph, feeds: Sequence[Array]) -> list[dict[str, Any]]:
    """Return the verdicts on all other operators, run by LiteRT's own kernels; no activation is fused."""
    integers = any(graph.dtype(own.outputs[0]) not in _FLOATS for own in graph.operators if own.kind in ORDERS)
    plain = graph if integers else graph.unfused()
    trace = Trace(plain, plain.values(feeds)).read()
    rest = [step for step in trace.steps if step.name not in ORDERS and not isinstance(step.step, Parameter)]
    verdicts = [(step, _judge_step(step, trace.tensors)) for step in rest]
    return [{"path": step.path, "op_type": step.name, "words": str(step.step), "verdict": verdict.verdict,
             "reason": verdict.reason, "evidence": verdict.evidence} for step, verdict in verdicts]  # fmt: skip


def _judge_step(step: TracedStep, tensors: Sequence[Array]) -> Verdict:
    xs, ys = ([tensors[n] for n in side] for side in (step.reads, step.writes))
    if isinstance(step.step, Other) or any(a.dtype.name not in _FLOATS for a in (*xs, *ys)):
        return Verdict("unsupported", step.note or f"there is no reference for {step.step}")
    if step.layout:
        xs, ys = ([np.moveaxis(a, -1, 1) for a in side] for side in (xs, ys))
    try:
        return reference.steps.judge_step(step.step, xs, ys, step.arrays)  # type: ignore[arg-type]
    except ConvspecError as error:
        return Verdict("unsupported", str(error))


def _compare(graph: Graph, request: Mapping[str, Any], feeds: Sequence[Array], report: Any, ask: Any) -> None:
    """Have the source compared with the file, and report its layers; what was not compared is an error."""
    if weights_type(graph) != "float32":
        compare_rounded(graph, feeds, Path(request["folder"]), report, ask)
        return
    target = Path(request["folder"]) / "feeds.npz"
    np.savez(target, allow_pickle=False, **{f"input_{i}": x for i, x in enumerate(feeds)})
    names = [graph.name(number) for number in graph.inputs]
    answer = ask({"feeds": str(target), "names": names, "graph": request["path"]})
    if "problem" in answer:
        title = f"the source was not compared: {answer['problem']}"
        report({"model": [{"id": "source", "title": title, "level": "error"}]})
    for row in answer.get("rows", ()):
        if row["b"]:
            wrong = row["verdict"] in ("diverges", "input_differs", "missing")
            findings = [{"id": row["finding"] or row["verdict"], "title": row["why"]}] if wrong else []
            report({"path": row["b"], "matched": row["a"] or None, "diverges": wrong, "findings": findings, "notes": [],
                    "snr_db": None})  # fmt: skip
    report({"missing": [row["a"] for row in answer.get("rows", ()) if not row["b"]]})
