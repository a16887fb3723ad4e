"""Other ways to compute the right numbers: no corpus can tell them from the oracle, and the proof says why."""

from __future__ import annotations

import itertools

import numpy as np

from mutants.engine import Layer
from mutants.mutant import Array, Family

mutant = Family()
MUTANTS = mutant.mutants


@mutant(
    "products are summed in reverse order",
    "On exact data every partial sum is representable, so that every order of summation gives the same number; on "
    "others the bound holds for every order.",
)
def summed_in_reverse(layer: Layer) -> Layer:
    layer.weights = layer.weights[:, ::-1].copy()
    layer.x = layer.x[:, ::-1].copy()
    return layer


@mutant(
    "dilation is left out along axes with a single tap",
    "Tap j reads cell i·s + j·d - lo, and j is 0 only: d is multiplied by nothing else. The output's length has it "
    "as (k-1)·d = 0.",
)
def dilation_of_one_tap(layer: Layer) -> Layer:
    pairs = zip(layer.spec.dilation, layer.spec.kernel_size, strict=True)
    layer.reads = layer.reading(dilation=tuple(1 if k == 1 else d for d, k in pairs))
    return layer


@mutant(
    "the stride is left out along axes with a single window, or a single cell to scatter",
    "Window i reads cell i·s + j·d - lo, and i is 0 only. Of a transposed layer, cell i is scattered from i·s on.",
)
def stride_of_one_window(layer: Layer) -> Layer:
    counts = layer.spatial if layer.spec.transposed else layer.out
    layer.reads = layer.reading(
        stride=tuple(1 if n == 1 else s for s, n in zip(layer.spec.stride, counts, strict=True))
    )
    return layer


@mutant(
    "taps whose weights are zero for all channels are skipped",
    "A finite cell times zero is zero, and a sum does not change by adding zero.",
)
def zero_taps_skipped(layer: Layer) -> Array:
    taps = [range(k) for k in layer.spec.kernel_size]
    used = [t for t in itertools.product(*taps) if layer.weights[(slice(None), slice(None), *t)].any()]
    y = np.zeros((len(layer.x), len(layer.weights), *layer.out)) + layer.column(layer.bias)
    reads, weights, bias = layer.reads, layer.weights, layer.bias
    layer.bias = np.zeros_like(bias)
    for tap in used:
        layer.reads = [cells[:, t : t + 1] for cells, t in zip(reads, tap, strict=True)]
        layer.weights = weights[(slice(None), slice(None), *(slice(t, t + 1) for t in tap))]
        y += layer.output()
    return y


@mutant(
    "a transposed layer is a layer of stride 1 over the input with s-1 zeros between its cells, its kernel flipped",
    "y[t] sums x[i]·w[j] over i·s + j·d = t + lo. The stuffed input z has z[i·s] = x[i] and zeros elsewhere, so this "
    "is the sum over j of z[t + lo - j·d]·w[j], with j' = k-1-j a correlation by the flipped kernel, ke-1-lo zeros "
    "in front.",
)
def transposed_as_stuffed(layer: Layer) -> Layer | None:
    if not layer.spec.transposed or 0 in layer.spatial:
        return None
    spec = layer.spec
    stuffed = np.zeros(
        (*layer.x.shape[:2], *((n - 1) * s + 1 for n, s in zip(layer.spatial, spec.stride, strict=True)))
    )
    stuffed[(slice(None), slice(None), *(slice(None, None, s) for s in spec.stride))] = layer.x
    reads = []
    for n, out, k, d, (lo, _) in zip(
        stuffed.shape[2:], layer.out, spec.kernel_size, spec.dilation, layer.pads, strict=True
    ):
        cells = np.arange(out)[:, None] + lo - np.arange(k)[::-1] * d
        reads.append(np.where((cells >= 0) & (cells < n), cells, -1))
    layer.x, layer.reads = stuffed, reads
    layer.weights = np.flip(layer.weights, tuple(range(2, layer.weights.ndim)))
    return layer


@mutant(
    "samples are computed one after the other",
    "No product has factors from two samples.",
)
def one_sample_at_a_time(layer: Layer) -> Array:
    x, parts = layer.x, []
    for i in range(len(x)):
        layer.x = x[i : i + 1]
        parts.append(layer.output())
    return np.concatenate(parts) if parts else np.zeros((0, len(layer.weights), *layer.out))


@mutant(
    "pads after the last cell that any window reads are left out",
    "A window reads up to cell (out-1)·s + ke - 1 - lo, out being rounded down; the cells after it take part in no "
    "product.",
)
def unread_pads_left_out(layer: Layer) -> Layer:
    x = layer.x
    if not layer.spec.transposed and x.size and 0 not in layer.out:
        ends = [int(cells.max()) + 1 for cells in layer.reads]
        layer.x = x[(slice(None), slice(None), *(slice(0, max(end, 1)) for end in ends))]
    return layer


@mutant(
    "a layer without groups whose kernel is 1 along all axes is a matrix product over the cells it reads",
    "With one tap the sum over taps has one term; what remains is the sum over channels.",
)
def pointwise_as_product(layer: Layer) -> Array | None:
    if layer.spec.transposed or set(layer.spec.kernel_size) != {1} or any(map(any, layer.pads)):
        return None
    steps = (slice(None, n * s, s) for n, s in zip(layer.out, layer.spec.stride, strict=True))
    cells = layer.x[(slice(None), slice(None), *steps)]
    matrix = layer.weights.reshape(layer.weights.shape[:2])
    return np.einsum("oc,nc...->no...", matrix, cells) + layer.column(layer.bias)
