"""What a verification found: one entry a convolution, and what of it is unexpected."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from convspec.errors import ConvspecError
from convspec.reference import LADDER, VERDICTS

if TYPE_CHECKING:
    from convspec.spec import ConvSpec

SCHEMA = "convspec.verify/1"
_WORST_FIRST = ("crash", "timeout", "disagree", "error", "unsupported", "agree")


class VerificationFailed(AssertionError):
    """A verification found something unexpected; the message lists it."""


@dataclass
class Node:
    """One convolution of the graph.

    Attributes:
        name: path of the node: the nodes and branches that it is inside of stand before it.
        spec: None where the node describes no layer.
        verdict: the worst over all inputs and levels of optimisation; ``reason`` is the worst's.
        worst_q, bound: the largest error and its bound, in the same unit; None where nothing was compared.
        matched: path in the source; None without a source, or where it has no such layer.
        departs: whether it computes something else than its source does.
        findings: in what it departs, and what the optimisation did to it.
        notes: what can be said without running it, each with a ``level``: info, warning or error.
    """

    name: str
    op_type: str
    spec: ConvSpec | None = None
    input_shape: list[int | str] | None = None
    output_shape: list[int | str] | None = None
    verdict: str = "unsupported"
    reason: str = "not run"
    worst_q: float | str | None = None
    bound: float | str | None = None
    matched: str | None = None
    departs: bool = False
    findings: list[dict[str, str]] = field(default_factory=list)
    notes: list[dict[str, str]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def classes(self) -> dict[str, str]:
        """The accuracy class that probes measured, by provider; the coarsest one of its levels."""
        found: dict[str, str] = {}
        for run in self.runs:
            if name := run.get("class"):
                found[run["provider"]] = max(found.get(run["provider"], name), name, key=LADDER.index)
        return found

    def judge(self, run: Mapping[str, Any]) -> None:
        """Take in the verdict of one run."""
        self.runs.append(dict(run))
        worst = min(self.runs, key=_badness)
        self.verdict, self.reason = worst["verdict"], worst["reason"]
        self.worst_q, self.bound = (worst.get("evidence", {}).get(key) for key in ("worst_q", "bound"))
        if shapes := run.get("shapes"):
            self.input_shape, self.output_shape = list(shapes["x"]), list(shapes["y"])

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, as in the report."""
        spec = self.spec
        shape = self.input_shape
        known = spec is not None and shape is not None and all(isinstance(n, int) for n in shape)
        return {
            "name": self.name, "op_type": self.op_type, "spec": None if spec is None else spec.to_dict(),
            "input_shape": shape, "verdict": self.verdict, "worst_q": self.worst_q, "bound": self.bound,
            "matched": self.matched, "findings": self.findings, "notes": self.notes, "reason": self.reason,
            "output_shape": self.output_shape,
            "parameters": None if spec is None else spec.num_parameters,
            "macs": _macs(spec, shape) if known and spec is not None else None,
            "receptive_field": None if spec is None else _reach(spec), "accuracy_class": self.classes,
        }  # fmt: skip


def _badness(run: Mapping[str, Any]) -> tuple[int, float]:
    evidence = run.get("evidence", {})
    q, bound = evidence.get("worst_q"), evidence.get("bound")
    try:
        ratio = float(q) / float(bound) if q is not None and bound else 0.0
    except ZeroDivisionError:
        ratio = 0.0
    return _WORST_FIRST.index(run["verdict"]), 0.0 if math.isnan(ratio) else -ratio


def _macs(spec: ConvSpec, shape: list[Any] | None) -> int | None:
    try:
        return spec.macs(shape or ())
    except ConvspecError:
        return None


def _reach(spec: ConvSpec) -> list[int]:
    """Input cells that one output can depend on along each axis: the kernel's span, divided by a transposed stride."""
    if not spec.transposed:
        return list(spec.effective_kernel)
    return [-(-ke // s) for ke, s in zip(spec.effective_kernel, spec.stride, strict=True)]


@dataclass
class VerifyReport:
    """The verification of one model.

    Attributes:
        nodes: every convolution, in the order of the graph.
        notes: what can be said of the model as a whole, each with a ``level``.
        missing: layers of the source that the model has no convolution for.
        optimisation: how the outputs change from one level of graph optimisation to the next.
        broken: why the graph could not be run to its end, one entry for each run.
        accepted: (node, id) of findings that a baseline knows; ``"*"`` stands for every node.
    """

    model: str
    against: str | None
    nodes: list[Node]
    notes: list[dict[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    optimisation: list[dict[str, Any]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    accepted: frozenset[tuple[str, str]] = frozenset()

    @property
    def summary(self) -> dict[str, int]:
        """How many convolutions there are, and how many have each verdict."""
        counts = {verdict: sum(node.verdict == verdict for node in self.nodes) for verdict in VERDICTS}
        return {"convs": len(self.nodes), **counts}

    @property
    def first_departure(self) -> str | None:
        """The first node in the graph whose numbers are wrong, other than the source's, or never come."""
        wrong = ("disagree", "error", "crash", "timeout")
        return next((node.name for node in self.nodes if node.departs or node.verdict in wrong), None)

    @property
    def worst_first(self) -> list[Node]:
        """The nodes, the worst verdict first, and among equals the one nearest to its bound."""
        return sorted(self.nodes, key=lambda node: _badness({
            "verdict": node.verdict, "evidence": {"worst_q": node.worst_q, "bound": node.bound}}))  # fmt: skip

    def problems(self) -> list[tuple[str, str, str]]:
        """Everything that is not as it should be: (node or ``"model"``, id, words), accepted ones included."""
        found: list[tuple[str, str, str]] = []
        for node in self.nodes:
            if node.departs:
                found += [(node.name, f["id"], f["title"]) for f in node.findings] or [
                    (node.name, "departs", node.reason)
                ]
            elif node.verdict != "agree":
                found.append((node.name, node.verdict, node.reason))
            found += [(node.name, note["id"], note["title"]) for note in node.notes if note.get("level") == "error"]
        found += [("model", note["id"], note["title"]) for note in self.notes if note.get("level") == "error"]
        found += [("model", "missing-layer", f"the source's {name!r} has no convolution here") for name in self.missing]
        found += [("model", "broken", text) for text in dict.fromkeys(self.broken)]
        if not any(node.verdict == "agree" for node in self.nodes):
            found.append(("model", "nothing-agreed", "not one convolution was found to agree"))
        return found

    @property
    def unexpected(self) -> list[tuple[str, str, str]]:
        """The problems that the baseline does not know; that nothing agreed can never be accepted."""
        return [
            (node, name, text)
            for node, name, text in self.problems()
            if name == "nothing-agreed" or not {(node, name), ("*", name)} & self.accepted
        ]

    def expect(self) -> VerifyReport:
        """The report itself, if nothing in it is unexpected.

        Raises:
            VerificationFailed: with one line for each unexpected thing, at most twenty.
        """
        if not self.unexpected:
            return self
        lines = [f"{node}: {name}: {text}" for node, name, text in self.unexpected]
        more = [f"… and {len(lines) - 20} more"] if len(lines) > 20 else []
        raise VerificationFailed("\n  ".join([f"{len(lines)} unexpected in {self.model}", *lines[:20], *more]))

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON of schema ``convspec.verify/1``."""
        return {
            "schema": SCHEMA, "model": self.model, "against": self.against, "summary": self.summary,
            "first_departure": self.first_departure, "nodes": [node.to_dict() for node in self.nodes],
            "notes": self.notes, "missing": self.missing, "optimisation": self.optimisation, "broken": self.broken,
            "unexpected": [{"node": n, "id": i, "title": t} for n, i, t in self.unexpected],
            "environment": self.environment,
        }  # fmt: skip


def collected(report: VerifyReport, messages: Iterable[Mapping[str, Any]]) -> VerifyReport:
    """The report with what the audit's messages say in it."""
    from convspec.spec import ConvSpec

    by_name: dict[str, Node] = {node.name: node for node in report.nodes}
    for message in messages:
        for entry in message.get("convs", ()):
            spec = None if entry["spec"] is None else ConvSpec.from_dict(entry["spec"])
            node = Node(entry["name"], entry["op_type"], spec, entry["input_shape"], entry["output_shape"])
            node.notes = list(entry["notes"])
            node.reason = entry["problem"] or node.reason
            before = by_name.get(message.get("before", ""))
            report.nodes.insert(report.nodes.index(before) if before else len(report.nodes), node)
            by_name[node.name] = node
        report.notes += message.get("notes", ()) if "convs" in message else message.get("model", ())
        if "opsets" in message:
            report.environment["opsets"] = message["opsets"]
        if "verdict" in message:
            node = by_name[message["path"]]
            node.spec = node.spec or (ConvSpec.from_dict(message["spec"]) if message["spec"] else None)
            node.judge(message)
        elif "matched" in message:
            _against(by_name[message["path"]], message)
        report.missing += message.get("missing", ())
        report.optimisation += [message["optimisation"]] if "optimisation" in message else []
        report.broken += [message["broken"]] if "broken" in message else []
    for node in report.nodes:
        _blame_optimisation(node)
    return report


def _against(node: Node, message: Mapping[str, Any]) -> None:
    node.matched, node.departs = message["matched"], message["departs"]
    node.findings += message["findings"]
    node.notes += message["notes"]
    if node.departs and node.verdict in ("agree", "unsupported"):
        titles = "; ".join(finding["title"] for finding in node.findings[:2])
        node.verdict, node.reason = "disagree", f"against the source: {titles}"


def _blame_optimisation(node: Node) -> None:
    """Where a node is right without graph optimisation and wrong with it, say so."""

    def where(run: Mapping[str, Any]) -> tuple[Any, Any]:
        return run["inputs"], run.get("provider")

    right = {where(run) for run in node.runs if run["level"] == "off" and run["verdict"] == "agree"}
    wrong = sorted({run["level"] for run in node.runs if run["verdict"] == "disagree" and where(run) in right})
    if wrong:
        title = f"right with graph optimisation off, wrong with it at {', '.join(wrong)}"
        node.findings.append({"id": "graph-optimisation", "title": title})
