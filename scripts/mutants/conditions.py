"""Faults that need a coincidence: right for most layers, wrong where the code takes another path."""

from __future__ import annotations

import numpy as np

from mutants.engine import Layer
from mutants.mutant import Array, Family

mutant = Family()
MUTANTS = mutant.mutants


def _late(layer: Layer) -> Layer:
    layer.reads = layer.reading(lows=[lo - 1 for lo, _ in layer.pads])
    return layer


def _flipped(layer: Layer) -> Layer:
    layer.weights = np.flip(layer.weights, tuple(range(2, layer.weights.ndim)))
    return layer


def _without_last_channel(layer: Layer) -> Layer:
    layer.weights[:, -1] = 0
    return layer


@mutant("one cell late where the stride is longer than the kernel")
def late_where_stride_exceeds_kernel(layer: Layer) -> Layer | None:
    spec = layer.spec
    return _late(layer) if any(s > k for s, k in zip(spec.stride, spec.effective_kernel, strict=True)) else None


@mutant("one cell late where the kernel is longer than the input")
def late_where_kernel_exceeds_input(layer: Layer) -> Layer | None:
    longer = any(ke > n for ke, n in zip(layer.spec.effective_kernel, layer.spatial, strict=True))
    return _late(layer) if longer else None


@mutant("the kernel is flipped where there is but one window")
def flipped_where_single(layer: Layer) -> Layer | None:
    return _flipped(layer) if all(n == 1 for n in layer.out) else None


@mutant("the kernel is flipped where a transposed layer has one cell to scatter")
def flipped_where_one_cell(layer: Layer) -> Layer | None:
    return _flipped(layer) if layer.spec.transposed and all(n == 1 for n in layer.spatial) else None


@mutant("height and width are exchanged where they are equal and the channels too")
def square_transposed(layer: Layer) -> Layer | None:
    if layer.spec.ndim < 2 or set(layer.spatial) != {layer.spec.in_channels}:
        return None
    layer.x = layer.x.swapaxes(-1, -2)
    return layer


@mutant("channels and width are exchanged where there are as many")
def channels_for_width(layer: Layer) -> Layer | None:
    if layer.spatial[-1] != layer.spec.in_channels:
        return None
    layer.x = layer.x.swapaxes(1, -1)
    return layer


@mutant("samples and channels are exchanged where there are as many")
def batch_for_channels(layer: Layer) -> Layer | None:
    if len(layer.x) != layer.spec.in_channels:
        return None
    layer.x = layer.x.swapaxes(0, 1)
    return layer


@mutant("kernels between as many channels in as out are transposed")
def square_kernel_transposed(layer: Layer) -> Layer | None:
    g = layer.spec.groups
    if layer.spec.in_channels != layer.spec.out_channels or g != 1:
        return None
    layer.weights = layer.weights.swapaxes(0, 1)
    return layer


@mutant("1x1 kernels ignore the stride's phase and read the last cell of each step")
def pointwise_phase(layer: Layer) -> Layer | None:
    if set(layer.spec.kernel_size) != {1} or layer.spec.transposed or not any(s > 1 for s in layer.spec.stride):
        return None
    return _late(layer)


@mutant("the depth's stride is the height's in volumes")
def volume_stride(layer: Layer) -> Layer | None:
    if layer.spec.ndim != 3:
        return None
    _, height, width = layer.spec.stride
    layer.reads = layer.reading(stride=(height, height, width))
    return layer


@mutant("the depth's taps are reversed in volumes")
def volume_flipped(layer: Layer) -> Layer | None:
    if layer.spec.ndim != 3:
        return None
    layer.weights = np.flip(layer.weights, 2)
    return layer


@mutant("signals of one dimension are padded as if after them")
def signal_pads_exchanged(layer: Layer) -> Layer | None:
    if layer.spec.ndim != 1:
        return None
    layer.reads = layer.reading(lows=[hi for _, hi in layer.pads])
    return layer


@mutant("an even kernel's centre is one tap on")
def even_kernel_off_centre(layer: Layer) -> Layer | None:
    even = [1 if k % 2 == 0 and lo else 0 for k, (lo, _) in zip(layer.spec.kernel_size, layer.pads, strict=True)]
    layer.reads = layer.reading(lows=[lo - shift for (lo, _), shift in zip(layer.pads, even, strict=True)])
    return layer


@mutant("groups are ignored where there are several samples: every sample reads the first group")
def groups_with_batch(layer: Layer) -> Layer | None:
    if layer.spec.groups == 1 or len(layer.x) < 2:
        return None
    return _without_last_channel(layer)


@mutant("dilation is ignored in depthwise layers")
def depthwise_without_dilation(layer: Layer) -> Layer | None:
    if not layer.spec.depthwise or layer.spec.groups == 1:
        return None
    layer.reads = layer.reading(dilation=(1,) * layer.spec.ndim)
    return layer


@mutant("depthwise layers with stride and dilation read the wrong samples")
def depthwise_stride_and_dilation(layer: Layer) -> Layer | None:
    spec = layer.spec
    if spec.groups == 1 or not any(s > 1 and d > 1 for s, d in zip(spec.stride, spec.dilation, strict=True)):
        return None
    layer.reads = layer.reading(stride=tuple(max(s - 1, 1) for s in spec.stride))
    return layer


@mutant("the last channel is left out where the output is one column wide")
def one_column(layer: Layer) -> Layer | None:
    return _without_last_channel(layer) if layer.out[-1] == 1 else None


@mutant("the second tile of sixteen columns begins one cell late")
def tile_of_sixteen(layer: Layer) -> Layer:
    columns = layer.reads[-1]
    if len(columns) > 16:
        columns[16:-1] = columns[17:]
    return layer


@mutant("columns beyond the sixty-fourth stay zero")
def tile_of_sixty_four(layer: Layer) -> Array:
    y = layer.output()
    y[..., 64:] = 0
    return y


@mutant("the one input channel is read with a stride of two")
def one_channel(layer: Layer) -> Layer | None:
    if layer.spec.in_channels != 1:
        return None
    layer.reads[-1][:, 1:] = np.roll(layer.reads[-1], 1, axis=1)[:, 1:]
    return layer


@mutant("the one filter is taken for a sum over taps")
def one_filter(layer: Layer) -> Layer | None:
    if layer.spec.out_channels != 1:
        return None
    layer.weights = layer.weights[..., ::-1].copy()
    return layer


@mutant("a width less than the kernel loses its last column")
def narrow_input(layer: Layer) -> Layer | None:
    if layer.spatial[-1] >= layer.spec.kernel_size[-1]:
        return None
    layer.x = layer.x.copy()
    layer.x[..., -1:] = 0
    return layer


@mutant("same padding with a stride is that of stride one")
def same_of_stride_one(layer: Layer) -> Layer | None:
    if not isinstance(layer.spec.padding, str) or layer.spec.transposed:
        return None
    layer.reads = layer.reading(lows=[(ke - 1) // 2 for ke in layer.spec.effective_kernel])
    return layer


@mutant("same_lower is taken for same")
def lower_for_upper(layer: Layer) -> Layer | None:
    if layer.spec.padding != "same_lower":
        return None
    layer.reads = layer.reading(lows=[min(pair) for pair in layer.pads])
    return layer


@mutant("a transposed same crops the larger half before")
def transposed_same_crops_before(layer: Layer) -> Layer | None:
    if not layer.spec.transposed or layer.spec.padding != "same":
        return None
    layer.reads = layer.reading(lows=[max(pair) for pair in layer.pads])
    return layer


@mutant("a transposed same with a kernel shorter than the stride crops")
def transposed_same_short_kernel(layer: Layer) -> Layer | None:
    spec = layer.spec
    if not spec.transposed or spec.padding != "same":
        return None
    pairs = zip(layer.pads, spec.effective_kernel, spec.stride, strict=True)
    layer.reads = layer.reading(lows=[lo + (ke < s) for (lo, _), ke, s in pairs])
    return layer


@mutant("output_padding beyond the stride is cut")
def output_padding_beyond_cut(layer: Layer) -> Array:
    y = layer.output()
    for axis, (extra, s) in enumerate(zip(layer.spec.output_padding, layer.spec.stride, strict=True), start=2):
        index = [slice(None)] * y.ndim
        index[axis] = slice(y.shape[axis] - max(extra - s + 1, 0), None)
        y[tuple(index)] = 0
    return y


@mutant("an empty batch gives one sample")
def empty_batch(layer: Layer) -> Array | None:
    y = layer.output()
    return np.zeros((1, *y.shape[1:])) if not len(y) else None


@mutant("an axis without cells gives no bias")
def empty_axis(layer: Layer) -> Layer | None:
    if 0 not in layer.spatial:
        return None
    layer.bias[:] = 0
    return layer


@mutant("the last axis of the kernel is flipped where the dilation is the kernel's size")
def dilation_equal_to_kernel(layer: Layer) -> Layer | None:
    if layer.spec.dilation[-1] != layer.spec.kernel_size[-1] or layer.spec.kernel_size[-1] == 1:
        return None
    layer.weights = layer.weights[..., ::-1].copy()
    return layer


@mutant("a stride as long as the dilated kernel skips the last tap")
def stride_equal_to_kernel(layer: Layer) -> Layer | None:
    spec = layer.spec
    if not all(s == ke > 1 for s, ke in zip(spec.stride, spec.effective_kernel, strict=True)):
        return None
    layer.weights[..., -1] = 0
    return layer
