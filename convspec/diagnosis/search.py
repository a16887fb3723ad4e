"""The search: every mistake of the catalogue, then every two of them, made in the layer and compared with the numbers.

A wrong layer is computed at a few elements first; only one that explains them all is computed as a whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec.diagnosis.error_location import locate
from convspec.diagnosis.evidence import IMPOSSIBLE, Evidence
from convspec.diagnosis.faulty_layer import forget, right
from convspec.diagnosis.findings import Diagnosis, Finding
from convspec.diagnosis.mistakes.catalogue import Fitted, Mistake, catalogue, theme_of
from convspec.errors import ShapeError
from convspec.spec import layouts, representable

if TYPE_CHECKING:
    from convspec.diagnosis.faulty_layer import Array, Layer
    from convspec.spec import ConvParams, ConvSpec

NEAREST = 5
SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class _Try:
    """A wrong layer, and how much of a few elements it leaves unexplained; None: it has another shape."""

    kinds: tuple[Mistake, ...]
    what: str
    layer: Layer
    missed: float | None


def diagnose(
    spec: ConvSpec,
    params: ConvParams,
    x: Array,
    actual: Array,
    *,
    layout: str = "NCHW",
    dtype: str | None = None,
    seconds: float = SECONDS,
) -> Diagnosis:
    """Which known mistakes turn this layer and input into the numbers ``actual``.

    It works from numbers alone, so ``actual`` may come from any black box.

    Args:
        spec: the layer that was meant.
        params: its kernel and bias, in canonical order.
        x: input in ``layout``.
        actual: what came out, in ``layout``; or flattened, ``(N, features)``, in the order that ``layout`` gives.
        layout: of ``x`` and ``actual``.
        dtype: format that the numbers were computed in, which decides what counts as rounding; by default that of
            ``actual``.
        seconds: time for the search among pairs of mistakes; single mistakes are always tried.

    Raises:
        ShapeError, ParamsError: where the right layer itself cannot be computed from ``params`` and ``x``.
    """
    spec.output_shape(np.shape(x), layout)
    canonical = layouts.move_axes(np.asarray(x), layout, "NC*")
    actual, named = _plain(actual)
    flat = actual.ndim == 2
    layer = right(spec, params, canonical, flat=flat)
    numbers = _unflattened(actual, layer, layout) if flat else _reordered(actual, spec.ndim, layout)
    evidence = Evidence(layer, numbers, dtype or named or _format(numbers, params, canonical))
    if evidence.right.explains:
        return Diagnosis(agrees=True)
    try:
        return _Search(evidence, time.monotonic() + seconds).run()
    finally:
        forget()


def _plain(actual: Array) -> tuple[Array, str | None]:
    """The numbers in a format of NumPy's own, and the name of theirs where NumPy has it not."""
    numbers = np.asarray(actual)
    if numbers.dtype.name == "bfloat16":
        return numbers.astype(np.float32), "bfloat16"
    return (numbers, None) if numbers.dtype.kind == "f" else (numbers.astype(np.float64), None)


def _reordered(actual: Array, ndim: int, layout: str) -> Array:
    if actual.ndim != ndim + 2:
        raise ShapeError(f"actual of shape {actual.shape} must have {ndim + 2} axes like the layer's output, or 2")
    return layouts.move_axes(actual, layout, "NC*")


def _unflattened(actual: Array, layer: Layer, layout: str) -> Array:
    """A flattened output as ``(N, O, *out)``."""
    shape = layouts.shape_in(layer.output_shape, layout, layer.spec.ndim)
    if actual.size != np.prod(shape) or len(actual) != shape[0]:
        raise ShapeError(f"actual of shape {actual.shape} is no flattened output of shape {shape}")
    return layouts.move_axes(actual.reshape(shape), layout, "NC*")


def _format(actual: Array, params: ConvParams, x: Array) -> str:
    """The format that numbers are in, however they are carried; small integers, which are in all, count as float32."""
    if actual.dtype == np.float16:
        return "float16"
    if actual.dtype == np.float64 and np.any(actual != _single(actual)):
        return "float64"
    carried = [_single(np.asarray(a)) for a in (actual, params.kernel, x)]
    whole = all(np.array_equal(a, np.rint(a), equal_nan=True) for a in carried)
    return "bfloat16" if not whole and all(representable(a, "bfloat16") for a in carried) else "float32"


def _single(values: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, np.float32)


@dataclass
class _Search:
    """The numbers to explain, and what has been tried to explain them."""

    evidence: Evidence
    deadline: float
    tried: int = 0
    complete: bool = True
    missed: list[_Try] = field(default_factory=list)

    def run(self) -> Diagnosis:
        evidence = self.evidence
        singles = list(self.tries((), "", evidence.layer))
        # what is fitted explains easily: only where nothing else does
        found = self.confirmed(singles) or self.confirmed(self.fitted())[:1]
        if not found and evidence.right.worst <= 1:
            # only the statistics are odd, and no known arithmetic makes them so: nothing proves these numbers wrong
            return Diagnosis(agrees=True)
        if not found:
            found = self.confirmed(self.pairs(singles))
        ratios = evidence.ratios()
        return Diagnosis(
            agrees=False,
            findings=_distinct(sorted(found, key=_rank)),
            nearest=() if found else self.nearest(),
            location=None if ratios is None else locate(ratios, evidence.right.bound, evidence.layer),
            tried=self.tried,
            complete=self.complete or bool(found),
            shapes=(evidence.expected.shape, evidence.shape),
        )

    def tries(self, kinds: tuple[Mistake, ...], what: str, layer: Layer) -> Iterator[_Try]:
        """Every mistake made once (more) in a layer."""
        for kind in catalogue():
            if kind in kinds:
                continue
            for phrase, wrong in _made(kind.made_in(layer)):
                self.tried += 1
                yield _Try((*kinds, kind), f"{what}; {phrase}" if what else phrase, wrong, self.evidence.screen(wrong))

    def fitted(self) -> Iterator[_Try]:
        evidence = self.evidence
        for kind in catalogue():
            if isinstance(kind, Fitted) and evidence.shape == evidence.expected.shape:
                for phrase, wrong in _made(kind.fitted_to(evidence.layer, evidence.expected, evidence.actual)):
                    self.tried += 1
                    yield _Try((kind,), phrase, wrong, evidence.screen(wrong))

    def pairs(self, singles: Sequence[_Try]) -> Iterator[_Try]:
        """Two mistakes at once, in both orders; first those whose one half explains most.

        Once a pair fits, those that begin with either of its mistakes are still tried, as they may fit too.
        """
        wanted: set[Mistake] | None = None
        for single in sorted(singles, key=lambda t: (t.missed is None, t.missed)):
            if wanted is not None and single.kinds[0] not in wanted:
                continue
            for pair in self.tries(single.kinds, single.what, single.layer):
                if time.monotonic() > self.deadline:
                    self.complete = False
                    return
                if pair.missed == 0 and wanted is None and self.confirmed([pair]):
                    wanted = set(pair.kinds)
                yield pair

    def confirmed(self, tries: Any) -> list[Finding]:
        """Findings among the tries: those that explain every element."""
        found = []
        for one in tries:
            if one.missed != 0:
                self.remember(one)
                continue
            distance = self.evidence.distance(one.layer)
            if distance is not None and distance.explains:
                found.append(Finding(one.kinds, one.what, distance, one.layer))
            elif distance is not None:
                self.remember(one)
        return found

    def remember(self, one: _Try) -> None:
        """Keep the tries that come nearest."""
        if one.missed is not None and one.missed < 1:
            self.missed.append(one)
            if len(self.missed) > 20 * NEAREST:
                self.missed = self._by_misses()[: 4 * NEAREST]

    def _by_misses(self) -> list[_Try]:
        return sorted(self.missed, key=lambda one: (one.missed, len(one.kinds)))

    def nearest(self) -> tuple[Finding, ...]:
        """The mistakes that explain most of the elements, of those that do not explain all."""
        found = []
        for one in self._by_misses()[: 4 * NEAREST]:
            distance = self.evidence.distance(one.layer)
            if distance is not None and distance.wrong < self.evidence.right.wrong:
                found.append(Finding(one.kinds, one.what, distance, one.layer))
        return _distinct(sorted(found, key=lambda f: (f.wrong, len(f.mistakes), f.distance)))[:NEAREST]


def _made(wrong: Iterator[tuple[str, Layer]]) -> Iterator[tuple[str, Layer]]:
    """The wrong layers of one mistake; one that would break the rules of specs is no layer, nor what follows it."""
    while True:
        try:
            yield next(wrong)
        except (StopIteration, *IMPOSSIBLE):
            return


def _rank(finding: Finding) -> tuple[Any, ...]:
    """Few mistakes before many, then in the order of the catalogue."""
    return len(finding.mistakes), *map(theme_of, finding.mistakes)


def _distinct(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Each mistake, or pair, once: its first variant."""
    best: dict[frozenset[str], Finding] = {}
    for finding in findings:
        best.setdefault(frozenset(kind.id for kind in finding.mistakes), finding)
    return tuple(best.values())
