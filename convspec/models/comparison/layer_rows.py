"""Explain two models' results layer by layer: a row for each pair of layers and each of its calls."""

from __future__ import annotations

from functools import cached_property

from convspec.errors import ConvspecError
from convspec.models.comparison.between import Between
from convspec.models.comparison.judges import JUDGES, CallCheck, Calls, compare_unrun, in_order, pair_calls
from convspec.models.comparison.layer_check import ErrorPropagation, LayerCheck, largest_difference
from convspec.models.comparison.results import Row
from convspec.models.dataflow.expressions import Expressions
from convspec.models.matching import layers
from convspec.models.matching.flow import match_calls
from convspec.models.matching.layers import Pair, align
from convspec.models.matching.pointwise import in_common_kinds
from convspec.models.run_model import Model
from convspec.spec import Array


class LayerRows:
    """The rows of two models.

    Attributes:
        rows: one for each pair and call, in the order of a's execution.
        notes: remarks on several layers.
        judged: the paths of b's layers that compute, within their bounds, what their own settings and weights say.
        pairs: all layers.
        parts: by the row, the layers that it compares.
    """

    def __init__(self, a: Model, b: Model, seconds: float | None) -> None:
        """Compare all layers; ``seconds``: limit of the search for mistakes, None: no search."""
        a, b = in_common_kinds(a, b)
        self.a, self.b, self.seconds = a, b, seconds
        self.rows: list[Row] = []
        self.notes: list[str] = []
        self.judged: set[str] = set()
        self.parts: dict[int, Pair] = {}
        self._errors = ErrorPropagation()
        self._others = a.ordered("conv")
        self.pairs = align(a, b, differ=seconds is not None)
        self._flows = layers.flow_of(a), layers.flow_of(b)
        self._place = "", 0
        self._add_all()

    @property
    def counterparts(self) -> dict[str, str]:
        """The paths of b's layers by those of a's."""
        return {pair.a.path: pair.b.path for pair in self.pairs if pair.a and pair.b}

    @property
    def _diverged(self) -> bool:
        return any(row.verdict in ("diverges", "input_differs") for row in self.rows)

    def _add_all(self) -> None:
        counts: dict[str, int] = {}
        for pair in self.pairs:
            part = pair.a or pair.b
            assert part is not None
            number = counts.get(part.kind, 0)
            counts[part.kind] = number + 1
            self._add_pair(f"{part.kind} {number}", pair)
        for name, folds in zip("ab", zip(*((p.fold_a, p.fold_b) for p in self.pairs), strict=True), strict=False):
            if count := sum(fold is not None for fold in folds):
                self.notes.append(f"{count} batch norms of model {name} are folded into the other model's kernels")
        self.notes += [f"{part.path}: {part.note}" for model in (self.a, self.b) for part in model.parts if part.note]

    def _add_pair(self, label: str, pair: Pair) -> None:
        """Add a row per call of one pair."""
        a, b = self.a, self.b
        if pair.a is None or pair.b is None:
            self._append(_lone_row(label, pair, a, b), pair)
            return
        same, places = layers.in_order_of_b(pair, a, b)
        row = compare_unrun(label, same, a, b, self._others)
        calls = pair_calls(pair, a, b, self._order_of_calls(pair.a.path))
        if not calls:
            if a.outputs and b.outputs:
                row.verdict, row.reason = "not judged", "one of the models did not call it, or not visibly"
            self._append(row, pair)
        sound = True
        for number, call in enumerate(calls):
            if number:
                row = compare_unrun(f"{label} call {number + 1}", same, a, b, self._others)
            self._place = pair.a.path, number
            check = self._judge(row, same, (in_order(call[0], pair.a, places, a.layout), *call[1:]))
            sound = sound and bool(check.check.ok) and not row.differences
            self._settle(row, check)
            self._append(row, pair)
        if calls and sound and pair.fold_a is None and pair.fold_b is None:
            self.judged.add(pair.b.path)

    @property
    def between(self) -> Between | None:
        """The steps between the layers; None where a model's are not seen."""
        ours, theirs = self._flows
        if ours is None or theirs is None:
            return None
        pairs = (self._nodes(path) for path in self.counterparts)
        return Between(ours.graph, theirs.graph, {i: j for both in pairs for i, j in both})

    def name_small_difference(self) -> None:
        """Let the first layer before which steps differ diverge, where rounding would explain each layer's input."""
        between = None if self._diverged else self.between
        for row in self.rows if between is not None else ():
            assert between is not None
            words = next((words for i, _ in self._nodes(row.a) if (words := between.before(i))), "")
            if words:
                row.verdict, row.reason = "input_differs", words
                return

    def _nodes(self, path: str) -> list[tuple[int, int]]:
        """Return the nodes of both graphs for each call of a's layer and its counterpart, as far as they are seen."""
        ours, theirs = self._flows
        if ours is None or theirs is None:
            return []
        mine, others = ours.layers.get(path, []), theirs.layers.get(self.counterparts.get(path, ""), [])
        order = self._order_of_calls(path) or range(min(len(mine), len(others)))
        return [(mine[i], others[j]) for i, j in enumerate(order)]

    @cached_property
    def same(self) -> set[str]:
        """The paths of a's layers that are, with all before them, the function that their counterparts are.

        Elements may be in another order: of a flatten in another layout, say, with the weights in that order too.
        """
        if (found := self._flows)[0] is None or found[1] is None:
            return set()
        ours, theirs = found[0], found[1]
        numbers = Expressions()
        mine, others = ([(one.node, n) for one, n in zip(flow.graph.values, numbers.of(flow.graph), strict=True)]
                        for flow in (ours, theirs))  # fmt: skip
        return {
            path for path, other in self.counterparts.items()
            if ours.layers.get(path) and [n for node, n in mine if node in ours.layers[path]]
            == [n for node, n in others if node in theirs.layers.get(other, ())]
        }  # fmt: skip

    def _explain_input(self) -> str:
        """Return what differs before the call that is judged, by the steps on the way to it."""
        between, (path, number) = self.between, self._place
        nodes = self._nodes(path)
        return between.before(nodes[number][0]) if between is not None and number < len(nodes) else ""

    def _crops_later(self) -> tuple[bool, float | None, Array | None]:
        """Return whether crops after the layers make their settings equal, what is left to differ, and b's result."""
        (ours, theirs), (path, number) = self._flows, self._place
        nodes = self._nodes(path)
        if ours is None or theirs is None or number >= len(nodes):
            return self.seconds is None, None, None  # the results agree
        mine, other = ours.graph.nodes[nodes[number][0]], theirs.graph.nodes[nodes[number][1]]
        x, y = ours.graph.numbers(mine.writes[0]), theirs.graph.numbers(other.writes[0])
        difference = None if x is None or y is None else largest_difference(x, y)
        return self.seconds is None or mine.settings == other.settings, difference, y

    def _explain_layer(self) -> str:
        """Return in what the settings of the layers that are judged differ, as their steps show."""
        between, (path, number) = self.between, self._place
        nodes = self._nodes(path)
        return between.layer(nodes[number][0]) if between is not None and number < len(nodes) else ""

    def _order_of_calls(self, path: str) -> list[int] | None:
        """Return for each call of a's layer the number of its counterpart's."""
        ours, theirs = self._flows
        return None if ours is None or theirs is None else match_calls(ours, theirs, self.counterparts, path)

    def _append(self, row: Row, pair: Pair) -> None:
        self.parts[id(row)] = pair
        self.rows.append(row)

    def _judge(self, row: Row, pair: Pair, call: Calls) -> CallCheck:
        """Return the check of one call; what no judge foresees is no verdict on the layer."""
        part, _ = pair.both
        try:
            return JUDGES[part.kind](row, pair, call, self.a, self.b, self._errors)
        except (ConvspecError, ValueError, IndexError, TypeError, ArithmeticError) as error:
            shapes = f"inputs of shape {call[0].x.shape} and {call[1].x.shape}"
            reason = f"it could not be judged on {shapes}: {error}"
            return CallCheck(LayerCheck(None, reason), None, None, call[0].x, call[0].y)

    def _settle(self, row: Row, check: CallCheck) -> None:
        """Set the verdict from the layer's own computation and from its input."""
        first = not self._diverged
        row.input, row.output = check.input, check.output
        ok, reason = check.check.ok, check.check.reason
        unexplained = check.input is None or not self._errors.explains(check.input, check.x)
        if ok is False and check.cropped and (crop := self._crops_later())[0]:
            ok, reason, row.spec, row.output = True, f"{check.cropped}, and crops them later", [], crop[1]
        if ok is False:
            own = self._explain_layer() if check.diagnose is None else ""
            row.verdict, row.reason = "diverges", check.reason or own or reason
            self._diagnose(row, check, first=first)
        elif ok is None and check.input is None:
            row.verdict, row.reason = "not judged", reason
        elif unexplained:
            row.verdict, row.reason = "downstream", ""
            if first:
                row.verdict, row.reason = "input_differs", self._explain_input() or check.input_reason
        else:
            row.verdict, row.reason = "agree" if ok else "not judged", reason
            self._errors.add(row.output, check.y)

    def _diagnose(self, row: Row, check: CallCheck, *, first: bool) -> None:
        """Name the mistake in a convolution, and put it into the reason."""
        settings = "; ".join(row.spec)
        if check.diagnose is None:
            return
        if self.seconds is None:
            row.reason = "; ".join([*row.spec, *row.weights]) or row.reason
            return
        same, _, y = self._crops_later() if row.spec else (False, None, None)
        whole = {"y": y} if same and y is not None else {}
        if whole:
            row.spec, settings = [], ""
        try:
            row.diagnosis = check.diagnose(seconds=self.seconds if first else 0.0, **whole)
        except ConvspecError as error:  # the layer of model a cannot take b's input
            row.reason = settings or str(error)
            return
        if len(row.diagnosis):
            finding = row.diagnosis[0]
            row.reason = f"{finding.id}: {finding.what}" + (f" ({settings})" if settings else "")
        elif settings or row.weights:
            row.reason = "; ".join([*row.spec, *row.weights])
        if check.cropped:
            row.reason += f"; {check.cropped}"


def _lone_row(label: str, pair: Pair, a: Model, b: Model) -> Row:
    """Return the row of a layer without a counterpart."""
    part, has, lacks = (pair.a, "a", "b") if pair.a else (pair.b, "b", "a")
    assert part is not None
    # only models of one framework are known to show the same functions
    verdict = "not judged" if part.function and a.adapter.name != b.adapter.name else "missing"
    reason = f"model {lacks} has no such {part.kind} ({part.name})"
    if part.kind == "norm":
        reason = f"model {has} has a {layers.norm_words(part)} that model {lacks} has not"
    return Row(label, pair.a.path if pair.a else "", pair.b.path if pair.b else "", verdict=verdict, reason=reason)
