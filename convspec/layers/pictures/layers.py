"""The picture of any layer, by its rank and kind, and the receptive field of any chain."""

from __future__ import annotations

from collections.abc import Sequence

from convspec.errors import RequestError
from convspec.layers.pictures import text
from convspec.layers.pictures.canvas import CELL, Canvas
from convspec.layers.pictures.geometry import axes
from convspec.layers.pictures.inputs import MOST, TOO_LONG, cells, describe_windows, drawable_axes, window_rows
from convspec.layers.pictures.scattering import describe_scatter, scatter_rows
from convspec.spec import Chain, ConvSpec, layouts

_FEW = 24  # elements of a chain's input that are drawn at least, if it has as many


def layer(spec: ConvSpec, spatial: Sequence[int] | None = None) -> str:
    """Draw the inputs that each output reads: in two dimensions as a grid, else axis by axis.

    Args:
        spec: the layer.
        spatial: the input's size; if it is large, or None, a smaller one with the same pads is drawn.

    Raises:
        RequestError: if an axis of the picture would have more than 64 elements.
        ShapeError: if the layer has no output for an input of that size.
    """
    if spatial is not None:
        axes(spec, spatial)
    sizes = text.small(spec, spatial)
    if spec.ndim == 2:
        return cells(spec, sizes)
    drawn = drawable_axes(spec, sizes)
    sheet, y = Canvas(), 0.0
    texts = []
    reach = 0 if spec.transposed else max(axis.before for axis in drawn)
    for letter, axis in zip(layouts.spatial_letters(spec.ndim), drawn, strict=True):
        if spec.transposed:
            sheet.text(0, y + 12, f"along {letter}", "strong")
            y = scatter_rows(sheet, y + 22, axis) + 26
            texts.append(f"Along {letter}: {describe_scatter(axis)}")
        else:
            y = window_rows(sheet, y, f"along {letter}", axis, reach) + 22
            texts.append(f"Along {letter}, of {axis.length} elements, {describe_windows(axis)}.")
    title = "Outputs that each input writes" if spec.transposed else "Inputs that each output reads"
    return sheet.render(title, " ".join(texts))


def sequence(chain: Chain, spatial: Sequence[int] | None = None) -> str:
    """Draw the receptive field of a chain along its last axis.

    Raises:
        RequestError: if the picture would have more than 64 elements.
        ShapeError: if a layer has no output for an input of that size.
    """
    flat = Chain(_along_last(spec) for spec in chain.specs)
    words = any(isinstance(spec.padding, str) for spec in flat.specs)
    given = None if spatial is None else spatial[-1]
    probe = flat.explicit((1, 1, given or MOST)) if words else flat
    field = probe.receptive_field()
    step = max(int(field.jump[0]), 1)
    least = max(field.size[0] + 2 * step, _FEW)
    length = least if given is None or given > least else given
    length += (given - least) % step if given is not None and given > least else 0  # the same remainder: the same pads
    if length > MOST:
        raise RequestError(TOO_LONG)
    return receptive_field(flat, length)


def _along_last(spec: ConvSpec) -> ConvSpec:
    """Return the 1-D layer that equals the layer along its last axis."""
    return ConvSpec(
        1, 1, spec.kernel_size[-1:], spec.stride[-1:],
        spec.padding if isinstance(spec.padding, str) else spec.padding[-1:], spec.dilation[-1:],
        padding_mode=spec.padding_mode, transposed=spec.transposed, output_padding=spec.output_padding[-1:],
    )  # fmt: skip


def receptive_field(chain: Chain, length: int, output: int | None = None) -> str:
    """Draw the elements of every layer that one output depends on.

    Args:
        chain: 1-D layers.
        length: number of elements of the first layer's input.
        output: index of the output; default the middle one.

    Raises:
        RequestError: for layers with more axes.
    """
    if chain.specs[0].ndim != 1:
        raise RequestError("this picture shows layers with 1 spatial axis")
    sizes = [shape[2] for shape in chain.shapes((1, chain.specs[0].in_channels, length))]
    drawn = [axes(spec, (size,))[0] for spec, size in zip(chain.specs, sizes, strict=False)]
    chosen = sizes[-1] // 2 if output is None else output
    reads = [{chosen}]
    for axis in reversed(drawn):
        reads.insert(0, {index for o in reads[0] if 0 <= o < axis.output for index, _ in axis.reads(o)})
    sheet, texts = Canvas(), []
    field = chain.receptive_field((1, chain.specs[0].in_channels, length))
    jumps, offsets = [1.0], [0.0]
    for i in range(len(drawn)):
        part = Chain(chain.specs[: i + 1]).receptive_field((1, chain.specs[0].in_channels, length))
        jumps.append(float(part.jump[0]))
        offsets.append(float(part.offset[0]))
    left = 110
    for level, (size, read) in enumerate(zip(sizes, reads, strict=True)):
        y = (len(sizes) - 1 - level) * 64
        sheet.text(0, y + 17, "input" if level == 0 else f"after layer {level}", "soft")
        first, last = min(0, *read) if read else 0, max(size - 1, *read) if read else size - 1
        for index in range(first, last + 1):
            x = left + (offsets[level] + index * jumps[level]) * CELL
            inside = 0 <= index < size
            sheet.cell(x, y, ("" if inside else "pad") + (" a" if index in read else ""), index if inside else "")
            if level and index in read and inside:
                for source, _ in drawn[level - 1].reads(index):
                    below = left + (offsets[level - 1] + source * jumps[level - 1]) * CELL
                    sheet.line(x + CELL / 2, y + CELL, below + CELL / 2, y + 64, "a")
        texts.append(f"{len(read)} elements {'of the input' if level == 0 else f'after layer {level}'}")
    return sheet.render(
        f"Receptive field of {len(drawn)} layers: {field.size[0]} elements",
        f"Output {chosen} depends on {', '.join(reversed(texts[:-1]))}; its field spans {field.size[0]} elements.",
    )
