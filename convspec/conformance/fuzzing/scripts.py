"""A failure as a script in plain framework code, which needs NumPy and the framework alone."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec import reference
from convspec.contract import Scripted, registry
from convspec.corpora import Case, arrays, gradient_arrays, uncompared
from convspec.errors import ShapeError, UnsupportedError, printable
from convspec.reference import EXACT_KINDS, error_bounds
from convspec.spec import format_of, layouts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec.conformance.results import Result
    from convspec.contract import Adapter

    Array = NDArray[Any]

_COMPARED = """
print("expected:", expected, sep="\\n")
print("actual:", actual, sep="\\n")
if actual.shape != expected.shape:
    sys.exit(f"DISAGREES: shape {actual.shape} where {expected.shape} is right")
if actual.dtype != %(dtype)r:
    sys.exit(f"DISAGREES: dtype {actual.dtype} where %(dtype)s was asked for")
with np.errstate(invalid="ignore"):
    right = (abs(actual - expected) <= allowed) | (actual == expected) | (np.isnan(actual) & np.isnan(expected))
if not right.all():
    sys.exit(f"DISAGREES: {(~right).sum()} of {right.size} elements are wrong")
print("agrees")
"""
_REFUSED = """
sys.exit(f"DISAGREES: a result of shape {actual.shape} where there is none")
"""


def script(failure: Result) -> str:
    """The script: arrays as literals, the layer, and what is right; it leaves with status 0 only where that comes out.

    Raises:
        UnsupportedError: where the adapter writes no scripts, or none of this.
    """
    adapter, case = registry.adapter(failure.request), failure.case
    if not isinstance(adapter, Scripted):
        raise UnsupportedError(f"adapter {adapter.name!r} writes no scripts")
    if failure.precision != "shipped":
        raise UnsupportedError("scripts leave the framework's switches for precision alone")
    body = adapter.script(case.spec, case.layout, case.dtype, case.device, failure.direction)
    given, end = _literals(case, failure.direction, adapter)
    imports = "import sys\n\nimport numpy as np\nfrom numpy import inf, nan\n\n"
    return f"{_heading(failure, adapter)}\n{imports}{given}\n{body}\n{end.lstrip()}"


def confirmed(path: Path, failure: Result, timeout: float) -> bool:
    """Whether the script, run by this Python in a process of its own, shows the failure."""
    try:
        done = subprocess.run(
            [sys.executable, path.name], cwd=path.parent, capture_output=True, text=True, errors="replace",
            timeout=timeout, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return failure.verdict == "timeout"
    if failure.verdict == "disagree":
        return done.returncode == 1 and "DISAGREES: " in done.stderr
    if failure.verdict == "crash":
        return done.returncode < 0
    return done.returncode == 1 and "DISAGREES: " not in done.stderr and "Traceback" in done.stderr


def _heading(failure: Result, adapter: Adapter) -> str:
    case = failure.case
    versions = {**adapter.versions(), "numpy": np.__version__, "Python": sys.version.split()[0]}
    what = "the output" if failure.direction == "forward" else f"the gradient of the {failure.direction}"
    said = [
        f"{failure.verdict}: {printable(failure.reason, None)}", f"{what} of {case.spec!r}",
        f"input {case.input_shape} (N, C, *spatial), given as {layouts.name(case.layout, case.spec.ndim)}, "
        f"{case.dtype}, {case.device}",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
    ]  # fmt: skip
    return "\n".join(f"# {line}" for text in said for line in textwrap.wrap(text, 116)) + "\n"


def _literals(case: Case, direction: str, adapter: Adapter) -> tuple[str, str]:
    """The arrays before the layer is run, and what is compared after."""
    spec = case.spec
    order = (layouts.order(case.layout, spec.ndim), spec.ndim)
    if direction == "forward":
        params, x = arrays(case)
        dy = None
    else:
        params, x, dy = gradient_arrays(case)
    kinds = "(I, O/groups, *kernel)" if spec.transposed else "(O, I/groups, *kernel), not flipped"
    lines = [
        _assigned("x", _laid(x, *order), layouts.name(case.layout, spec.ndim)),
        _assigned("kernel", params.kernel, kinds),
    ]
    if params.bias is not None:
        lines.append(_assigned("bias", params.bias))
    if dy is not None:
        lines.append(_assigned("dy", _laid(dy, *order), "the loss is the sum of y * dy"))
    try:
        expected, allowed = _right(case, direction, adapter, params, x, dy)
    except ShapeError as error:
        return "\n".join([*lines, f"# right is an error: {error}", ""]), _REFUSED
    if direction in ("forward", "input"):
        expected, allowed = (a if np.ndim(a) == 0 else _laid(a, *order) for a in (expected, allowed))
    lines.append(_assigned("expected", expected, "in double precision, from the definition"))
    lines.append(
        _assigned("allowed", allowed, "a bound on any order of summation") if np.ndim(allowed) else "allowed = 0"
    )
    return "\n".join([*lines, ""]), _COMPARED % {"dtype": format_of(case.dtype).carrier}


def _right(case: Case, direction: str, adapter: Adapter, params: Any, x: Array, dy: Array | None) -> tuple[Any, Any]:
    """The right result in canonical order, and how far off each number may be."""
    spec = case.spec
    if dy is None:
        expected = reference.conv(spec, params, x)
        magnitude = reference.magnitude(spec, params, x)
    else:
        expected = getattr(reference.gradients(spec, params, x, dy), direction)
        magnitude = getattr(reference.gradient_magnitudes(spec, params, x, dy), direction)
    if case.data in EXACT_KINDS:
        ignored = uncompared(case, params) if dy is None else None
        return expected, 0 if ignored is None else np.where(ignored, np.inf, 0.0)
    result = "output" if direction == "forward" else direction
    count = error_bounds.products(spec, case.input_shape, result)
    arithmetic = adapter.arithmetic(
        spec, case.dtype, case.device, direction=direction, input_shape=case.input_shape, layout=case.layout
    )
    limits = error_bounds.bounds(case.dtype, count, arithmetic)
    return expected, magnitude * limits.relative + limits.absolute


def _laid(values: Array, order: str, ndim: int) -> Array:
    """A tensor in canonical order, in another."""
    return values.transpose(layouts.permutation("NC*", order, ndim))


def _assigned(name: str, values: Array, comment: str = "") -> str:
    dtype = str(values.dtype)
    if not values.size:
        text = f'{name} = np.zeros({values.shape}, "{dtype}")'
    else:
        digits = np.array2string(values, separator=", ", threshold=sys.maxsize, floatmode="unique", max_line_width=110)
        text = f'{name} = np.array({digits}, "{dtype}")'
    return f"# {comment}\n{text}" if comment else text
