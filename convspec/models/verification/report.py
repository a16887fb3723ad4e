"""The result of a verification: one entry per convolution, the other nodes, and what is unexpected."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from convspec.errors import ConvspecError
from convspec.models import text_table
from convspec.models.text_table import Printable, Text, number_words
from convspec.reference import LADDER, VERDICTS
from convspec.spec import ConvSpec

SCHEMA = "convspec.verify/1"
_WORST_FIRST = ("crash", "timeout", "disagree", "error", "unsupported", "agree")


class VerificationFailed(AssertionError):
    """Raised where a verification has unexpected results; the message lists them."""


@dataclass(repr=False)
class Node:
    """One convolution of the graph.

    Attributes:
        name: path of the node, beginning with the nodes and branches that contain it.
        spec: None where the node describes no layer.
        verdict: the worst of all inputs and levels of optimisation, with its ``reason``.
        worst_q, bound: the largest error and its bound, in the same unit; None where nothing was compared.
        matched: path in the source; None without a source, or where it has no such layer.
        diverges: whether it computes something else than its source does.
        snr_db: in a quantised graph, the power of its source's output over that of its error, in dB; at most 200.
        findings: its differences from the source, and the effects of optimisation.
        notes: what is known without running it, each with a ``level``: info, warning or error.
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
    diverges: bool = False
    snr_db: float | None = None
    findings: list[dict[str, str]] = field(default_factory=list)
    notes: list[dict[str, str]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        reason = f": {self.reason}" if self.verdict != "agree" and self.reason else ""
        return f"{self.name} ({text_table.layer_words(self)}): {self.verdict}{reason}"

    def __repr__(self) -> str:
        return f"<Node {self.name}: {self.verdict}>"

    @property
    def classes(self) -> dict[str, str]:
        """The accuracy class that probes measured, by provider; the coarsest of its levels."""
        coarsest: dict[str, str] = {}
        for run in self.runs:
            if name := run.get("class"):
                coarsest[run["provider"]] = max(coarsest.get(run["provider"], name), name, key=LADDER.index)
        return coarsest

    def add_run(self, run: Mapping[str, Any]) -> None:
        """Add the verdict of one run, and what it notes."""
        self.runs.append(dict(run))
        self.notes += [note for note in run.get("notes", ()) if note not in self.notes]
        worst = min(self.runs, key=_badness)
        self.verdict, self.reason = worst["verdict"], worst["reason"]
        self.worst_q, self.bound = (worst.get("evidence", {}).get(key) for key in ("worst_q", "bound"))
        if shapes := run.get("shapes"):
            self.input_shape, self.output_shape = list(shapes["x"]), list(shapes["y"])

    def to_dict(self) -> dict[str, Any]:
        """Return the node as in the report, JSON-ready."""
        spec, shape = self.spec, self.input_shape
        return {
            "name": self.name, "op_type": self.op_type, "spec": None if spec is None else spec.to_dict(),
            "input_shape": shape, "verdict": self.verdict, "worst_q": self.worst_q, "bound": self.bound,
            "matched": self.matched, "findings": self.findings, "notes": self.notes, "reason": self.reason,
            "output_shape": self.output_shape, "parameters": None if spec is None else spec.num_parameters,
            "macs": _macs(spec, shape),
            "receptive_field": None if spec is None else _receptive_field(spec), "accuracy_class": self.classes,
            "snr_db": None if self.snr_db is None else round(self.snr_db, 2),
        }  # fmt: skip


@dataclass(frozen=True)
class Operator:
    """A node that is no convolution: what it does in words, and the verdict on it; "unsupported": it is not judged."""

    name: str
    op_type: str
    words: str
    verdict: str
    reason: str = ""


def _badness(run: Mapping[str, Any]) -> tuple[int, float]:
    evidence = run.get("evidence", {})
    q, bound = evidence.get("worst_q"), evidence.get("bound")
    try:
        ratio = float(q) / float(bound) if q is not None and bound else 0.0
    except ZeroDivisionError:
        ratio = 0.0
    return _WORST_FIRST.index(run["verdict"]), 0.0 if math.isnan(ratio) else -ratio


def _macs(spec: ConvSpec | None, shape: list[Any] | None) -> int | None:
    if spec is None or not shape or not all(isinstance(n, int) for n in shape):
        return None
    try:
        return spec.macs(shape)
    except ConvspecError:
        return None


def _receptive_field(spec: ConvSpec) -> list[int]:
    """Return how many input pixels one output depends on per axis: the kernel's span, over a transposed stride."""
    if not spec.transposed:
        return list(spec.effective_kernel)
    return [-(-ke // s) for ke, s in zip(spec.effective_kernel, spec.stride, strict=True)]


@dataclass(repr=False)
class VerifyReport(Printable):
    """The verification of one model.

    Attributes:
        nodes: every convolution, in the order of the graph.
        operators: all other nodes, by name, where a level without optimisation was run.
        notes: remarks on the model as a whole, each with a ``level``.
        missing: layers of the source without a convolution in the graph.
        optimisation: the changes of the outputs from one level of graph optimisation to the next.
        broken: why the graph could not be run to its end, one entry per run.
        repaired: what was changed in the graph, which is then the repaired one.
        accepted: (node, id) of findings in the baseline; ``"*"`` is every node.
    """

    model: str
    against: str | None
    nodes: list[Node]
    operators: dict[str, Operator] = field(default_factory=dict)
    notes: list[dict[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    optimisation: list[dict[str, Any]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    repaired: list[str] = field(default_factory=list)
    accepted: frozenset[tuple[str, str]] = frozenset()

    @property
    def summary(self) -> dict[str, int]:
        """The number of convolutions, and of each verdict."""
        counts = {verdict: sum(node.verdict == verdict for node in self.nodes) for verdict in VERDICTS}
        return {"convs": len(self.nodes), **counts}

    @property
    def first_divergence(self) -> str | None:
        """The first node in the graph that is wrong, differs from the source, or did not finish."""
        wrong = ("disagree", "error", "crash", "timeout")
        nodes = [node.name for node in self.nodes if node.diverges or node.verdict in wrong]
        operators = [operator.name for operator in self.operators.values() if operator.verdict == "disagree"]
        return next(iter(nodes + operators), None)

    @property
    def judged(self) -> tuple[int, int]:
        """The number of nodes that were judged by a reference, and of all nodes."""
        verdicts = {name: operator.verdict for name, operator in self.operators.items()}
        verdicts |= {node.name: node.verdict for node in self.nodes}
        return sum(verdict in ("agree", "disagree") for verdict in verdicts.values()), len(verdicts)

    @property
    def rounding(self) -> str:
        """What differs: ``"rounding, proved"``, ``"rounding, measured"``, ``"wrong"`` or ``"unknown"``.

        Proved: every node was judged and is right, and what optimisation changes is rounding. Measured: some nodes were
        not judged, but the results at all levels differ by no more than rounding explains.
        """
        if any(node.verdict in ("crash", "timeout") for node in self.nodes) or self.broken:
            return "unknown"
        if self.first_divergence is not None or self._wrong_levels():
            return "wrong"
        judged, total = self.judged
        if judged == total:
            return "rounding, proved" if self.operators else "unknown"
        measured = any("ratio" in change or change.get("changed") == [] for change in self.optimisation)
        return "rounding, measured" if measured else "unknown"

    def _wrong_levels(self) -> list[str]:
        """Return, in words, the levels of optimisation at which the results are wrong."""
        return list(dict.fromkeys(_wrong_level(change) for change in self.optimisation if change.get("ratio", 0) > 1))

    @property
    def worst_first(self) -> list[Node]:
        """The nodes by verdict, the worst first, and within a verdict by error over bound."""
        return sorted(self.nodes, key=lambda node: _badness({
            "verdict": node.verdict, "evidence": {"worst_q": node.worst_q, "bound": node.bound}}))  # fmt: skip

    @property
    def noisiest_first(self) -> list[Node]:
        """The nodes with a signal-to-noise ratio, the lowest first."""
        return sorted((node for node in self.nodes if node.snr_db is not None), key=lambda node: node.snr_db or 0.0)

    def problems(self) -> list[tuple[str, str, str]]:
        """Return every problem, accepted ones included: (node or ``"model"``, id, words)."""
        problems: list[tuple[str, str, str]] = []
        for node in self.nodes:
            if node.diverges:
                findings = [(node.name, f["id"], f["title"]) for f in node.findings]
                problems += findings or [(node.name, "diverges", node.reason)]
            elif node.verdict != "agree":
                problems.append((node.name, node.verdict, node.reason))
            problems += [(node.name, note["id"], note["title"]) for note in node.notes if note.get("level") == "error"]
        problems += [("model", note["id"], note["title"]) for note in self.notes if note.get("level") == "error"]
        problems += [(operator.name, "operator", f"{operator.words}: {operator.reason}")
                     for operator in self.operators.values() if operator.verdict == "disagree"]  # fmt: skip
        problems += [("model", "wrong-level", words) for words in self._wrong_levels()]
        missing = "no convolution of the graph was made from the source's {!r}"
        problems += [("model", "missing-layer", missing.format(name)) for name in self.missing]
        problems += [("model", "broken", text) for text in dict.fromkeys(self.broken)]
        verdicts = [node.verdict for node in self.nodes] + [own.verdict for own in self.operators.values()]
        if "agree" not in verdicts:
            problems.append(("model", "nothing-agreed", "no node agrees"))
        return problems

    @property
    def unexpected(self) -> list[tuple[str, str, str]]:
        """The problems that are not in the baseline; ``nothing-agreed`` is never accepted."""
        known = self.accepted
        return [p for p in self.problems() if p[1] == "nothing-agreed" or not {p[:2], ("*", p[1])} & known]

    def expect(self) -> VerifyReport:
        """Return the report itself if nothing in it is unexpected.

        Raises:
            VerificationFailed: with one line per unexpected problem, at most twenty.
        """
        if not self.unexpected:
            return self
        lines = [f"{node}: {name}: {text}" for node, name, text in self.unexpected]
        more = [f"… and {len(lines) - 20} more"] if len(lines) > 20 else []
        raise VerificationFailed("\n  ".join([f"{len(lines)} unexpected in {self.model}", *lines[:20], *more]))

    def _text(self) -> Text:
        return text_table.verification(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the report, JSON-ready, of schema ``convspec.verify/1``."""
        return {
            "schema": SCHEMA, "model": self.model, "against": self.against, "summary": self.summary,
            "first_divergence": self.first_divergence, "nodes": [node.to_dict() for node in self.nodes],
            "rounding": self.rounding, "operators": self._operators(), "notes": self.notes, "missing": self.missing,
            "optimisation": self.optimisation, "broken": self.broken, "repaired": self.repaired,
            "unexpected": [{"node": n, "id": i, "title": t} for n, i, t in self.unexpected],
            "environment": self.environment,
        }  # fmt: skip

    def _operators(self) -> dict[str, Any]:
        judged, total = self.judged
        own = self.operators.values()
        wrong = [{"name": o.name, "op_type": o.op_type, "words": o.words, "reason": o.reason}
                 for o in own if o.verdict == "disagree"]  # fmt: skip
        return {"judged": judged, "total": total, "wrong": wrong, "not_judged": self.not_judged}

    @property
    def not_judged(self) -> dict[str, int]:
        """The number of nodes without a verdict, by their operator."""
        return dict(Counter(o.op_type for o in self.operators.values() if o.verdict == "unsupported"))


def _wrong_level(change: Mapping[str, Any]) -> str:
    """Return in words what a level of optimisation does wrong, by which pass, at which node."""
    level = change["level"] + (f" on {change['provider']}" if change.get("provider", "CPU") != "CPU" else "")
    passes = f", by {', '.join(change['passes'])}" if change.get("passes") else ""
    place = f", at node {change['node']!r}" if change.get("node") else ""
    ratio = change["ratio"]
    size = f"{ratio:.3g} times as far as rounding explains" if ratio < 1e30 else "which no rounding explains"
    return (f"the graph is wrong at optimisation level {level}{passes}{place}: output {change['output']!r} is "
            f"{number_words(float(change['got']))} where without optimisation it is "
            f"{number_words(float(change['expected']))}, {size}")  # fmt: skip


def collect(report: VerifyReport, messages: Iterable[Mapping[str, Any]]) -> VerifyReport:
    """Add the audit's messages to the report, and return it."""
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
        for own in message.get("operators", ()):
            _add_operator(report, own)
        if "verdict" in message:
            node = by_name[message["path"]]
            node.spec = node.spec or (ConvSpec.from_dict(message["spec"]) if message["spec"] else None)
            node.add_run(message)
        elif "matched" in message:
            _add_source(by_name[message["path"]], message)
        report.missing += message.get("missing", ())
        report.repaired += message.get("repaired", ())
        report.optimisation += [message["optimisation"]] if "optimisation" in message else []
        report.broken += [message["broken"]] if "broken" in message else []
    for node in report.nodes:
        _blame_optimisation(node)
    return report


def _add_operator(report: VerifyReport, own: Mapping[str, Any]) -> None:
    """Add the verdict on a node that is no convolution; the worst of all inputs stays."""
    name, known = own["path"], report.operators.get(own["path"])
    worst = ("disagree", "agree", "unsupported")
    if known is None or worst.index(own["verdict"]) < worst.index(known.verdict):
        report.operators[name] = Operator(name, own["op_type"], own["words"], own["verdict"], own["reason"])


def _add_source(node: Node, message: Mapping[str, Any]) -> None:
    node.matched, node.diverges, node.snr_db = message["matched"], message["diverges"], message["snr_db"]
    node.findings += message["findings"]
    node.notes += message["notes"]
    if node.diverges and node.verdict in ("agree", "unsupported"):
        titles = "; ".join(finding["title"] for finding in node.findings[:2])
        node.verdict, node.reason = "disagree", f"compared with the source: {titles}"


def _blame_optimisation(node: Node) -> None:
    """Add a finding to a node that is right without graph optimisation and wrong with it."""
    runs = [((run["inputs"], run.get("provider")), run["level"], run["verdict"]) for run in node.runs]
    right = {key for key, level, verdict in runs if (level, verdict) == ("off", "agree")}
    wrong = sorted({level for key, level, verdict in runs if verdict == "disagree" and key in right})
    if wrong:
        title = f"right with graph optimisation off, wrong with it at {', '.join(wrong)}"
        node.findings.append({"id": "graph-optimisation", "title": title})
