"""One run of a layer by an adapter: build it, call or differentiate it, and note every failure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec.conformance.trials.work_plan import FORWARD, GRADIENTS
from convspec.contract import LayerRequest
from convspec.errors import PlacementError, UnsupportedError
from convspec.spec import layouts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec.conformance.trials.work_plan import Unit
    from convspec.contract import Adapter
    from convspec.spec import ComputePrecision, ConvParams

    Array = NDArray[Any]

_MESSAGE = 2000  # characters of an exception's message that are kept


@dataclass(slots=True)
class Attempt:
    """The results of a run, or its failure.

    Attributes:
        results: arrays by direction, in canonical order; empty if the run failed.
        arithmetic: the declared compute precision of each result.
        failure: type and first line of the exception, empty without one.
        message: of the exception, as evidence.
        misplaced: whether device or dtype of the result differ from the request.
        missing: why the framework does not support this result, empty if it does.
    """

    results: dict[str, Array] = field(default_factory=dict)
    arithmetic: dict[str, ComputePrecision] = field(default_factory=dict)
    failure: str = ""
    message: dict[str, str] = field(default_factory=dict)
    misplaced: bool = False
    missing: str = ""
    seconds: float = 0.0


def try_run(
    adapter: Adapter,
    unit: Unit,
    layout: str,
    directions: Sequence[str],
    params: ConvParams,
    x: Array,
    dy: Array | None = None,
) -> Attempt:
    """Build the layer and compute its output, or with ``dy`` its gradients; arrays in canonical order."""
    spec, target = unit.case.spec, unit.target
    arrays = [
        np.array(layouts.move_axes(array, "NCHW", layout), order="C") for array in ((x,) if dy is None else (x, dy))
    ]
    attempt, start = Attempt(), time.perf_counter()
    try:
        for direction in directions:
            request = LayerRequest(
                layout, target.dtype, target.device, target.precision, direction, unit.case.input_shape
            )
            attempt.arithmetic[direction] = adapter.compute_precision(spec, request)
        layer = adapter.build(spec, params, layout, target.dtype, target.device)
        results: Mapping[str, Any]
        if dy is None:
            results = {FORWARD: adapter.apply(layer, arrays[0], layout, target.device)}
        else:
            gradients = adapter.gradients(layer, arrays[0], arrays[1], layout, target.device)
            results = {name: getattr(gradients, name) for name in GRADIENTS}
        attempt.results = {name: _canonical(results[name], name, layout, spec.ndim) for name in directions}
    except UnsupportedError as error:
        attempt.missing = str(error)
    except PlacementError as error:
        attempt.failure, attempt.misplaced = f"PlacementError: {error}", True
    except Exception as error:  # noqa: BLE001 – any exception of a framework is reported
        attempt.failure, attempt.message = first_line(error), {"message": str(error)[:_MESSAGE]}
    attempt.seconds = time.perf_counter() - start
    return attempt


def _canonical(array: Any, direction: str, layout: str, ndim: int) -> Array:
    """Return the result in canonical order; unchanged if its rank is wrong, so that the verdict names its shape."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"the adapter returned {type(array).__name__}, expected a NumPy array")
    if direction in ("kernel", "bias") or array.ndim != ndim + 2:
        return array
    return layouts.move_axes(array, layout, "NCHW")


def first_line(error: BaseException) -> str:
    """Type and first line of an exception's message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:500]}" if lines else type(error).__name__
