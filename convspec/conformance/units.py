"""The plan of work: which adapter runs which case, where, and in which trials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from convspec.cases import Case
from convspec.layouts import LAYOUTS


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


@dataclass(frozen=True, slots=True)
class Trial:
    """One verdict to reach within a unit: a layout and a kind of data."""

    layout: str
    data: str


@dataclass(frozen=True, slots=True)
class Unit:
    """What a worker is given at once: one case of one dtype on one target.

    The trials come layout by layout, so that what a framework compiles serves every kind of data. A unit whose
    worker died goes on as another one, with the trials that have no verdict yet. ``index`` is the case's place among
    those of the run.
    """

    index: int
    case: Case
    target: Target
    trials: tuple[Trial, ...]

    def after(self, done: int) -> Unit:
        """The unit without its first ``done`` trials."""
        return replace(self, trials=self.trials[done:])

    def case_of(self, trial: Trial) -> Case:
        """The case in that trial's layout and data, on this target's device."""
        return self.case.varied(layout=trial.layout, data=trial.data, device=self.target.device)


@dataclass(frozen=True, slots=True)
class Problem:
    """One case of one dtype, with every unit that needs its arrays and its oracle."""

    case: Case
    units: tuple[Unit, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """What to run of each case; None keeps the case's own dtype or device, and takes both layouts."""

    requests: tuple[str, ...]
    layouts: tuple[str, ...] | None = None
    dtypes: tuple[str, ...] | None = None
    devices: tuple[str, ...] | None = None
    precisions: tuple[str, ...] = ("shipped",)
    data: tuple[str, ...] = ("exact", "random")

    def problems(self, cases: Sequence[Case]) -> Iterator[Problem]:
        """The work in an order that keeps few processes alive: dtype by dtype."""
        for dtype in self.dtypes or tuple(dict.fromkeys(case.dtype for case in cases)):
            for index, case in enumerate(cases):
                if self.dtypes or case.dtype == dtype:
                    own = case.varied(dtype=dtype)
                    yield Problem(own, tuple(self._units(index, own)))

    def _units(self, index: int, case: Case) -> Iterator[Unit]:
        trials = tuple(Trial(layout, data) for layout in self.layouts or LAYOUTS for data in self.data)
        for device in self.devices or (case.device,):
            for request in self.requests:
                for precision in self.precisions:
                    yield Unit(index, case, Target(request, case.dtype, device, precision), trials)
