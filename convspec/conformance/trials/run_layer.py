"""One run of a layer by an adapter: the layer is built, called or differentiated, and whatever goes wrong is noted."""

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
    """What came of a run.

    Attributes:
        results: arrays by direction, in canonical order; empty where the run failed.
        arithmetic: how the adapter says that it computes each of them.
        failure: type and first line of what was raised, empty where nothing was.
        message: of what was raised, as evidence.
        misplaced: whether the result came from another device or in another dtype than asked for.
        missing: why the framework has no such result, empty where it has one.
    """

    results: dict[str, Array] = field(default_factory=dict)
    arithmetic: dict[str, ComputePrecision] = field(default_factory=dict)
    failure: str = ""
    message: dict[str, str] = field(default_factory=dict)
    misplaced: bool = False
    missing: str = ""
    seconds: float = 0.0


def attempt(
    adapter: Adapter,
    unit: Unit,
    layout: str,
    directions: Sequence[str],
    params: ConvParams,
    x: Array,
    dy: Array | None = None,
) -> Attempt:
    """Build the layer and take its output, or where there is a ``dy`` its gradients; arrays in canonical order."""
    spec, target = unit.case.spec, unit.target
    arrays = [np.array(layouts.move(array, "NCHW", layout), order="C") for array in ((x,) if dy is None else (x, dy))]
    made, start = Attempt(), time.perf_counter()
    try:
        for direction in directions:
            request = LayerRequest(
                layout, target.dtype, target.device, target.precision, direction, unit.case.input_shape
            )
            made.arithmetic[direction] = adapter.compute_precision(spec, request)
        layer = adapter.build(spec, params, layout, target.dtype, target.device)
        found: Mapping[str, Any]
        if dy is None:
            found = {FORWARD: adapter.apply(layer, arrays[0], layout, target.device)}
        else:
            gradients = adapter.gradients(layer, arrays[0], arrays[1], layout, target.device)
            found = {name: getattr(gradients, name) for name in GRADIENTS}
        made.results = {name: _canonical(found[name], name, layout, spec.ndim) for name in directions}
    except UnsupportedError as error:
        made.missing = str(error)
    except PlacementError as error:
        made.failure, made.misplaced = f"PlacementError: {error}", True
    except Exception as error:  # noqa: BLE001 – whatever a framework raises is what is reported
        made.failure, made.message = first_line(error), {"message": str(error)[:_MESSAGE]}
    made.seconds = time.perf_counter() - start
    return made


def _canonical(array: Any, direction: str, layout: str, ndim: int) -> Array:
    """The result in canonical order; one of another rank is left as it is, for the verdict to name its shape."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"the adapter gave a {type(array).__name__}, not a NumPy array")
    if direction in ("kernel", "bias") or array.ndim != ndim + 2:
        return array
    return layouts.move(array, layout, "NCHW")


def first_line(error: BaseException) -> str:
    """Type and first line of an exception's message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:500]}" if lines else type(error).__name__
