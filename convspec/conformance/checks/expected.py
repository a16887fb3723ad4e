"""The arrays of a case, and the oracle's expected results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convspec import reference
from convspec.conformance.trials.work_plan import FORWARD, GRADIENTS, Recipe
from convspec.contract.isolation import format_size, installed
from convspec.corpora import Case, arrays, gradient_arrays, uncompared
from convspec.errors import RecordError, ShapeError
from convspec.reference import EXACT_KINDS
from convspec.spec import ConvParams, Gradients, product

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, eq=False, slots=True)
class Data:
    """One kind of data of a case, with the expected result of each direction.

    Attributes:
        expected: empty if the case has no output.
        magnitude: empty if the data are exact.
        dy: for the gradients; None for the forward pass.
        ignore: True at the outputs that are not compared, None if all are.
    """

    params: ConvParams
    x: Array
    expected: dict[str, Array] = field(default_factory=dict)
    magnitude: dict[str, Array] = field(default_factory=dict)
    dy: Array | None = None
    ignore: NDArray[np.bool_] | None = None

    def named(self) -> dict[str, Array]:
        """Return every array by its name."""
        arrays = {"x": self.x, "kernel": self.params.kernel, "bias": self.params.bias}
        arrays |= {"dy": self.dy, "ignore": self.ignore}
        arrays |= {f"expected {direction}": array for direction, array in self.expected.items()}
        arrays |= {f"magnitude {direction}": array for direction, array in self.magnitude.items()}
        return {name: array for name, array in arrays.items() if array is not None}

    @classmethod
    def of(cls, named: dict[str, Array]) -> Data:
        """Return the data with these named arrays."""
        expected, magnitude = (
            {name.partition(" ")[2]: array for name, array in named.items() if name.startswith(f"{prefix} ")}
            for prefix in ("expected", "magnitude")
        )
        params = ConvParams(named["kernel"], named.get("bias"))
        return cls(params, named["x"], expected, magnitude, named.get("dy"), named.get("ignore"))


@dataclass(frozen=True, slots=True)
class Given:
    """Everything that the verdicts on a case need.

    Attributes:
        data: of each recipe.
        refusal: why the layer has no output for this input, None if it has one.
        failure: why there are no data: the layer is too large, the oracle failed, or a record is damaged.
    """

    data: dict[Recipe, Data]
    refusal: str | None = None
    failure: str | None = None


def given(case: Case, recipes: Sequence[Recipe]) -> Given:
    """Compute what the verdicts on a case need; a failure of the oracle is part of the result.

    Raises:
        OSError: if there is no room, which is not the case's fault.
    """
    needed, memory = expected_bytes(case, recipes), installed()
    try:
        if needed > 2 * memory:  # the estimate may be twice too large; an attempt may end the process
            raise MemoryError
        return Given(*compute(case, recipes))
    except OSError:
        raise
    except MemoryError:
        sizes = f"its arrays need about {format_size(needed)}, and this machine has {format_size(memory)}"
        return Given({}, failure=f"the layer is too large for the memory: {sizes}")
    except RecordError as error:
        return Given({}, failure=str(error))
    except Exception as error:  # noqa: BLE001 – any failure costs this case only and is reported with it
        return Given({}, failure=f"the oracle failed: {type(error).__name__}: {error}")


def expected_bytes(case: Case, recipes: Sequence[Recipe]) -> int:
    """Estimate the size of a case's arrays."""
    try:
        outputs = product(case.spec.output_shape(case.input_shape))
    except ShapeError:
        outputs = 0
    inputs = product(case.input_shape) + product(case.spec.kernel_shape)
    return sum(8 * (3 * inputs + outputs) if recipe.backward else 8 * (inputs + 2 * outputs) for recipe in recipes)


def compute(case: Case, recipes: Iterable[Recipe]) -> tuple[dict[Recipe, Data], str | None]:
    """Compute the data of each recipe, and why the case has no output (None if it has one)."""
    refusal = None
    try:
        case.spec.output_shape(case.input_shape)
    except ShapeError as error:
        refusal = str(error)
    data = {}
    for recipe in recipes:
        compute_data = _backward if recipe.backward else _forward
        data[recipe] = compute_data(case.varied(data=recipe.data), recipe, refusal is None)
    return data, refusal


def _arrays(case: Case, recipe: Recipe) -> tuple[ConvParams, Array, Array | None]:
    """Weights, input and dy (None for the forward pass), from a record or from the seed."""
    if recipe.inputs:
        from convspec.conformance.records import array_files

        return array_files.read_inputs(recipe.folder, recipe.inputs, case, backward=recipe.backward)
    return gradient_arrays(case) if recipe.backward else (*arrays(case), None)


def _forward(case: Case, recipe: Recipe, has_output: bool) -> Data:
    params, x, _ = _arrays(case, recipe)
    if not has_output:
        return Data(params, x)
    expected, magnitude = {FORWARD: reference.conv(case.spec, params, x)}, {}
    if case.data not in EXACT_KINDS:
        magnitude = {FORWARD: reference.magnitude(case.spec, params, x)}
    ignore = uncompared(case, params) if case.data == "nonfinite_kernel" else None
    return Data(params, x, expected, magnitude, ignore=ignore)


def _backward(case: Case, recipe: Recipe, _: bool) -> Data:
    params, x, dy = _arrays(case, recipe)
    assert dy is not None
    expected, magnitude = _by_direction(reference.gradients(case.spec, params, x, dy)), {}
    if case.data not in EXACT_KINDS:
        magnitude = _by_direction(reference.gradient_magnitudes(case.spec, params, x, dy))
    return Data(params, x, expected, magnitude, dy)


def _by_direction(gradients: Gradients) -> dict[str, Array]:
    return {name: array for name in GRADIENTS if (array := getattr(gradients, name)) is not None}
