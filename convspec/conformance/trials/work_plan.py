"""The plan of work: which adapter runs which case, where, and in which trials."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

from convspec.conformance.trials.metamorphic import METAMORPHIC, RELATIONS
from convspec.corpora import DATA_KINDS, Case
from convspec.errors import ShapeError
from convspec.spec import DIRECTIONS, LAYOUTS, ComputePrecision, product

FORWARD, *GRADIENTS = DIRECTIONS
PROBE = "probe"
GRADIENT_DATA = ("exact", "random")
KINDS = (*DATA_KINDS, PROBE)
ASKED = (*KINDS, METAMORPHIC, *RELATIONS)  # what may be asked for: a relation stands where a kind of data does
_PARTS = 16  # of a worker's share of the work: what is larger is large
PRECISIONS = ("shipped", "strict")

Key = tuple[int, str, str, str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Target:
    """An adapter with the switches that hold for a whole process.

    Attributes:
        request: the adapter's name as it was asked for, ``"keras"``, ``"torch:channels_last"``, ``"module:OBJECT"``.
        dtype: name of the format of the layers.
        device: ``"cpu"``, ``"cuda"``, ….
        precision: ``"shipped"`` or ``"strict"``.
    """

    request: str
    dtype: str = "float32"
    device: str = "cpu"
    precision: str = "shipped"


class Recipe(NamedTuple):
    """What one run of a layer needs: a kind of data, for the forward pass or for all gradients at once.

    Attributes:
        folder: of the record that the arrays are read from, empty where they come from the seed.
        inputs: the SHA-256 that names their file there.
    """

    data: str
    backward: bool = False
    folder: str = ""
    inputs: str = ""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What another run made of a trial.

    Attributes:
        folder: of the record.
        inputs: the SHA-256 that names the file of weights and inputs there.
        outputs: of the file of the result.
        by: the adapter, as it was asked for.
        device: that it ran on.
        precision: that it ran in.
        arithmetic: how it computes, as it declared.
        verdict: on the result, over there.
        gap: that declared it, over there.
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
    """One verdict to reach within a unit: a layout, a kind of data, and one of the contract's directions.

    Attributes:
        recorded: the result that this one is held against; None where that is the oracle's.
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
class Keep:
    """Where a worker keeps the arrays of its results, and how many bytes there may be of all workers together."""

    folder: str
    limit: int


@dataclass(frozen=True, slots=True)
class Unit:
    """What a worker is given at once: one case of one dtype on one target.

    The trials come layout by layout, so that what a framework compiles serves every kind of data, and those of one
    recipe together, so that gradients are computed once. A unit whose worker died goes on as another one, with the
    trials that have no verdict yet. ``index`` is the case's place among those of the run.
    """

    index: int
    case: Case
    target: Target
    trials: tuple[Trial, ...]
    keep: Keep | None = None

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """What the oracle must be computed for; probes bring their own, relations need none."""
        found = dict.fromkeys(trial.recipe for trial in self.trials)
        return tuple(recipe for recipe in found if recipe.data != PROBE and recipe.data not in RELATIONS)

    def key(self, trial: Trial) -> Key:
        """What no other verdict of a run has in common with that trial's."""
        target = self.target
        where = (self.index, target.request, target.dtype, target.device, target.precision)
        return (*where, trial.layout, trial.data, trial.direction)

    def after(self, done: int) -> Unit:
        """The unit without its first ``done`` trials."""
        return replace(self, trials=self.trials[done:])

    def case_of(self, trial: Trial) -> Case:
        """The case in that trial's layout and data, on this target's device."""
        case = self.case
        return Case(
            case.spec, case.input_shape, trial.layout, case.dtype, self.target.device, trial.data, case.seed, case.name
        )


def expanded(data: Sequence[str]) -> tuple[str, ...]:
    """The kinds of data, ``"metamorphic"`` standing for every relation, each once."""
    kinds = (kind for name in data for kind in (RELATIONS if name == METAMORPHIC else (name,)))
    return tuple(dict.fromkeys(kinds))


@dataclass(frozen=True, slots=True)
class Problem:
    """One case of one dtype, with every unit that needs its arrays and its oracle.

    Attributes:
        shared: whether several targets need them, in this session of a run or in another.
    """

    case: Case
    units: tuple[Unit, ...]
    shared: bool = False

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """What the oracle must be computed for."""
        return tuple(dict.fromkeys(recipe for unit in self.units for recipe in unit.recipes))

    def work(self) -> int:
        """Multiplications of all trials together; 0 where there is no output."""
        try:
            once = self.case.spec.macs(self.case.input_shape)
        except ShapeError:
            return 0
        return once * sum(len(unit.trials) for unit in self.units)

    def keeping(self, keep: Keep) -> Problem:
        """The problem whose arrays are kept."""
        return replace(self, units=tuple(replace(unit, keep=keep) for unit in self.units))

    def without(self, done: Set[Key]) -> Problem:
        """The problem with the trials alone whose keys are not among these."""
        left = (replace(u, trials=tuple(t for t in u.trials if u.key(t) not in done)) for u in self.units)
        return replace(self, units=tuple(unit for unit in left if unit.trials))


@dataclass(frozen=True, slots=True)
class Selection:
    """What to run of each case; None keeps the case's own dtype or device, and takes both layouts."""

    requests: tuple[str, ...]
    layouts: tuple[str, ...] | None = None
    dtypes: tuple[str, ...] | None = None
    devices: tuple[str, ...] | None = None
    precisions: tuple[str, ...] = ("shipped",)
    data: tuple[str, ...] = ("exact", "random")
    gradients: bool = False

    def problems(self, cases: Sequence[Case]) -> Iterator[Problem]:
        """The work in an order that keeps few processes alive: dtype by dtype."""
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
        """Without an output there is nothing to take a gradient of, and nothing for a probe or a relation to show."""
        try:
            outputs: int | None = product(case.spec.output_shape(case.input_shape))
        except ShapeError:
            outputs = None
        directions = [d for d in GRADIENTS if d != "bias" or case.spec.bias] if self.gradients else []
        for layout in self.layouts or LAYOUTS:
            for data in self.data:
                if (outputs and RELATIONS[data].applies(case)) if data in RELATIONS else (data != PROBE or outputs):
                    yield Trial(layout, data)
            for data in self.data if outputs is not None else ():
                if data in GRADIENT_DATA:
                    yield from (Trial(layout, data, direction) for direction in directions)


def evenly(problems: Callable[[], Iterator[Problem]], jobs: int) -> Iterator[Problem]:
    """The problems; those first that are large, and so near to the end that they would keep one worker busy alone.

    All others stay in order: what has been done tells how long the rest takes, and two large layers at a time are slow
    on a shared cache.
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
