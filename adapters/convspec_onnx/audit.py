"""The audit of one graph in a child process, which may run out of memory, be killed, or crash.

:mod:`convspec.models.verification.verifier` starts it, sends one request, reads messages, and answers each ``wanted``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

from convspec.contract.isolation import serve_audit
from convspec.reference import Verdict
from convspec_onnx.graph import lint_graph
from convspec_onnx.loading import inputs
from convspec_onnx.source import Ask, SourceComparison
from convspec_onnx.verify import (
    AccuracyClasses,
    OperatorJudge,
    Report,
    Run,
    find_changes,
    judge_alone,
    open_model,
    random_sets,
    runtimes,
)


def serve(requests: BinaryIO, replies: int) -> None:
    """Answer one request."""
    serve_audit(audit, requests, replies)


def audit(request: Mapping[str, Any], report: Report, ask: Ask | None = None) -> None:
    """Load, describe, run and judge; raises RequestError for a model that cannot be loaded and inputs that do not fit.

    ``ask`` runs the source in the process that holds it.
    """
    model, convs, problem = open_model(request["path"], request.get("memory"), limited=request.get("limited", False))
    notes = model.notes + lint_graph(model.graph, convs, consistent=not problem)
    if problem:
        notes.append({"id": "shape-inference", "title": problem, "level": "warning"})
    versions = {entry.domain or "ai.onnx": entry.version for entry in model.proto.opset_import}
    path, dims = request.get("inputs"), request.get("dims") or {}
    report({"convs": [conv.to_dict() for conv in convs], "notes": notes, "opsets": versions,
            "sets": inputs.count_sets(model.graph, path, dims)})  # fmt: skip
    source = SourceComparison.load(request, model, convs, report, ask)
    observe = source.compare_node if source else None
    providers = [runtimes.provider_name(name) for name in request.get("providers") or [runtimes.CPU]]
    oracle = request.get("oracle", True)
    configs = runtimes.run_configs(request["levels"] if oracle else ["off"], providers[: None if oracle else 1])
    expected = {runtimes.provider_name(name): kind for name, kind in (request.get("expect") or {}).items()}
    classes = AccuracyClasses(expected, model.proto)
    sets = inputs.read_inputs(model.graph, path) if path else random_sets(
        model, convs, configs[0], dims, report, request.get("seed", 0))  # fmt: skip
    own = oracle and configs[0].provider not in expected
    operators = (
        OperatorJudge(model, {conv.path for conv in convs if not conv.owners and not conv.rows}) if own else None
    )
    reached: set[str] = set()
    for title, feeds in sets:
        if source:
            source.run_source(title, feeds)
        run = Run(model, convs, title, configs, report, observe, judging=oracle, classes=classes, operators=operators)
        run.execute(feeds)
        reached |= run.reached
        if source and not run.broken:
            source.compare_outputs([run.values[configs[0]].get(entry.name) for entry in model.graph.output])
        for provider in providers if oracle and not run.broken else ():
            if sum(config.provider == provider for config in configs) > 1:
                for change in find_changes(model, feeds, provider):
                    report({"optimisation": {"inputs": title, **change}})
    if oracle:
        alone = [conv for conv in convs if conv.path not in reached]
        _judge_alone(Run(model, alone, "random input of this node alone", configs, report, observe, classes=classes))
    if source:
        if not oracle:
            _report_unjudged(Run(model, convs, "", configs, report), source)
        source.report_matches()
        if request.get("repair"):
            source.repair(request["path"], request["repair"])
    report({"done": True})


def _judge_alone(run: Run) -> None:
    """Judge the nodes that no set of inputs reaches, each by itself."""
    for conv in run.convs:
        for config in run.configs:
            run.report({"begin": [conv.path]})
            verdict, arrays = judge_alone(run.model, conv, config, run.classes)
            if run.observe and arrays and config == run.configs[0]:
                run.observe(conv, arrays)
            run.report_verdict(conv, config, verdict, arrays)


def _report_unjudged(run: Run, source: SourceComparison) -> None:
    """Without the oracle, a node agrees if the source has its layer; whether they differ is reported separately."""
    for conv in run.convs:
        matched = conv.path in source.matches.layers
        reason = "" if matched else "not judged by the oracle, and no layer of the source matches it"
        run.report_verdict(conv, run.configs[0], Verdict("agree" if matched else "unsupported", reason))
