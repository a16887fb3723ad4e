"""Failures: run them again, compare their causes, store them in a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convspec.atomic_files import write_file
from convspec.conformance.results import Result
from convspec.conformance.runner import TIMEOUT, check
from convspec.errors import RequestError, StorageError
from convspec.spec import ConvSpec


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a run, as in :func:`convspec.check`."""

    jobs: int | None = None
    timeout: float = TIMEOUT
    memory: int | None = None
    start_timeout: float | None = None


def rerun(failures: Sequence[Result], limits: Limits) -> list[Result | None]:
    """Run the case of each failure again; None where the case has no such trial."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, failure in enumerate(failures):
        case = failure.case
        target = (failure.request, case.dtype, case.device, failure.precision, case.layout, case.data)
        groups.setdefault((*target, failure.direction != "forward"), []).append(index)
    results: list[Result | None] = [None] * len(failures)
    for (request, dtype, device, precision, layout, data, backward), indices in groups.items():
        report = check(
            list(dict.fromkeys(failures[index].case for index in indices)), [request], [layout], [dtype], [device],
            data=[data], precisions=[precision], gradients=backward,
            jobs=limits.jobs, timeout=limits.timeout, memory=limits.memory, start_timeout=limits.start_timeout,
        )  # fmt: skip
        by_case = {(result.case, result.direction): result for result in report.results}
        for index in indices:
            results[index] = by_case.get((failures[index].case, failures[index].direction))
    return results


def head(result: Result) -> str:
    """The first word of the reason: ``value``, ``shape``, ``SIGSEGV``, or the class of an exception."""
    return result.reason.split(maxsplit=1)[0].rstrip(":,") if result.reason else ""


def is_same_failure(one: Result, other: Result | None) -> bool:
    """Whether the other result is the same undeclared failure, perhaps of another case."""
    return other is not None and other.unexpected and _kind(one) == _kind(other)


def _kind(result: Result) -> tuple[str, ...]:
    return (result.request, result.precision, result.direction, result.verdict, head(result))


def mistake(result: Result) -> str:
    """The id of the known mistake that gives these numbers, empty if there is none."""
    findings = result.evidence.get("findings") or [{}]
    return str(findings[0].get("id", ""))


def rough_cause(result: Result) -> tuple[str, ...]:
    """The common properties of failures with one cause, before minimising."""
    spec = result.case.spec
    return (*_kind(result), mistake(result), spec.padding_mode, str(spec.transposed))


def cause(result: Result) -> tuple[str, ...]:
    """The common properties of minimised failures with one cause: mistake and features of the layer."""
    return (*_kind(result), mistake(result), *features(result.case.spec))


def features(spec: ConvSpec) -> tuple[str, ...]:
    """The features of a layer beyond those of a pointwise convolution."""
    pads = spec.padding if isinstance(spec.padding, str) else any(map(any, spec.padding))
    present = {
        "kernel": max(spec.kernel_size) > 1, "stride": max(spec.stride) > 1, "dilation": max(spec.dilation) > 1,
        "padding": bool(pads), "groups": spec.groups > 1, "bias": spec.bias, "transposed": spec.transposed,
        spec.padding_mode: spec.padding_mode != "zeros", "output_padding": any(spec.output_padding),
    }  # fmt: skip
    return tuple(name for name, is_present in present.items() if is_present)


class FailureFile:
    """The failures in the file ``failures.jsonl`` of a folder: one result on each line, without duplicates.

    Raises:
        RequestError: if the file cannot be read, or a line is not a result.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: list[Result] = []
        self._known: set[tuple[Any, ...]] = set()
        for number, line in enumerate(_lines(path), 1):
            try:
                self.results.append(Result.from_dict(json.loads(line)))
            except (ValueError, RecursionError) as error:
                raise RequestError(f"{path}: line {number} is not a failure: {error}; delete the line") from None
        self._known.update(map(_identity, self.results))

    def add(self, failures: Iterable[Result]) -> None:
        """Add the new failures to the file.

        Raises:
            StorageError: if it cannot be written; it is as before then.
        """
        new = {_identity(one): one for one in failures if _identity(one) not in self._known}
        if not new:
            return
        lines = "".join(json.dumps(one.to_dict()) + "\n" for one in [*self.results, *new.values()])
        try:
            write_file(self.path, lines)
        except OSError as error:
            raise StorageError(f"cannot write {self.path}: {error.strerror}") from None
        self.results += new.values()
        self._known.update(new)


def _identity(result: Result) -> tuple[Any, ...]:
    return (result.case, result.request, result.precision, result.direction)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines() if path.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} cannot be read: {error}") from None
