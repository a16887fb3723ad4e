"""The search: every mistake of the catalogue, then every pair, is applied to the layer and compared with the numbers.

A wrong layer is computed at a few elements first; only a layer that explains all of them is computed as a whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convspec.diagnosis.error_location import locate
from convspec.diagnosis.evidence import Evidence
from convspec.diagnosis.faulty_layer import Array, Layer, Variants, clear_caches, right_layer
from convspec.diagnosis.findings import Diagnosis, Finding
from convspec.diagnosis.integers import diagnose_integers
from convspec.diagnosis.mistakes.catalogue import Mistake, catalogue, theme_order
from convspec.errors import ShapeError
from convspec.reference.quantized import QuantizedLayer
from convspec.spec import ConvParams, ConvSpec, QuantSpec, layouts, representable

NEAREST = 5
SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A wrong layer, and the fraction of a few elements that it leaves unexplained; None if it has another shape."""

    kinds: tuple[Mistake, ...]
    what: str
    layer: Layer
    unexplained: float | None


def diagnose(
    spec: ConvSpec,
    params: ConvParams,
    x: Array,
    actual: Array,
    *,
    layout: str = "NCHW",
    dtype: str | None = None,
    seconds: float = SECONDS,
    quant: QuantSpec | None = None,
) -> Diagnosis:
    """Find the known mistakes that turn this layer and input into the numbers ``actual``.

    The search needs numbers only, so ``actual`` may come from any black box.

    Args:
        spec: the intended layer.
        params: its kernel and bias, in canonical order.
        x: input in ``layout``.
        actual: the actual output in ``layout``; or flattened, ``(N, features)``, in the order of ``layout``.
        layout: layout of ``x`` and ``actual``.
        dtype: format of the computation, which decides what counts as rounding; by default that of ``actual``.
        seconds: time limit for the search among pairs of mistakes; single mistakes are always tried.
        quant: of a quantised layer, whose parameters, input and output are integers; pairs are not tried.

    Raises:
        ShapeError, ParamsError: if the right layer itself cannot be computed from ``params`` and ``x``.
    """
    spec.output_shape(np.shape(x), layout)
    canonical = layouts.move_axes(np.asarray(x), layout, "NC*")
    if quant is not None:
        integers = QuantizedLayer(spec, quant.check(spec), canonical, params.check(spec).kernel, params.bias)
        return diagnose_integers(integers, _reorder(np.asarray(actual), spec.ndim, layout))
    actual, named = _to_numpy_format(actual)
    flat = actual.ndim == 2
    layer = right_layer(spec, params, canonical, flat=flat)
    numbers = _unflatten(actual, layer, layout) if flat else _reorder(actual, spec.ndim, layout)
    evidence = Evidence(layer, numbers, dtype or named or _format(numbers, params, canonical))
    if evidence.right.explains:
        return Diagnosis(agrees=True)
    try:
        return _Search(evidence, time.monotonic() + seconds).run()
    finally:
        clear_caches()


def _to_numpy_format(actual: Array) -> tuple[Array, str | None]:
    """Return the numbers in a format of NumPy, and the name of their own format if NumPy lacks it."""
    numbers = np.asarray(actual)
    if numbers.dtype.name == "bfloat16":
        return numbers.astype(np.float32), "bfloat16"
    return (numbers, None) if numbers.dtype.kind == "f" else (numbers.astype(np.float64), None)


def _reorder(actual: Array, ndim: int, layout: str) -> Array:
    if actual.ndim != ndim + 2:
        raise ShapeError(f"actual of shape {actual.shape} must have {ndim + 2} axes like the layer's output, or 2")
    return layouts.move_axes(actual, layout, "NC*")


def _unflatten(actual: Array, layer: Layer, layout: str) -> Array:
    """Return a flattened output as ``(N, O, *out)``."""
    shape = layouts.shape_in(layer.output_shape, layout, layer.spec.ndim)
    if actual.size != np.prod(shape) or len(actual) != shape[0]:
        raise ShapeError(f"actual of shape {actual.shape} is not a flattened output of shape {shape}")
    return layouts.move_axes(actual.reshape(shape), layout, "NC*")


def _format(actual: Array, params: ConvParams, x: Array) -> str:
    """Return the format of the numbers, whatever array holds them; integers, which fit all, count as float32."""
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
    """The numbers to explain, and the candidates tried so far."""

    evidence: Evidence
    deadline: float
    tried: int = 0
    complete: bool = True
    rejected: list[_Candidate] = field(default_factory=list)

    def run(self) -> Diagnosis:
        evidence = self.evidence
        singles = list(self.singles((), "", evidence.layer))
        # a fit explains easily: it counts only if nothing else explains the numbers
        findings = self.confirm(singles) or self.confirm(self.fits())[:1]
        if not findings and evidence.right.worst <= 1:
            # only the statistics are odd, and no known arithmetic makes them so: nothing proves these numbers wrong
            return Diagnosis(agrees=True)
        if not findings:
            findings = self.confirm(self.pairs(singles))
        ratios = evidence.ratios()
        return Diagnosis(
            agrees=False, findings=_distinct(sorted(findings, key=_rank)), nearest=() if findings else self.nearest(),
            location=None if ratios is None else locate(ratios, evidence.right.bound, evidence.layer), tried=self.tried,
            complete=self.complete or bool(findings), shapes=(evidence.expected.shape, evidence.shape),
        )  # fmt: skip

    def candidates(self, kinds: tuple[Mistake, ...], what: str, variants: Variants) -> Iterator[_Candidate]:
        for phrase, wrong in variants:
            self.tried += 1
            yield _Candidate(kinds, f"{what}; {phrase}" if what else phrase, wrong, self.evidence.screen(wrong))

    def singles(self, kinds: tuple[Mistake, ...], what: str, layer: Layer) -> Iterator[_Candidate]:
        """Yield every mistake, but those of ``kinds``, applied to a layer that has ``kinds``."""
        for kind in catalogue():
            if kind not in kinds:
                yield from self.candidates((*kinds, kind), what, kind.apply(layer))

    def fits(self) -> Iterator[_Candidate]:
        """Yield the mistakes with numbers of their own, fitted to the actual output."""
        evidence = self.evidence
        if evidence.shape == evidence.expected.shape:
            for kind in catalogue():
                yield from self.candidates((kind,), "", kind.fit(evidence.layer, evidence.expected, evidence.actual))

    def pairs(self, singles: Sequence[_Candidate]) -> Iterator[_Candidate]:
        """Yield two mistakes at once, in both orders; first those whose first mistake explains most.

        Once a pair fits, only pairs that begin with either of its mistakes follow, as they may fit too.
        """
        wanted: set[Mistake] | None = None
        for single in sorted(singles, key=lambda one: (one.unexplained is None, one.unexplained)):
            if wanted is not None and single.kinds[0] not in wanted:
                continue
            for pair in self.singles(single.kinds, single.what, single.layer):
                if time.monotonic() > self.deadline:
                    self.complete = False
                    return
                if pair.unexplained == 0 and wanted is None and self.confirm([pair]):
                    wanted = set(pair.kinds)
                yield pair

    def confirm(self, candidates: Iterable[_Candidate]) -> list[Finding]:
        """Return findings for the candidates that explain every element."""
        findings = []
        for candidate in candidates:
            finding = self.finding(candidate) if candidate.unexplained == 0 else None
            if finding is not None and finding.measured.explains:
                findings.append(finding)
            elif candidate.unexplained != 0 or finding is not None:
                self.reject(candidate)
        return findings

    def finding(self, candidate: _Candidate) -> Finding | None:
        """Return the candidate with its distance; None if it is impossible or gives the right numbers."""
        distance = self.evidence.distance(candidate.layer)
        return None if distance is None else Finding(candidate.kinds, candidate.what, distance, candidate.layer)

    def reject(self, candidate: _Candidate) -> None:
        """Keep the rejected candidates that come nearest."""
        if candidate.unexplained is not None and candidate.unexplained < 1:
            self.rejected.append(candidate)
            if len(self.rejected) > 20 * NEAREST:
                self.rejected = self._best_rejected()

    def _best_rejected(self) -> list[_Candidate]:
        return sorted(self.rejected, key=lambda one: (one.unexplained, len(one.kinds)))[: 4 * NEAREST]

    def nearest(self) -> tuple[Finding, ...]:
        """Return the mistakes that explain most of the elements, but not all."""
        findings = [finding for finding in map(self.finding, self._best_rejected())
                    if finding is not None and finding.wrong < self.evidence.right.wrong]  # fmt: skip
        return _distinct(sorted(findings, key=lambda f: (f.wrong, len(f.mistakes), f.distance)))[:NEAREST]


def _rank(finding: Finding) -> tuple[Any, ...]:
    """Order findings by the number of mistakes, then as in the catalogue."""
    return len(finding.mistakes), *map(theme_order, finding.mistakes)


def _distinct(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the first variant of each mistake or pair."""
    first: dict[frozenset[str], Finding] = {}
    for finding in findings:
        first.setdefault(frozenset(kind.id for kind in finding.mistakes), finding)
    return tuple(first.values())
