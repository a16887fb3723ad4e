"""The checks: what is tried on one case with one adapter, and why."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec import layouts, numerics, verdict
from convspec.errors import PlacementError
from convspec.plan import Support

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec.conformance.bundles import Data
    from convspec.conformance.units import Trial, Unit
    from convspec.contract import Adapter

    Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is checked; ``data`` is the kind of data that it needs."""

    id: str
    title: str
    data: str
    rationale: str


_MESSAGE = 2000  # characters of an exception's message that are kept

CHECKS = (
    Check(
        "forward-exact",
        "the output on integers is exact",
        "exact",
        "Integers small enough for every partial sum to be representable: any correct implementation, in whatever "
        "order it sums, gives exactly the oracle's numbers, so structure is judged with a tolerance of zero.",
    ),
    Check(
        "forward-random",
        "the output on random numbers keeps the derived bounds",
        "random",
        "Normal random numbers show which arithmetic was used: an error above the bound of the declared one proves "
        "a wrong result or a coarser arithmetic.",
    ),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on one trial, JSON-ready but for the trial itself."""

    trial: Trial
    support: str
    support_reason: str
    verdict: str
    reason: str
    accuracy_class: str | None
    evidence: dict[str, Any]
    seconds: float


def outcomes(adapter: Adapter, unit: Unit, data: Mapping[str, Data], refusal: str | None) -> Iterator[Outcome]:
    """The verdict on each trial of the unit, as it is reached."""
    for layout, trials in groupby(unit.trials, key=lambda trial: trial.layout):
        try:
            support = _support(adapter, unit, layout)
        except Exception as error:  # noqa: BLE001 – an adapter's fault costs its own trials
            reason = f"support: {first_line(error)}"
            yield from (Outcome(trial, "unknown", "", "error", reason, None, {}, 0.0) for trial in trials)
            continue
        for trial in trials:
            if support == "unsupported":
                yield Outcome(trial, str(support), support.reason, "unsupported", support.reason, None, {}, 0.0)
                continue
            yield _outcome(adapter, unit, trial, support, data[trial.data], refusal)


def _support(adapter: Adapter, unit: Unit, layout: str) -> Support:
    if layout not in adapter.layouts:
        return Support("unsupported", f"{adapter.name} has no layout {layout}; it has {', '.join(adapter.layouts)}")
    shape = layouts.shape_in(unit.case.input_shape, layout, unit.case.spec.ndim)
    return adapter.support(unit.case.spec, layout, unit.case.dtype, unit.target.device, shape)


def _outcome(adapter: Adapter, unit: Unit, trial: Trial, support: Support, data: Data, refusal: str | None) -> Outcome:
    spec, dtype, device = unit.case.spec, unit.case.dtype, unit.target.device
    x = np.array(
        data.x.transpose(layouts.permutation("NC*", layouts.order(trial.layout, spec.ndim), spec.ndim)), order="C"
    )
    start = time.perf_counter()
    y: Any = None
    failure, message = "", {}
    try:
        arithmetic = adapter.arithmetic(spec, dtype, device, unit.target.precision)
        layer = adapter.build(spec, data.params, trial.layout, dtype, device)
        y = adapter.apply(layer, x, trial.layout, device)
        if not isinstance(y, np.ndarray):
            raise TypeError(f"the adapter gave a {type(y).__name__}, not a NumPy array")
    except PlacementError as error:
        failure, refusal = f"PlacementError: {error}", None  # the right numbers from the wrong place are no refusal
    except Exception as error:  # noqa: BLE001 – whatever a framework raises is what is reported
        failure, message = first_line(error), {"message": str(error)[:_MESSAGE]}
    seconds = time.perf_counter() - start

    def outcome(name: str, reason: str, accuracy: str | None = None, evidence: dict[str, Any] | None = None) -> Outcome:
        return Outcome(trial, str(support), support.reason, name, reason, accuracy, evidence or {}, seconds)

    if refusal is not None:
        if failure:
            return outcome("agree", f"refused, as it must be: {refusal}", None, {"refusal": failure})
        return outcome("disagree", f"gave a result where there is none: {refusal}", None, {"shape": list(y.shape)})
    if failure:
        return outcome("error", failure, None, message)
    assert data.expected is not None
    judged = verdict.judge(
        _canonical(y, trial.layout, spec.ndim),
        data.expected,
        data.magnitude,
        dtype=dtype,
        data=trial.data,
        products=numerics.products(spec, unit.case.input_shape),
        arithmetic=arithmetic,
        ignore=data.ignore,
    )
    return outcome(judged.verdict, judged.reason, judged.accuracy_class, dict(judged.evidence))


def _canonical(y: Array, layout: str, ndim: int) -> Array:
    """The output in canonical order; one of another rank is left as it is, for the verdict to name its shape."""
    if y.ndim != ndim + 2:
        return y
    return y.transpose(layouts.permutation(layouts.order(layout, ndim), "NC*", ndim))


def first_line(error: BaseException) -> str:
    """Type and first line of an exception's message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:500]}" if lines else type(error).__name__
