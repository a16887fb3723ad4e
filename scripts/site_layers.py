"""Run the example layer of every parameter's page in the four frameworks: a list of layers in, results out, as JSON.

A process of its own, so that the site's build imports no framework.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from convspec import Case, ConvSpec, FrameworkAbsent, UnsupportedError, adapter, reference
from convspec.corpora import arrays
from convspec.spec import layouts


def outcome(name: str, layer: dict[str, Any], shape: list[int], layout: str, dtype: str, device: str) -> str:
    """Return one line: the shapes, the device, and the number of outputs that equal the reference's exactly."""
    spec = ConvSpec.from_dict(layer)
    params, x = arrays(Case(spec, tuple(shape), layout=layout, dtype=dtype))
    found, given = adapter(name), np.ascontiguousarray(layouts.move_axes(x, "NC*", layout))
    try:
        built = found.build(spec, params, layout, dtype, device)
        y = found.apply(built, given, layout, device)
    except (FrameworkAbsent, UnsupportedError) as error:
        return f"not run: {error}"
    expected = layouts.move_axes(reference.conv(spec, params, x), "NC*", layout)
    right = int(np.sum(y == expected)) if y.shape == expected.shape else 0
    return f"{given.shape} → {y.shape} on {device}; {right:,} of {expected.size:,} outputs are exactly the reference's"


if __name__ == "__main__":
    stdout, sys.stdout = sys.stdout, sys.stderr  # frameworks talk
    print(json.dumps([outcome(*request) for request in json.load(sys.stdin)]), file=stdout)
