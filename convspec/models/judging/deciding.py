"""Decide whether a port computes what its source does: both run in processes of their own, this one compares bytes."""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from convspec.errors import RequestError, printable
from convspec.models import arguments
from convspec.models.comparison.outcomes import Outcome, distances, judge_results
from convspec.models.judging.draws import GIVEN, NORMAL, Draw, Shapes, draw
from convspec.models.judging.judgement import BY_CALLS, CHANGING, ELSEWHERE, Judgement, Trial, common_cause
from convspec.models.judging.runners import (
    PlainRunner,
    RunError,
    Runner,
    hidden_files,
    own_file,
    readable_paths,
)
from convspec.models.run_model import moved
from convspec.reference import Spread
from convspec.spec import Array

SECONDS, MEMORY = 60.0, 4 << 30
_STARTING = 4  # times the limit of a run, for imports and loading
_ROUNDS, _NEAR = 6, 100.0
_CHANGES = 1e-3  # of the largest result: a source that changes by more has no results to compare with
_OPEN_SIZES = (2, 24)  # of a batch, and of any other open axis


def judge(
    port: str,
    source: str,
    shapes: Sequence[Shapes] = (),
    *,
    seed: int | None = None,
    layouts: tuple[str | None, str | None] = (None, None),
    fixed: bool = False,
    readable: Sequence[str] = (),
    seconds: float = SECONDS,
    memory: int = MEMORY,
) -> Judgement:
    """Judge a port that somebody else claims to be right, by inputs that are drawn once it is loaded.

    The port runs in a process of its own, which does not import convspec, cannot read the source and is told nothing of
    it; the source runs in another one. This process compares the bytes of their results. They agree if they differ by
    no more than rounding explains, measured on the source alone. A port is judged in evaluation mode, on one thread.

    Args:
        port: ``module:factory``, ``FILE.py:factory``, or the path of a model file.
        source: the model that is right, likewise.
        shapes: shapes of the inputs in the source's layout, one tuple for each size that is to be tried. Empty: what
            the source declares.
        seed: draw the inputs of an earlier judgement again; None: from the operating system's randomness.
        layouts: the layouts of the port's and the source's inputs; None: the framework's own.
        fixed: whether only the given batches and sizes are tried.
        readable: further files and folders that the port may read, such as its weights.
        seconds: time limit of one run.
        memory: limit of the port's process, in bytes.

    Raises:
        RequestError: if there are no such models, the source cannot be run, or both are in one file.
    """
    its, (file, folder) = own_file(source), own_file(port)
    if file == its[0]:
        raise RequestError("the port and its source are in one file, so that one can call the other: split it")
    result = Judgement(port, source)
    with ExitStack() as stack:
        try:
            right = stack.enter_context(Runner({"role": "source", "model": _absolute(source), "path": [its[1]]},
                                               seconds * _STARTING))  # fmt: skip
            told = right.do("open", layout=layouts[1])
            sizes = tuple(shapes) or (_declared(told["shapes"]),)
        except RunError as error:
            raise RequestError(f"the source cannot be run: {error}") from None
        defined = [os.path.realpath(told["defined"])] if told["defined"] else []
        hidden = hidden_files([its[0], *defined], told["files"], file)
        opening = {"memory": memory, "readable": readable_paths(folder, hidden, readable), "path": [folder]}
        case = _Case(result, right, told["layout"], hidden, seconds)
        case.decide(case.run_port(opening, sizes, seed, layouts[0], fixed=fixed))
        if result.verdict == "refused" and result.trials:
            case.explain(opening, its)
    return result


def _absolute(name: str) -> str:
    """Return a name that means the same in another folder."""
    place = arguments.named(name)
    if place is None:
        return os.path.abspath(name)  # noqa: PTH100 – links stay as they are
    return place.file + name.removeprefix(name.partition("(")[0].rpartition(":")[0]) if place.file else name


def _declared(shapes: Any) -> Shapes:
    if not shapes:
        raise RequestError("the source declares no input shapes: give them with --shape")
    return tuple(tuple(n or _OPEN_SIZES[axis > 0] for axis, n in enumerate(shape)) for shape in shapes)


class _Case:
    """One judgement: the port's answers, then the source's results and rounding, then the verdict."""

    def __init__(self, result: Judgement, source: Runner, layout: str, hidden: list[str], seconds: float) -> None:
        self.result, self.source, self.layout, self.hidden, self.seconds = result, source, layout, hidden, seconds
        self.layouts = (layout, layout)
        self.draws: list[Draw] = []
        self.spreads: dict[int, Spread] = {}
        self.refusals: dict[int, str] = {}
        self.changes = False  # whether the port's results change from call to call

    def run_port(
        self, opening: dict[str, Any], sizes: Sequence[Shapes], seed: int | None, layout: str | None, *, fixed: bool
    ) -> list[tuple[int, list[Array] | str]]:
        """Load the port, draw inputs, and return its results on each, or why there are none."""
        answers: list[tuple[int, list[Array] | str]] = []
        try:
            with self._port(opening, layout) as port:
                self.result.seed = secrets.randbits(48) if seed is None else seed  # once the port is loaded
                self.draws, order = draw(sizes, self.result.seed, self.layout, fixed=fixed)
                port.seconds = self.seconds
                for number in order:
                    try:
                        given = moved(self.draws[number].arrays, *self.layouts)
                        answers.append((number, port.run(given)))
                    except RunError as error:
                        answers.append((number, str(error)))
        except RunError as error:
            self.result.reason = f"the port cannot be loaded: {error}"
            if "Permission denied" in str(error) and any(path in str(error) for path in self.hidden):
                self.result.cause = "the port reads the source, from which its process is kept"
                self.result.fix = "compute in the port itself, and copy what both need"
            self.result.verdict = "refused"
        return answers

    def _port(self, opening: dict[str, Any], layout: str | None) -> Runner:
        place, seconds = arguments.named(self.result.port), self.seconds * _STARTING
        port: Runner
        if place is not None:
            port = plain = PlainRunner(opening, seconds, place, self.hidden)
            own = layout or plain.adapter.native_layout
        else:
            port = Runner({**opening, "role": "port", "model": _absolute(self.result.port)}, seconds)
            own = port.do("open", layout=layout)["layout"]
        self.layouts = (self.layout, own if own in ("NCHW", "NHWC") else self.layout)
        self.result.separation = (
            "the kernel lets the port's process read its own folder and what is installed, and reach no other process"
            if port.confined
            else "the port's process is told nothing of the source, and Python refuses the source's files; this "
            "system's kernel cannot refuse them (Linux 5.13 and later can)"
        )
        return port

    def decide(self, answers: list[tuple[int, list[Array] | str]]) -> None:
        """Compare all results, and give the verdict."""
        if not answers:
            return
        for number in dict.fromkeys(number for number, _ in answers):
            self._run_source(number)
        outcomes = self._judge(answers)
        first: dict[int, list[Array] | str] = {}
        for (number, answer), outcome in zip(answers, outcomes, strict=True):
            self.result.trials.append(Trial(self.draws[number], number in first, outcome))
            same = _same(first.setdefault(number, answer), answer)
            self.changes = self.changes or (outcome.verdict == "differ" and not same)
        self._conclude()

    def _run_source(self, number: int) -> None:
        """Run the source on one input, and once more: its results must not change."""
        drawn = self.draws[number]
        try:
            results, again = (self.source.run(drawn.arrays) for _ in range(2))
        except RunError as error:
            if drawn.size == GIVEN:
                shapes = ", ".join(map(str, drawn.shapes))
                raise RequestError(f"the source does not take inputs of shape {shapes}: {error}") from None
            self.refusals[number] = str(error)
            return
        largest = max((float(np.max(np.abs(y), initial=0.0)) for y in results if y.dtype.kind == "f"), default=0.0)
        change = max((float(np.max(distances(x, y), initial=0.0)) for x, y in zip(results, again, strict=True)),
                     default=0.0)  # fmt: skip
        self.spreads[number] = Spread.of(results)
        if change > _CHANGES * largest:
            self.refusals[number] = "the source's results change from run to run: is it in training mode?"

    def _judge(self, answers: list[tuple[int, list[Array] | str]]) -> list[Outcome]:
        """Return the outcomes; the source is run again, its numbers moved, where results are not equal."""
        outcomes = [self._outcome(number, answer) for number, answer in answers]
        for rounds in range(_ROUNDS):
            open_ = [i for i, one in enumerate(outcomes) if one.difference and (rounds == 0 or _is_near(one))]
            which = sorted({answers[i][0] for i in open_})
            if not which:
                break
            runs = [2 * list(self.spreads).index(number) for number in which]
            self.source.do("move", which=runs, seed=rounds, wide=rounds == 1)
            for number, run in zip(which, runs, strict=True):
                self.spreads[number].moved = self.source.results(self.source.do("moved", which=run))
            for i in open_:
                outcomes[i] = self._outcome(*answers[i])
        return outcomes

    def _outcome(self, number: int, answer: list[Array] | str) -> Outcome:
        drawn = self.draws[number]
        if number in self.refusals:
            verdict = "not tried" if number not in self.spreads else "unknown"
            return Outcome(drawn.kind, verdict, reason=self.refusals[number])
        if isinstance(answer, str):
            shapes = ", ".join(map(str, drawn.shapes))
            return Outcome(drawn.kind, "differ", reason=f"on inputs of shape {shapes} the port has no result: {answer}")
        right = self.spreads[number]
        if any(y.dtype.kind == "c" for y in (*answer, *right.results)):
            return Outcome(drawn.kind, "unknown", reason="a result is not real")
        twice = Spread(right.results, [2 * far for far in right.moved])  # the port's own rounding is not asked of it
        own = [y.astype(x.dtype) for x, y in zip(right.results, answer, strict=False)] + answer[len(right.results) :]
        return judge_results(drawn.kind, twice, Spread.of(own), self.layouts)

    def _conclude(self) -> None:
        """Give the verdict: what differs refuses, and the numbers of usual size must agree."""
        result = self.result
        wrong = next((one for one in result.trials if one.outcome.verdict == "differ"), None)
        usual = [one for one in result.trials if one.draw.kind == NORMAL and one.draw.size == GIVEN]
        open_ = next((one for one in usual if one.outcome.verdict != "agree"), None)
        untried = dict.fromkeys(one.draw.size for one in result.trials if one.outcome.verdict == "not tried")
        result.notes += [f"not tried, as the source does not take it: {size}" for size in untried]
        unknown = [one for one in result.trials if one.outcome.verdict == "unknown" and one not in usual]
        result.notes += dict.fromkeys(f"{one.draw.kind}: {one.outcome.reason}" for one in unknown)
        if wrong is not None:
            result.verdict, again = "refused", ", sent again" * wrong.again
            result.reason = f"on {wrong.draw.kind}{again} ({_shape_words(wrong.draw)}): {wrong.outcome.reason}"
            result.cause, result.fix = CHANGING if self.changes else common_cause(result.trials)
            if wrong.outcome.difference is None and wrong.draw.size != GIVEN and result.cause:
                result.fix += "; a port for given sizes alone is judged with --fixed, and --shape for each of them"
        elif open_ is not None:
            result.reason = open_.outcome.reason
        else:
            result.verdict = "accepted"
            result.reason = (
                f"in {len(result.trials)} runs on inputs that were drawn after it was loaded, its results are the "
                f"source's within rounding"
            )

    def explain(self, opening: dict[str, Any], source: tuple[str, str]) -> None:
        """Let a comparison, in a process of its own, say which layer diverges; the verdict stands."""
        wrong = next(one for one in self.result.trials if one.outcome.verdict == "differ")
        readable = [*opening["readable"], source[1], *self.hidden]
        path = [*opening["path"], source[1]]
        request = {**opening, "readable": readable, "path": path, "role": "explain"}
        request["model"] = _absolute(self.result.source)
        try:
            with Runner(request, self.seconds * _STARTING) as runner:
                found = runner.do("explain", port=_absolute(self.result.port), forms=runner.write(wrong.draw.arrays),
                                  layouts=self.layouts, seconds=self.seconds / 4)  # fmt: skip
        except RunError as error:
            self.result.notes.append(f"not explained by layers: {error}")
            return
        words = {name: printable(found.get(name, ""), 1000) for name in ("verdict", "divergence", "cause", "fix")}
        if words["verdict"] == "differ":
            self.result.divergence = words["divergence"]
            if words["cause"] and not self.result.cause.startswith(BY_CALLS):  # a layer says more than numbers or sizes
                self.result.cause, self.result.fix = words["cause"], words["fix"]
        elif not self.result.cause:
            self.result.cause, self.result.fix = ELSEWHERE


def _same(first: list[Array] | str, again: list[Array] | str) -> bool:
    if isinstance(first, str) or isinstance(again, str):
        return first == again
    return len(first) == len(again) and all(x.tobytes() == y.tobytes() for x, y in zip(first, again, strict=True))


def _is_near(outcome: Outcome) -> bool:
    return outcome.verdict == "differ" and math.isfinite(outcome.ratio) and outcome.ratio < _NEAR


def _shape_words(drawn: Draw) -> str:
    return ", ".join("×".join(map(str, shape)) for shape in drawn.shapes)
