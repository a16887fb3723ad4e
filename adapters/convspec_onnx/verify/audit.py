"""The audit of one graph in a child process, which may run out of memory, be killed, or crash.

:mod:`convspec.models.verification.verifier` starts it, sends one request, reads messages, and answers each ``wanted``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from convspec.contract.isolation import send
from convspec.errors import ConvspecError, printable
from convspec_onnx.graph import lint
from convspec_onnx.source import compare
from convspec_onnx.verify import inputs, optimizer_passes, runtimes
from convspec_onnx.verify import run as running
from convspec_onnx.verify.accuracy_class import Classes
from convspec_onnx.verify.open_model import described, open_model
from convspec_onnx.verify.run import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec_onnx.graph.convolutions import Conv
    from convspec_onnx.loading.large_weights import Lean

    Arrays = dict[str, NDArray[Any]]
    Ask = Callable[[dict[str, Any]], dict[str, Any]]
    Say = Callable[[dict[str, Any]], None]


def serve(requests: BinaryIO, replies: int) -> None:
    """Answer one request; an error becomes the message ``refused``."""

    def say(message: Mapping[str, Any]) -> None:
        send(replies, json.dumps(message, allow_nan=False, default=str).encode() + b"\n")

    def ask(wanted: dict[str, Any]) -> dict[str, Any]:
        say({"wanted": wanted})
        answer: dict[str, Any] = json.loads(requests.readline())
        return answer

    try:
        audit(json.loads(requests.readline()), say, ask)
    except ConvspecError as error:
        say({"refused": printable(error)})
    except MemoryError:
        say({"refused": "the model needs more memory than is allowed; allow more where you trust it"})
    except RecursionError:
        say({"refused": "the model is nested too deeply"})


def audit(request: Mapping[str, Any], say: Say, ask: Ask | None = None) -> None:
    """Load, describe, run and judge; raises RequestError where the model cannot be loaded or inputs do not fit.

    ``ask`` has the source run where it is (:mod:`convspec.models.verification.source_model`).
    """
    model, convs, problem = open_model(request["path"], request.get("memory"), limited=request.get("limited", False))
    notes = lint.examine(model.graph, convs, consistent=not problem)
    if problem:
        notes.append({"id": "shape-inference", "title": problem, "level": "warning"})
    versions = {entry.domain or "ai.onnx": entry.version for entry in model.proto.opset_import}
    sets = inputs.number(model.graph, request.get("inputs"), request.get("dims") or {})
    say({"convs": [described(conv) for conv in convs], "notes": notes, "opsets": versions, "sets": sets})
    source = compare.Source.load(request, model, convs, say, ask)
    providers = [runtimes.provider(name) for name in request.get("providers") or [runtimes.CPU]]
    oracle = request.get("oracle", True)
    arms = runtimes.arms(request["levels"] if oracle else ["off"], providers[: None if oracle else 1])
    expected = {runtimes.provider(name): found for name, found in (request.get("expect") or {}).items()}
    classes = Classes(expected, model.proto)
    reached: set[str] = set()
    for title, feeds in _sets(model, request):
        if source:
            source.begin(title, feeds)
        look = source.look if source else None
        run = Run(model, convs, title, arms, say, look, judging=oracle, classes=classes)
        run.go(feeds)
        reached |= run.reached
        if source and not run.broken:
            source.end([run.values[arms[0]].get(entry.name) for entry in model.graph.output])
        for provider in providers if oracle and not run.broken else ():
            if sum(arm.provider == provider for arm in arms) > 1:
                for change in optimizer_passes.changes(model, feeds, provider):
                    say({"optimisation": {"inputs": title, **change}})
    for conv in convs if oracle else ():
        if conv.path not in reached:
            _alone(Run(model, [conv], "made-up input of this node alone", arms, say, classes=classes), source)
    if source:
        if not oracle:
            _unjudged(convs, source, say)
        source.conclude()
    say({"done": True})


def _unjudged(convs: Sequence[Conv], source: compare.Source, say: Say) -> None:
    """Of nodes that were not held against the oracle, those that are their source's layers agree with it."""
    for conv in convs:
        known = conv.path in source.matched
        reason = "" if known else "not held against the oracle, and the source has no such layer"
        say({"path": conv.path, "inputs": "", "level": "off", "provider": runtimes.CPU, "reason": reason,
             "verdict": "agree" if known else "unsupported", "evidence": {}, "shapes": {},
             "spec": None if conv.spec is None else conv.spec.to_dict()})  # fmt: skip


def _alone(run: Run, source: compare.Source | None) -> None:
    (conv,) = run.convs
    for arm in run.arms:
        run.say({"begin": [conv.path]})
        found, arrays = running.alone(run.model, conv, arm, run.classes)
        if source and arrays and arm == run.arms[0]:
            source.look(conv, arrays)
        run.speak(conv, arm, found, arrays)


def _sets(model: Lean, request: Mapping[str, Any]) -> Iterator[tuple[str, Arrays]]:
    if request.get("inputs"):
        return inputs.given(model.graph, request["inputs"])
    return inputs.made(model.graph, request.get("dims") or {}, request.get("seed", 0))
