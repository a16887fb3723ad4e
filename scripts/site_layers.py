"""Run the example layer of every parameter's page in the four frameworks: a list of layers in, what came out as JSON.

Read from standard input, one process for all, so that the site's build imports no framework itself.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from convspec import Case, ConvSpec, FrameworkAbsent, UnsupportedError, adapter, reference
from convspec.corpora import arrays
from convspec.spec import order, permutation


def outcome(name: str, layer: dict[str, Any], shape: list[int], layout: str, dtype: str, device: str) -> str:
    """One line: the shapes, the device, and how many of the outputs are exactly the reference's."""
    spec = ConvSpec.from_dict(layer)
    params, x = arrays(Case(spec, tuple(shape), layout=layout, dtype=dtype))
    there = permutation("NC*", order(layout, spec.ndim), spec.ndim)
    found = adapter(name)
    try:
        built = found.build(spec, params, layout, dtype, device)
        y = found.apply(built, np.ascontiguousarray(x.transpose(there)), layout, device)
    except (FrameworkAbsent, UnsupportedError) as error:
        return f"not run: {error}"
    expected = reference.conv(spec, params, x).transpose(there)
    right = int(np.sum(y == expected)) if y.shape == expected.shape else 0
    into = tuple(x.transpose(there).shape)
    return f"{into} → {y.shape} on {device}; {right:,} of {expected.size:,} outputs are exactly the reference's"


if __name__ == "__main__":
    stdout, sys.stdout = sys.stdout, sys.stderr  # frameworks talk
    print(json.dumps([outcome(*request) for request in json.load(sys.stdin)]), file=stdout)
