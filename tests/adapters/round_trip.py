"""The law of reading, for every adapter's tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convspec.spec import layouts
from convspec.spec.parameters import ConvParams


def meaning(spec):
    """Output padding that only undoes a crop at the end is no more than a smaller crop."""
    if not spec.transposed or isinstance(spec.padding, str):
        return spec
    both = [min(hi, e) for (_, hi), e in zip(spec.padding, spec.output_padding, strict=True)]
    return replace(
        spec,
        padding=tuple((lo, hi - b) for (lo, hi), b in zip(spec.padding, both, strict=True)),
        output_padding=tuple(e - b for e, b in zip(spec.output_padding, both, strict=True)),
    )


def same_bits(a, b):
    return (a is None) == (b is None) and (a is None or (a.dtype == b.dtype and a.tobytes() == b.tobytes()))


def check(adapter, case, layout, dtype="float32"):
    """What was built is read back: the spec where native, with explicit padding where composed, and every bit."""
    spec = case.spec
    params = ConvParams.random(spec, case.seed, dtype)
    layer = adapter.build(spec, params, layout, dtype)
    shape = layouts.shape_in(case.input_shape, layout, spec.ndim)
    if adapter.support(spec, layout, dtype) == "native":
        found = adapter.read(layer)
        assert found.spec == spec or meaning(found.spec) == meaning(spec.explicit(case.input_shape))
    else:
        found = adapter.read(layer, shape)
        assert equivalent(found.spec, spec, case.input_shape)
    assert (found.layout, found.dtype) == (layout, dtype)
    assert same_bits(found.params.kernel, params.kernel)
    assert same_bits(found.params.bias, params.bias)


def equivalent(found, spec, input_shape):
    """Equal but for pads that the input's size cannot tell apart: those that take the same cells."""
    wanted = meaning(spec.explicit(input_shape))
    found = meaning(found)
    if found == wanted:
        return True
    parts = (
        replace(found, padding=0, padding_mode="zeros", stride=1),
        replace(wanted, padding=0, padding_mode="zeros", stride=1),
    )
    return (
        not spec.transposed
        and parts[0] == parts[1]
        and all(
            np.array_equal(a, b) for a, b in zip(cells(found, input_shape), cells(wanted, input_shape), strict=True)
        )
    )


def cells(spec, input_shape):
    """Per axis: the input cell that every tap of every output reads, -1 for a zero."""
    modes = {"zeros": {"mode": "constant", "constant_values": -1}, "reflect": {"mode": "reflect"},
             "replicate": {"mode": "edge"}, "circular": {"mode": "wrap"}}  # fmt: skip
    out = spec.output_shape(input_shape)[2:]
    for n, pad, k, s, d, m in zip(
        input_shape[2:], spec.padding, spec.kernel_size, spec.stride, spec.dilation, out, strict=True
    ):
        places = np.pad(np.arange(n), pad, **modes[spec.padding_mode])
        yield np.array([[places[i * s + j * d] for j in range(k)] for i in range(m)])
