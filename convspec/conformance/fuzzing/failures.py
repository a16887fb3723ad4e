"""Failures: run again, told apart, and kept in a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convspec.conformance.results import Result
from convspec.conformance.runner import TIMEOUT, check
from convspec.errors import RequestError
from convspec.spec import ConvSpec


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may take: as in :func:`convspec.check`."""

    jobs: int | None = None
    timeout: float = TIMEOUT
    memory: int | None = None


def again(failures: Sequence[Result], limits: Limits) -> list[Result | None]:
    """What each of them gives now, or with its present case: None where the layer is no longer asked that question."""
    asked: dict[tuple[Any, ...], list[int]] = {}
    for place, failure in enumerate(failures):
        case = failure.case
        where = (failure.request, case.dtype, case.device, failure.precision, case.layout, case.data)
        asked.setdefault((*where, failure.direction != "forward"), []).append(place)
    found: list[Result | None] = [None] * len(failures)
    for (request, dtype, device, precision, layout, data, backward), places in asked.items():
        report = check(
            list(dict.fromkeys(failures[place].case for place in places)), [request], [layout], [dtype], [device],
            data=[data], precisions=[precision], gradients=backward,
            jobs=limits.jobs, timeout=limits.timeout, memory=limits.memory,
        )  # fmt: skip
        by_case = {(result.case, result.direction): result for result in report.results}
        for place in places:
            found[place] = by_case.get((failures[place].case, failures[place].direction))
    return found


def head(result: Result) -> str:
    """The first word of the reason: ``value``, ``shape``, ``SIGSEGV``, the class of an exception."""
    return result.reason.split(maxsplit=1)[0].rstrip(":,") if result.reason else ""


def alike(one: Result, other: Result | None) -> bool:
    """Whether the other is the same failure, of another case perhaps, and undeclared too."""
    return other is not None and other.unexpected and _kind(one) == _kind(other)


def _kind(result: Result) -> tuple[str, ...]:
    return (result.request, result.precision, result.direction, result.verdict, head(result))


def mistake(result: Result) -> str:
    """The id of the known mistake that gives these numbers, empty where none does."""
    findings = result.evidence.get("findings") or [{}]
    return str(findings[0].get("id", ""))


def rough_cause(result: Result) -> tuple[str, ...]:
    """What failures with one cause have in common before they are reduced."""
    spec = result.case.spec
    return (*_kind(result), mistake(result), spec.padding_mode, str(spec.transposed))


def cause(result: Result) -> tuple[str, ...]:
    """What reduced failures with one cause have in common: the mistake and the features that the layer still needs."""
    return (*_kind(result), mistake(result), *features(result.case.spec))


def features(spec: ConvSpec) -> tuple[str, ...]:
    """What a layer has beyond a plain convolution of one tap."""
    pads = spec.padding if isinstance(spec.padding, str) else any(map(any, spec.padding))
    there = {
        "kernel": max(spec.kernel_size) > 1, "stride": max(spec.stride) > 1, "dilation": max(spec.dilation) > 1,
        "padding": bool(pads), "groups": spec.groups > 1, "bias": spec.bias, "transposed": spec.transposed,
        spec.padding_mode: spec.padding_mode != "zeros", "output_padding": any(spec.output_padding),
    }  # fmt: skip
    return tuple(name for name, is_there in there.items() if is_there)


class Kept:
    """The failures of a folder, ``failures.jsonl``: one result on each line, none of them twice.

    Raises:
        RequestError: if the file cannot be read, or a line of it is no result.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: list[Result] = []
        self._known: set[tuple[Any, ...]] = set()
        for number, line in enumerate(_lines(path), 1):
            try:
                self.results.append(Result.from_dict(json.loads(line)))
            except (KeyError, TypeError, ValueError) as error:
                raise RequestError(f"{path}: line {number} is no kept failure: {error!r}; delete the line") from None
        self._known.update(map(_identity, self.results))

    def add(self, failures: Iterable[Result]) -> None:
        """Append those that are not there yet."""
        new = {_identity(one): one for one in failures if _identity(one) not in self._known}
        if not new:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(one.to_dict()) + "\n" for one in new.values())
        self.results += new.values()
        self._known.update(new)


def _identity(result: Result) -> tuple[Any, ...]:
    return (result.case, result.request, result.precision, result.direction)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines() if path.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} cannot be read: {error}") from None
