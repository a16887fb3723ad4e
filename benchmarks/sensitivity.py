"""Which defects of a convolution do common tolerances see? One row per defect, one column per tolerance.

For each format, input scale and number of products K: whether the comparison rejects the defective result. The first
row is a correct result: a rejection there is a false alarm. Run: ``python benchmarks/sensitivity.py [--markdown]``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from convspec import Case, ConvParams, ConvSpec, reference
from convspec.corpora import arrays
from convspec.reference import judge, judge_class, measure, probes
from convspec.spec import ComputePrecision, rounded
from tests.meta.emulated import dense, layer, without_tap

SHAPES = {27: ((3, 3, 3), (1, 3, 36, 37)), 576: ((64, 3, 3), (1, 64, 14, 15)), 4608: ((512, 3, 3), (1, 512, 14, 15))}
SCALES = {
    "float32": (1e-4, 1.0, 1e4),
    "float64": (1e-4, 1.0, 1e4),
    "float16": (2.0**-3, 1.0, 2.0**3),
}


def raises(check: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    try:
        check(*args, **kwargs)
    except AssertionError:
        return True
    return False


def by_torch(actual: Any, expected: Any) -> bool:
    import torch

    return raises(torch.testing.assert_close, torch.from_numpy(actual.copy()), torch.from_numpy(expected.copy()))


# what each framework's users write without a second thought
TOLERANCES: dict[str, Callable[[Any, Any], bool]] = {
    "torch assert_close": by_torch,
    "numpy assert_allclose": lambda a, y: raises(np.testing.assert_allclose, a, y),
    "ONNX 1e-3, 1e-7": lambda a, y: raises(np.testing.assert_allclose, a, y, rtol=1e-3, atol=1e-7),
}


def defects(spec: ConvSpec, params: ConvParams, x: Any, dtype: str) -> dict[str, Any]:
    """The correct result, and defective ones."""
    twice = ConvParams(params.kernel, None if params.bias is None else 2 * params.bias)
    found = {
        "none (a false alarm if seen)": dense(spec, params, x, dtype),
        "inputs rounded to bfloat16": dense(spec, params, x, dtype, inputs="bfloat16"),
        "one tap dropped": dense(spec, without_tap(params), x, dtype),
    }
    if dtype != "float16":
        found["inputs rounded to tf32"] = dense(spec, params, x, dtype, inputs="tf32")
    if params.bias is not None:
        found["bias added twice"] = dense(spec, twice, x, dtype)
    return found


def layers() -> dict[int, tuple[ConvSpec, tuple[int, ...]]]:
    """By K: a plain layer and its input; with a bias where there are few products beside it."""
    return {
        k: (ConvSpec(channels, 8, tuple(kernel), bias=k == 27), shape)
        for k, ((channels, *kernel), shape) in SHAPES.items()
    }


def arithmetic(dtype: str) -> ComputePrecision:
    return ComputePrecision("float64" if dtype == "float64" else "float32")


def scaled_rows(dtype: str) -> Iterator[tuple[str, ...]]:
    """Defects seen on random data, at each scale of the input."""
    for scale in SCALES[dtype]:
        for k, (spec, shape) in layers().items():
            params, x = arrays(Case(spec, shape, dtype=dtype, data="random"))
            x = rounded(x.astype(np.float64) * scale, dtype)
            y, size = reference.conv(spec, params, x), reference.magnitude(spec, params, x)
            options = {"dtype": dtype, "data": "random", "products": k, "arithmetic": arithmetic(dtype)}
            for name, actual in defects(spec, params, x, dtype).items():
                seen = judge(actual, y, size, **options).verdict == "disagree"
                yield row(dtype, f"{scale:g}", k, name, seen, actual, rounded(y, dtype))


def special_rows(dtype: str) -> Iterator[tuple[str, ...]]:
    """Defects that convspec has data of their own for; the tolerances get the data that users have."""
    for k, (spec, shape) in layers().items():
        params, x = arrays(Case(spec, shape, dtype=dtype))
        y = reference.conv(spec, params, x)
        actual = rounded(y, dtype)
        actual[0, 3, 2, 1] = np.nextafter(actual[0, 3, 2, 1], actual.dtype.type(np.inf))
        options = {"dtype": dtype, "data": "exact", "products": k, "arithmetic": arithmetic(dtype)}
        seen = judge(actual, y, None, **options).verdict == "disagree"
        yield row(dtype, "integers", k, "one output off by one ulp", seen, actual, rounded(y, dtype))
        params, x = arrays(Case(spec, shape, dtype=dtype, data="random"))
        found = probes(spec, shape, dtype)
        summed = {p.name: layer(spec, p.params, p.x, dtype, "float16") for p in found}
        seen = judge_class(measure(found, summed), arithmetic(dtype), dtype).verdict == "disagree"
        actual = layer(spec, params, x, dtype, "float16")
        yield row(dtype, "1", k, "sums in float16", seen, actual, rounded(reference.conv(spec, params, x), dtype))


def row(dtype: str, scale: str, k: int, name: str, seen: bool, actual: Any, expected: Any) -> tuple[str, ...]:
    """(dtype, scale, K, defect, whether convspec sees it, whether each tolerance does)."""
    others = (tolerance(actual, expected) for tolerance in TOLERANCES.values())
    return dtype, scale, str(k), name, *("seen" if s else "-" for s in (seen, *others))


def main() -> None:
    head = ("dtype", "input scale", "K", "defect", "convspec", *TOLERANCES)
    table = [row for dtype in SCALES for make in (scaled_rows, special_rows) for row in make(dtype)]
    if "--markdown" in sys.argv[1:]:
        for row in (head, ("---",) * len(head), *table):
            print("| " + " | ".join(row) + " |")
    else:
        widths = [max(len(row[i]) for row in (head, *table)) for i in range(len(head))]
        for row in (head, *table):
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for column, name in enumerate(head[4:], start=4):
        alarms = sum(row[column] == "seen" for row in table if row[3].startswith("none"))
        missed = sum(row[column] == "-" for row in table if not row[3].startswith("none"))
        correct = sum(row[3].startswith("none") for row in table)
        print(
            f"{name}: {missed} of {len(table) - correct} defects missed, {alarms} of {correct} correct results rejected"
        )


if __name__ == "__main__":
    main()
