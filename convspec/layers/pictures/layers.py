"""The picture of any layer, and of any chain: the one that suits its rank and kind."""

from __future__ import annotations

from collections.abc import Sequence

from convspec.errors import RequestError
from convspec.layers.pictures import text
from convspec.layers.pictures.canvas import Canvas
from convspec.layers.pictures.chain import receptive_field
from convspec.layers.pictures.geometry import axes
from convspec.layers.pictures.inputs import MOST, cells, told_windows, window_rows
from convspec.layers.pictures.scattering import scatter_rows, told_scatter
from convspec.spec import Chain, ConvSpec, layouts

_FEW = 24  # cells of a chain's input that are drawn at least, where there are as many


def layer(spec: ConvSpec, spatial: Sequence[int] | None = None) -> str:
    """What feeds what in a layer: in two dimensions as a grid, else axis by axis.

    Args:
        spec: the layer.
        spatial: the input's size; where it is large, or None, a smaller one with the same pads is drawn.

    Raises:
        RequestError: where more than 64 cells along an axis would have to be drawn.
        ShapeError: where the layer has no output for an input of that size.
    """
    if spatial is not None:
        axes(spec, spatial)
    sizes = text.small(spec, spatial)
    if spec.ndim == 2:
        return cells(spec, sizes)
    found = axes(spec, sizes)
    if any(max(axis.length + axis.before + axis.after, axis.output, axis.span) > MOST for axis in found):
        raise RequestError(f"more than {MOST} cells along an axis cannot be read in a picture")
    sheet, y = Canvas(), 0.0
    told = []
    reach = 0 if spec.transposed else max(axis.before for axis in found)
    for letter, axis in zip(layouts.spatial_letters(spec.ndim), found, strict=True):
        if spec.transposed:
            sheet.text(0, y + 12, f"along {letter}", "strong")
            y = scatter_rows(sheet, y + 22, axis) + 26
            told.append(f"Along {letter}: {told_scatter(axis)}")
        else:
            y = window_rows(sheet, y, f"along {letter}", axis, reach) + 22
            told.append(f"Along {letter}, of {axis.length} cells, {told_windows(axis)}.")
    title = "What each input writes" if spec.transposed else "What each output reads"
    return sheet.render(title, " ".join(told))


def sequence(chain: Chain, spatial: Sequence[int] | None = None) -> str:
    """The receptive field of a chain along its last axis.

    Raises:
        RequestError: where more than 64 cells would have to be drawn.
        ShapeError: where a layer has no output for an input of that size.
    """
    flat = Chain(_along_last(spec) for spec in chain.specs)
    words = any(isinstance(spec.padding, str) for spec in flat.specs)
    given = None if spatial is None else spatial[-1]
    probe = flat.explicit((1, 1, given or MOST)) if words else flat
    field = probe.receptive_field()
    step = max(int(field.jump[0]), 1)
    least = max(field.size[0] + 2 * step, _FEW)
    length = least if given is None or given > least else given
    length += (given - least) % step if given is not None and given > least else 0  # the same rest, the same pads
    if length > MOST:
        raise RequestError(f"more than {MOST} cells along an axis cannot be read in a picture")
    return receptive_field(flat, length)


def _along_last(spec: ConvSpec) -> ConvSpec:
    """The 1-D layer that does along its axis what the layer does along its last."""
    return ConvSpec(
        1,
        1,
        spec.kernel_size[-1:],
        spec.stride[-1:],
        spec.padding if isinstance(spec.padding, str) else spec.padding[-1:],
        spec.dilation[-1:],
        padding_mode=spec.padding_mode,
        transposed=spec.transposed,
        output_padding=spec.output_padding[-1:],
    )
