"""Faults of the loops over windows and taps: where they begin, step and end, and what lies beyond the edge."""

from __future__ import annotations

import numpy as np

from mutants.engine import NOTHING, Cells, Layer
from mutants.mutant import Array, Family

mutant = Family()
MUTANTS = mutant.mutants


def _lows(layer: Layer, change: int, axis: int | None = None) -> Layer:
    lows = [lo + (change if axis in (None, a) else 0) for a, (lo, _) in enumerate(layer.pads)]
    layer.reads = layer.reading(lows=lows)
    return layer


def _edge(layer: Layer, cells: Cells, axis: int) -> tuple[Cells, int]:
    """What an axis would read if nothing were cut off, and its length; zeros only, regular only."""
    (lo, _), s, d = layer.pads[axis], layer.spec.stride[axis], layer.spec.dilation[axis]
    return np.arange(len(cells))[:, None] * s + np.arange(cells.shape[1]) * d - lo, layer.spatial[axis]


def _plain(layer: Layer) -> bool:
    return not layer.spec.transposed and layer.spec.padding_mode == "zeros"


@mutant("every window begins one cell late")
def windows_late(layer: Layer) -> Layer:
    return _lows(layer, -1)


@mutant("every window begins one cell early along the last axis")
def windows_early_along_the_last_axis(layer: Layer) -> Layer:
    return _lows(layer, 1, layer.spec.ndim - 1)


@mutant("the loop over taps ends one early along the first axis")
def last_tap_left_out(layer: Layer) -> Layer:
    layer.weights[:, :, -1] = 0
    return layer


@mutant("the loop over taps begins at one along the last axis")
def first_tap_left_out(layer: Layer) -> Layer:
    layer.weights[..., 0] = 0
    return layer


@mutant("the middle tap is left out")
def middle_tap_left_out(layer: Layer) -> Layer:
    layer.weights[(slice(None), slice(None), *(k // 2 for k in layer.spec.kernel_size))] = 0
    return layer


@mutant("the last row of outputs is left zero")
def last_row_left_zero(layer: Layer) -> Array:
    y = layer.output()
    y[:, :, -1:] = 0
    return y


@mutant("the last column of outputs repeats the one before")
def last_column_repeated(layer: Layer) -> Array:
    y = layer.output()
    y[..., -1:] = y[..., -2:-1] if y.shape[-1] > 1 else y[..., -1:]
    return y


@mutant("the first window is computed twice, the last never")
def windows_delayed(layer: Layer) -> Layer:
    layer.reads[0] = np.concatenate([layer.reads[0][:1], layer.reads[0][:-1]])
    return layer


@mutant("dilation acts along the first axis only")
def dilation_of_the_first_axis_only(layer: Layer) -> Layer:
    first, *rest = layer.spec.dilation
    layer.reads = layer.reading(dilation=(first, *(1 for _ in rest)))
    return layer


@mutant("dilation acts along the last axis only")
def dilation_of_the_last_axis_only(layer: Layer) -> Layer:
    *rest, last = layer.spec.dilation
    layer.reads = layer.reading(dilation=(*(1 for _ in rest), last))
    return layer


@mutant("dilation is one larger where it is more than one")
def dilation_counts_gaps(layer: Layer) -> Layer:
    layer.reads = layer.reading(dilation=tuple(d + (d > 1) for d in layer.spec.dilation))
    return layer


@mutant("the stride acts along the first axis only")
def stride_of_the_first_axis_only(layer: Layer) -> Layer:
    first, *rest = layer.spec.stride
    layer.reads = layer.reading(stride=(first, *(1 for _ in rest)))
    return layer


@mutant("stride and dilation are multiplied where both are more than one")
def stride_times_dilation(layer: Layer) -> Layer:
    spec = layer.spec
    step = tuple(s * d if s > 1 and d > 1 else s for s, d in zip(spec.stride, spec.dilation, strict=True))
    layer.reads = layer.reading(stride=step)
    return layer


@mutant("a read one cell after the end gives the last cell")
def bound_too_wide(layer: Layer) -> Layer | None:
    if not _plain(layer):
        return None
    for axis, cells in enumerate(layer.reads):
        asked, n = _edge(layer, cells, axis)
        cells[asked == n] = n - 1
    return layer


@mutant("a read one cell before the start gives the first cell")
def bound_too_low(layer: Layer) -> Layer | None:
    if not _plain(layer):
        return None
    for axis, cells in enumerate(layer.reads):
        cells[_edge(layer, cells, axis)[0] == -1] = 0
    return layer


@mutant("the last cell of the last axis counts as padding")
def last_cell_skipped(layer: Layer) -> Layer:
    layer.reads[-1][layer.reads[-1] == layer.spatial[-1] - 1] = NOTHING
    return layer


@mutant("the first cell of the first axis counts as padding")
def first_cell_skipped(layer: Layer) -> Layer:
    layer.reads[0][layer.reads[0] == 0] = NOTHING
    return layer


@mutant("reads after the end come from the beginning of the axis, as in flat memory")
def runs_into_the_next_row(layer: Layer) -> Layer | None:
    if not _plain(layer) or not layer.spatial[-1]:
        return None
    asked, n = _edge(layer, layer.reads[-1], -1)
    layer.reads[-1] = np.where(asked >= n, asked % n, layer.reads[-1])
    return layer


@mutant("the pads before and after the first axis are exchanged")
def pads_of_the_first_axis_exchanged(layer: Layer) -> Layer:
    (lo, hi), *_ = layer.pads
    return _lows(layer, hi - lo, 0)


@mutant("the first axis's pad is used for all axes")
def pad_of_the_first_axis_for_all(layer: Layer) -> Layer:
    layer.reads = layer.reading(lows=[layer.pads[0][0]] * layer.spec.ndim)
    return layer


@mutant("a pad is at most the kernel")
def pads_clamped_to_the_kernel(layer: Layer) -> Layer:
    layer.reads = layer.reading(
        lows=[min(lo, k) for (lo, _), k in zip(layer.pads, layer.spec.kernel_size, strict=True)]
    )
    return layer


@mutant("without a bias where a window lies in the padding altogether")
def no_bias_in_the_padding(layer: Layer) -> Array:
    empty = [np.all(cells == NOTHING, axis=1) for cells in layer.reads]
    y = layer.output()
    for axis, rows in enumerate(empty, start=2):
        index: list[slice | np.ndarray] = [slice(None)] * y.ndim
        index[axis] = rows
        y[tuple(index)] = 0
    return y


@mutant("windows that lie entirely after the input read its first cell")
def windows_behind_the_input(layer: Layer) -> Layer | None:
    if not _plain(layer):
        return None
    for cells in layer.reads:
        cells[np.all(cells == NOTHING, axis=1) & (np.arange(len(cells)) > 0)] = 0
    return layer


@mutant("a reflection repeats the edge")
def reflection_repeats_the_edge(layer: Layer) -> Layer | None:
    if layer.spec.padding_mode != "reflect":
        return None
    for axis, cells in enumerate(layer.reads):
        asked, n = _edge(layer, cells, axis)
        cells[asked < 0] = (-asked - 1)[asked < 0]
        cells[asked >= n] = (2 * n - 1 - asked)[asked >= n]
    return layer


@mutant("circular padding wraps one cell short")
def wraps_short(layer: Layer) -> Layer | None:
    if layer.spec.padding_mode != "circular":
        return None
    for axis, cells in enumerate(layer.reads):
        asked, n = _edge(layer, cells, axis)
        wrapped = np.where(asked < 0, asked + n - 1, np.where(asked >= n, asked - n + 1, asked))
        layer.reads[axis] = np.clip(wrapped, 0, n - 1)
    return layer


@mutant("the padding mode acts along the last axis only, the others get zeros")
def mode_of_the_last_axis_only(layer: Layer) -> Layer:
    *_, last = layer.reads
    layer.reads = [*layer.reading(mode="zeros")[:-1], last]
    return layer


@mutant("circular padding is done after the other end, with its width")
def circular_sides_exchanged(layer: Layer) -> Layer | None:
    if layer.spec.padding_mode != "circular":
        return None
    layer.reads = layer.reading(lows=[hi for _, hi in layer.pads])
    return layer


@mutant("the first axis is cut from the right end of the windows that remain")
def remainder_at_the_start(layer: Layer) -> Layer | None:
    if layer.spec.transposed:
        return None
    left = [
        (n + lo + hi - ke) % s
        for n, (lo, hi), ke, s in zip(
            layer.spatial, layer.pads, layer.spec.effective_kernel, layer.spec.stride, strict=True
        )
    ]
    layer.reads = layer.reading(lows=[lo - rest for (lo, _), rest in zip(layer.pads, left, strict=True)])
    return layer


@mutant("overlapping products of a transposed layer overwrite one another")
def overlaps_overwrite(layer: Layer) -> Layer | None:
    if not layer.spec.transposed:
        return None
    for cells in layer.reads:
        there = cells != NOTHING
        cells[there & (np.cumsum(there, axis=1) > 1)] = NOTHING
    return layer


@mutant("a transposed layer's cells that nothing is scattered to have no bias")
def gaps_without_bias(layer: Layer) -> Array | None:
    return no_bias_in_the_padding(layer) if layer.spec.transposed else None  # type: ignore[return-value]


@mutant("a transposed layer ignores dilation, its length does not")
def transposed_without_dilation(layer: Layer) -> Layer | None:
    if not layer.spec.transposed:
        return None
    layer.reads = layer.reading(dilation=(1,) * layer.spec.ndim)
    return layer


@mutant("output_padding's cells stay zero")
def output_padding_left_zero(layer: Layer) -> Array:
    y = layer.output()
    for axis, extra in enumerate(layer.spec.output_padding, start=2):
        index = [slice(None)] * y.ndim
        index[axis] = slice(y.shape[axis] - extra, None) if extra else slice(0, 0)
        y[tuple(index)] = 0
    return y


@mutant("output_padding's cells hold the bias alone")
def output_padding_without_sums(layer: Layer) -> Layer:
    for cells, extra in zip(layer.reads, layer.spec.output_padding, strict=True):
        if extra:
            cells[-extra:] = NOTHING
    return layer


@mutant("never refuses: a layer without an output gives zeros")
def never_refuses(_: Layer) -> None:
    return None
