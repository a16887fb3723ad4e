"""Minimise failures to the smallest layer and input with the same failure.

Every candidate runs in a worker, like any other case, so that crashes can be minimised too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

from convspec.conformance.fuzzing.failures import features, is_same_failure
from convspec.conformance.results import Result
from convspec.corpora import Case
from convspec.errors import ShapeError, SpecError
from convspec.spec import ConvSpec, product

Edit: TypeAlias = Callable[[Case], Case]
Run: TypeAlias = Callable[[Sequence[Result]], Sequence[Result | None]]

_PER_AXIS = ("kernel_size", "stride", "padding", "dilation", "output_padding")


def shrink(failures: Sequence[Result], run: Run, until: float = float("inf")) -> list[tuple[Result, bool]]:
    """Return the smallest failure found for each, and whether nothing smaller is left to try.

    A round tries every single edit of every failure, then combinations of the edits that keep the failure.

    Args:
        failures: to minimise.
        run: returns the results of changed cases.
        until: the monotonic time after which no round starts.
    """
    current = list(failures)
    unfinished = set(range(len(current)))
    while unfinished and time.monotonic() < until:
        singles = {i: _candidates(current[i]) for i in unfinished}
        failing = _failing(current, {i: [case for _, case in pairs] for i, pairs in singles.items()}, run)
        unfinished = {i for i, results in failing.items() if results}
        edits = {i: [edit for edit, case in singles[i] if case in failing[i]] for i in unfinished}
        combined = _failing(current, {i: _combine(current[i].case, edits[i]) for i in unfinished}, run)
        for i in unfinished:
            current[i] = min([*failing[i].values(), *combined[i].values()], key=lambda result: weight(result.case))
    return [(result, i not in unfinished) for i, result in enumerate(current)]


def _failing(current: Sequence[Result], cases: dict[int, list[Case]], run: Run) -> dict[int, dict[Case, Result]]:
    """Run the candidates of each failure; return those with the same failure."""
    pairs = [(i, case) for i, candidates in cases.items() for case in candidates]
    results = run([replace(current[i], case=case) for i, case in pairs]) if pairs else []
    failing: dict[int, dict[Case, Result]] = {i: {} for i in cases}
    for (i, case), result in zip(pairs, results, strict=True):
        if result is not None and is_same_failure(current[i], result):
            failing[i][case] = result
    return failing


def _candidates(failure: Result) -> list[tuple[Edit, Case]]:
    edits: dict[Case, Edit] = {}
    for edit in _edits(failure.case, failure.direction):
        case = _apply(failure.case, edit)
        if case is not None:
            edits.setdefault(case, edit)
    return sorted(((edit, case) for case, edit in edits.items()), key=lambda pair: weight(pair[1]))


def _combine(case: Case, edits: Sequence[Edit]) -> list[Case]:
    """The case with the first two of the edits, the first three, and so on; edits that no longer apply are skipped."""
    cases = []
    for count, edit in enumerate(edits):
        after = _apply(case, edit)
        if after is not None:
            case = after
            if count:
                cases.append(case)
    return list(dict.fromkeys(cases))


def _apply(case: Case, edit: Edit) -> Case | None:
    """The simpler case; None if the edit does not apply, or only one of the two cases has outputs."""
    try:
        after = edit(case)
    except (SpecError, IndexError):
        return None
    return after if weight(after) < weight(case) and _outputs(after) == _outputs(case) else None


def _outputs(case: Case) -> str:
    try:
        return "some" if product(case.spec.output_shape(case.input_shape)) else "empty"
    except ShapeError:
        return "refused"


def weight(case: Case) -> int:
    """The complexity of a case: its features and numbers."""
    spec = case.spec
    pads: list[int] = [] if isinstance(spec.padding, str) else [pad for pair in spec.padding for pad in pair]
    numbers = (*spec.kernel_size, *spec.stride, *spec.dilation, *pads, *spec.output_padding, *case.input_shape)
    unusual = (case.seed != 0, case.data != "exact", case.dtype != "float32", case.layout != "NCHW")
    return 8 * len(features(spec)) + spec.out_channels + spec.groups + sum(numbers) + sum(unusual)


# -- edits -------------------------------------------------------------------------------------------------------------


def _edits(case: Case, direction: str) -> Iterator[Edit]:
    """Yield every edit that makes the case simpler by one step, large or small."""
    spec = case.spec
    yield from (partial(_without_axis, axis=axis) for axis in range(spec.ndim) if spec.ndim > 1)
    plain: dict[str, Any] = {
        "transposed": {"transposed": False, "output_padding": 0}, "padding": {"padding": 0},
        "padding_mode": {"padding_mode": "zeros"}, "output_padding": {"output_padding": 0},
        "kernel_size": {"kernel_size": (1,) * spec.ndim}, "stride": {"stride": 1}, "dilation": {"dilation": 1},
    }  # fmt: skip
    yield from (partial(_with, **fields) for fields in plain.values())
    if direction != "bias":
        yield partial(_with, bias=False)
    yield _without_groups
    for name in ("in_channels", "out_channels"):
        for count in _fewer(getattr(spec, name) // spec.groups):
            changed: dict[str, Any] = {name: count * spec.groups}
            yield partial(_with, **changed)
    for name, least in (("kernel_size", 1), ("stride", 1), ("dilation", 1), ("output_padding", 0)):
        for axis, value in enumerate(getattr(spec, name)):
            yield from (partial(_at, name=name, axis=axis, value=v) for v in _fewer(value, least))
    if not isinstance(spec.padding, str):
        for axis, pads in enumerate(spec.padding):
            yield from (partial(_at, name="padding", axis=axis, value=pair) for pair in _smaller_pads(*pads))
    for axis, size in enumerate(case.input_shape):
        yield from (partial(_resize, axis=axis, size=n) for n in _fewer(size) if axis != 1)
    unvaried: dict[str, Any] = {"seed": 0, "data": "exact", "dtype": "float32", "layout": "NCHW"}
    yield from (partial(Case.varied, **{name: value}) for name, value in unvaried.items())


def _fewer(value: int, least: int = 1) -> list[int]:
    return sorted({least, value // 2, value - 1} & set(range(least, value)))


def _smaller_pads(before: int, after: int) -> list[tuple[int, int]]:
    smaller = {(0, 0), (0, after), (before, 0), (before - 1, after), (before, after - 1), (before - 1, after - 1)}
    return sorted(pair for pair in smaller if min(pair) >= 0 and pair != (before, after))


def _with(case: Case, **fields: Any) -> Case:
    spec = ConvSpec.from_dict(case.spec.to_dict() | fields)
    return replace(case, spec=spec, input_shape=(case.input_shape[0], spec.in_channels, *case.input_shape[2:]))


def _at(case: Case, name: str, axis: int, value: Any) -> Case:
    values = list(getattr(case.spec, name))
    values[axis] = value
    return _with(case, **{name: values})


def _resize(case: Case, axis: int, size: int) -> Case:
    shape = list(case.input_shape)
    shape[axis] = size
    return replace(case, input_shape=tuple(shape))


def _without_groups(case: Case) -> Case:
    spec = case.spec
    channels = {name: getattr(spec, name) // spec.groups for name in ("in_channels", "out_channels")}
    return _with(case, groups=1, **channels)


def _without_axis(case: Case, axis: int) -> Case:
    spec = case.spec
    if spec.ndim == 1:
        raise IndexError(axis)
    fields = spec.to_dict()
    for name in _PER_AXIS:
        if not isinstance(fields[name], str):
            del fields[name][axis]
    shape = list(case.input_shape)
    del shape[2 + axis]
    return replace(case, spec=ConvSpec.from_dict(fields), input_shape=tuple(shape))
