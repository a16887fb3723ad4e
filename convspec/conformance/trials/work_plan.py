"""The work plan: which adapter runs which case, on which device, in which trials."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

from convspec.conformance.trials.metamorphic import METAMORPHIC, RELATIONS
from convspec.corpora import DATA_KINDS, QUANTIZED_KINDS, Case
from convspec.errors import ShapeError
from convspec.spec import DIRECTIONS, LAYOUTS, ComputePrecision, product

FORWARD, *GRADIENTS = DIRECTIONS
PROBE = "probe"
GRADIENT_DATA = ("exact", "random")
KINDS = (*DATA_KINDS, PROBE)
ASKED = (*KINDS, *QUANTIZED_KINDS, METAMORPHIC, *RELATIONS)  # valid in a request, in the place of a kind of data
_PARTS = 16  # a problem larger than this part of a worker's share is large
PRECISIONS = ("shipped", "strict")

Key = tuple[int, str, str, str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Target:
    """An adapter with the settings of a whole worker process.

    Attributes:
        request: the adapter's name in the request: ``"keras"``, ``"torch:channels_last"``, ``"module:OBJECT"``.
        dtype: of the layers.
        device: ``"cpu"``, ``"cuda"``, ….
        precision: ``"shipped"`` or ``"strict"``.
    """

    request: str
    dtype: str = "float32"
    device: str = "cpu"
    precision: str = "shipped"


class Recipe(NamedTuple):
    """The arrays of one run of a layer: a kind of data, for the forward pass or for all gradients at once.

    Attributes:
        folder: of the record with the arrays, empty where the seed determines them.
        inputs: the SHA-256 that names their file.
    """

    data: str
    backward: bool = False
    folder: str = ""
    inputs: str = ""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The result of a trial in another run.

    Attributes:
        folder: of the record.
        inputs: the SHA-256 that names the file of weights and inputs.
        outputs: the SHA-256 that names the file of the result.
        by: the adapter's name in the request.
        device: of the recorded run, like precision.
        arithmetic: its declared compute precision.
        verdict: of the recorded run.
        gap: that declared the result there.
    """

    folder: str
    inputs: str
    outputs: str
    by: str
    device: str
    precision: str
    arithmetic: ComputePrecision
    verdict: str
    gap: str | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """One verdict of a unit: a layout, a kind of data, and a direction.

    Attributes:
        recorded: the recorded result to compare with; None for the oracle.
    """

    layout: str
    data: str
    direction: str = FORWARD
    recorded: Recorded | None = None

    @property
    def recipe(self) -> Recipe:
        backward, recorded = self.direction != FORWARD, self.recorded
        return Recipe(self.data, backward, *((recorded.folder, recorded.inputs) if recorded else ()))


@dataclass(frozen=True, slots=True)
class RecordFolder:
    """The folder for the recorded arrays, and the limit in bytes that all workers share."""

    folder: str
    limit: int


@dataclass(frozen=True, slots=True)
class Unit:
    """The work that a worker gets at once: one case of one dtype on one target.

    The trials are in the order of layouts, so that compiled code serves every kind of data, and then of recipes, so
    that gradients are computed once. If the worker dies, a new unit has the trials without a verdict. ``index`` is the
    position of the case in the run.
    """

    index: int
    case: Case
    target: Target
    trials: tuple[Trial, ...]
    record: RecordFolder | None = None

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The recipes that need the float oracle: not probes, relations, or quantised layers."""
        distinct = dict.fromkeys(trial.recipe for trial in self.trials)
        return tuple(recipe for recipe in distinct if recipe.data in DATA_KINDS)

    def key(self, trial: Trial) -> Key:
        """The identity of that trial's verdict within a run."""
        target = self.target
        position = (self.index, target.request, target.dtype, target.device, target.precision)
        return (*position, trial.layout, trial.data, trial.direction)

    def after(self, done: int) -> Unit:
        """Return the unit without its first ``done`` trials."""
        return replace(self, trials=self.trials[done:])

    def case_of(self, trial: Trial) -> Case:
        """Return the case with the trial's layout and data and the target's device."""
        return self.case.varied(layout=trial.layout, device=self.target.device, data=trial.data)


def expand_relations(data: Sequence[str]) -> tuple[str, ...]:
    """Replace ``"metamorphic"`` by every relation; return each kind of data once."""
    kinds = (kind for name in data for kind in (RELATIONS if name == METAMORPHIC else (name,)))
    return tuple(dict.fromkeys(kinds))


@dataclass(frozen=True, slots=True)
class Problem:
    """One case of one dtype, with every unit that needs its arrays and its oracle.

    Attributes:
        shared: whether several targets need them, in this session of a run or another.
    """

    case: Case
    units: tuple[Unit, ...]
    shared: bool = False

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The recipes that need the oracle."""
        return tuple(dict.fromkeys(recipe for unit in self.units for recipe in unit.recipes))

    def work(self) -> int:
        """The number of multiplications in all trials; 0 where the case has no output."""
        try:
            once = self.case.spec.macs(self.case.input_shape)
        except ShapeError:
            return 0
        return once * sum(len(unit.trials) for unit in self.units)

    def recorded(self, folder: RecordFolder) -> Problem:
        """Return the problem with its arrays recorded in a folder."""
        return replace(self, units=tuple(replace(unit, record=folder) for unit in self.units))

    def without(self, done: Set[Key]) -> Problem:
        """Return the problem without the trials in ``done``."""
        left = (replace(u, trials=tuple(t for t in u.trials if u.key(t) not in done)) for u in self.units)
        return replace(self, units=tuple(unit for unit in left if unit.trials))


@dataclass(frozen=True, slots=True)
class Selection:
    """The trials of each case. None means the case's own dtype or device, and both layouts."""

    requests: tuple[str, ...]
    layouts: tuple[str, ...] | None = None
    dtypes: tuple[str, ...] | None = None
    devices: tuple[str, ...] | None = None
    precisions: tuple[str, ...] = ("shipped",)
    data: tuple[str, ...] = ("exact", "random")
    gradients: bool = False

    def problems(self, cases: Sequence[Case]) -> Iterator[Problem]:
        """Yield the work dtype by dtype, so that few processes are alive at a time."""
        for dtype in self.dtypes or tuple(dict.fromkeys(case.dtype for case in cases)):
            for index, case in enumerate(cases):
                if (self.dtypes or case.dtype == dtype) and (trials := tuple(self._trials(case))):
                    own = case if case.dtype == dtype else case.varied(dtype=dtype)
                    units = tuple(self._units(index, own, trials))
                    yield Problem(own, units, shared=len(units) > 1)

    def _units(self, index: int, case: Case, trials: tuple[Trial, ...]) -> Iterator[Unit]:
        for device in self.devices or (case.device,):
            for request in self.requests:
                for precision in self.precisions:
                    yield Unit(index, case, Target(request, case.dtype, device, precision), trials)

    def _trials(self, case: Case) -> Iterator[Trial]:
        """Yield the trials of a case; one without an output has neither gradients, probes, relations nor integers.

        A case of a quantised layer is run as such, whatever kinds of data are asked for.
        """
        try:
            outputs: int | None = product(case.spec.output_shape(case.input_shape))
        except ShapeError:
            outputs = None
        directions = [d for d in GRADIENTS if d != "bias" or case.spec.bias] if self.gradients else []
        for layout in self.layouts or LAYOUTS:
            asked = (case.data,) if case.data in QUANTIZED_KINDS else self.data
            for data in asked:
                if (
                    (outputs and RELATIONS[data].applies(case))
                    if data in RELATIONS
                    else (data in DATA_KINDS or outputs)
                ):
                    yield Trial(layout, data)
            for data in asked if outputs is not None else ():
                if data in GRADIENT_DATA:
                    yield from (Trial(layout, data, direction) for direction in directions)


def large_first(problems: Callable[[], Iterator[Problem]], jobs: int) -> Iterator[Problem]:
    """Move the large problems near the end to the front, where they would keep one worker busy after all others.

    All others stay in order: the pace so far predicts the time left, and two large layers at a time are slow on a
    shared cache.
    """
    work = [problem.work() for problem in problems()]
    large, early, left = sum(work) / (_PARTS * jobs), set(), 0
    for index in reversed(range(len(work))):
        if work[index] > large and work[index] * (jobs - 1) * 2 > left:
            early.add(index)
        else:
            left += work[index]
    if not early:
        return problems()
    first = (problem for index, problem in enumerate(problems()) if index in early)
    return chain(first, (problem for index, problem in enumerate(problems()) if index not in early))
