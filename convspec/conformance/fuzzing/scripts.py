"""Reproducers: a failure as a script that needs only NumPy and the framework."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convspec import reference
from convspec.conformance.results import Result
from convspec.contract import Adapter, LayerRequest, registry
from convspec.corpora import Case, arrays, gradient_arrays, uncompared
from convspec.errors import ShapeError, UnsupportedError, printable
from convspec.reference import EXACT_KINDS, error_bounds
from convspec.spec import format_of, layouts

Array: TypeAlias = NDArray[Any]

_COMPARE = """
print("expected:", expected, sep="\\n")
print("actual:", actual, sep="\\n")
if actual.shape != expected.shape:
    sys.exit(f"DISAGREES: expected shape {expected.shape}, got {actual.shape}")
if actual.dtype != %(dtype)r:
    sys.exit(f"DISAGREES: expected dtype %(dtype)s, got {actual.dtype}")
with np.errstate(invalid="ignore"):
    right = (abs(actual - expected) <= allowed) | (actual == expected) | (np.isnan(actual) & np.isnan(expected))
if not right.all():
    sys.exit(f"DISAGREES: {(~right).sum()} of {right.size} elements are wrong")
print("agrees")
"""
_EXPECT_ERROR = """
sys.exit(f"DISAGREES: expected an error, got a result of shape {actual.shape}")
"""


def script(failure: Result) -> str:
    """Return the script: arrays as literals, the layer, and the expected result. It exits with 0 only on agreement.

    Raises:
        UnsupportedError: if the adapter cannot write a script, or not this one.
    """
    adapter, case = registry.adapter(failure.request), failure.case
    if failure.precision != "shipped":
        raise UnsupportedError("scripts do not set the framework's precision switches")
    request = LayerRequest(case.layout, case.dtype, case.device, direction=failure.direction)
    body = adapter.script(case.spec, request)
    given, end = _literals(case, failure.direction, adapter)
    imports = "import sys\n\nimport numpy as np\nfrom numpy import inf, nan\n\n"
    return f"{_heading(failure, adapter)}\n{imports}{given}\n{body}\n{end.lstrip()}"


def confirm(path: Path, failure: Result, timeout: float) -> bool:
    """Run the script in a child process of this Python; return whether it shows the failure."""
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
    result = "the output" if failure.direction == "forward" else f"the gradient of the {failure.direction}"
    lines = [
        f"{failure.verdict}: {printable(failure.reason, None)}", f"{result} of {case.spec!r}",
        f"input {case.input_shape} (N, C, *spatial), given as {layouts.name(case.layout, case.spec.ndim)}, "
        f"{case.dtype}, {case.device}",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
    ]  # fmt: skip
    return "\n".join(f"# {line}" for text in lines for line in textwrap.wrap(text, 116)) + "\n"


def _literals(case: Case, direction: str, adapter: Adapter) -> tuple[str, str]:
    """Return the arrays before the layer, and the comparison after it."""
    spec, layout = case.spec, case.layout
    params, x, dy = (*arrays(case), None) if direction == "forward" else gradient_arrays(case)
    kinds = "(I, O/groups, *kernel)" if spec.transposed else "(O, I/groups, *kernel), not flipped"
    lines = [
        _assign("x", layouts.move_axes(x, "NCHW", layout), layouts.name(case.layout, spec.ndim)),
        _assign("kernel", params.kernel, kinds),
    ]
    if params.bias is not None:
        lines.append(_assign("bias", params.bias))
    if dy is not None:
        lines.append(_assign("dy", layouts.move_axes(dy, "NCHW", layout), "the loss is the sum of y * dy"))
    try:
        expected, allowed = _expected(case, direction, adapter, params, x, dy)
    except ShapeError as error:
        return "\n".join([*lines, f"# expected: an error: {error}", ""]), _EXPECT_ERROR
    if direction in ("forward", "input"):
        pair = (expected, allowed)
        expected, allowed = (layouts.move_axes(a, "NCHW", layout) if np.ndim(a) else a for a in pair)
    lines.append(_assign("expected", expected, "in double precision, from the definition"))
    bound = _assign("allowed", allowed, "a bound on any order of summation") if np.ndim(allowed) else "allowed = 0"
    lines.append(bound)
    return "\n".join([*lines, ""]), _COMPARE % {"dtype": format_of(case.dtype).carrier}


def _expected(case: Case, direction: str, adapter: Adapter, params: Any, x: Array, dy: Array | None) -> tuple[Any, Any]:
    """The expected result in canonical order, and the error allowed for each element."""
    spec = case.spec
    if dy is None:
        expected, magnitude = reference.conv(spec, params, x), reference.magnitude(spec, params, x)
    else:
        expected = getattr(reference.gradients(spec, params, x, dy), direction)
        magnitude = getattr(reference.gradient_magnitudes(spec, params, x, dy), direction)
    if case.data in EXACT_KINDS:
        ignored = uncompared(case, params) if dy is None else None
        return expected, 0 if ignored is None else np.where(ignored, np.inf, 0.0)
    result = "output" if direction == "forward" else direction
    count = error_bounds.products(spec, case.input_shape, result)
    request = LayerRequest(case.layout, case.dtype, case.device, direction=direction, input_shape=case.input_shape)
    limits = error_bounds.bounds(case.dtype, count, adapter.compute_precision(spec, request))
    return expected, magnitude * limits.relative + limits.absolute


def _assign(name: str, values: Array, comment: str = "") -> str:
    dtype = str(values.dtype)
    if not values.size:
        text = f'{name} = np.zeros({values.shape}, "{dtype}")'
    else:
        digits = np.array2string(values, separator=", ", threshold=sys.maxsize, floatmode="unique", max_line_width=110)
        text = f'{name} = np.array({digits}, "{dtype}")'
    return f"# {comment}\n{text}" if comment else text
