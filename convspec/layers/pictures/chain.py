"""The receptive field of layers in sequence."""

from __future__ import annotations

from convspec.errors import RequestError
from convspec.layers.pictures.canvas import CELL, Canvas
from convspec.layers.pictures.geometry import axes
from convspec.spec import Chain


def receptive_field(chain: Chain, length: int, output: int | None = None) -> str:
    """The cells of every 1-D layer on which one output depends.

    Args:
        chain: 1-D layers.
        length: cells of the first layer's input.
        output: the output cell; default the middle one.

    Raises:
        RequestError: for other layers.
    """
    if chain.specs[0].ndim != 1:
        raise RequestError("this picture is of layers with 1 spatial axis")
    sizes = [shape[2] for shape in chain.shapes((1, chain.specs[0].in_channels, length))]
    found = [axes(spec, (size,))[0] for spec, size in zip(chain.specs, sizes, strict=False)]
    chosen = sizes[-1] // 2 if output is None else output
    reads = [{chosen}]
    for axis in reversed(found):
        reads.insert(0, {cell for o in reads[0] if 0 <= o < axis.output for cell, _ in axis.reads(o)})
    sheet, told = Canvas(), []
    field = chain.receptive_field((1, chain.specs[0].in_channels, length))
    jumps, offsets = [1.0], [0.0]
    for i in range(len(found)):
        part = Chain(chain.specs[: i + 1]).receptive_field((1, chain.specs[0].in_channels, length))
        jumps.append(float(part.jump[0]))
        offsets.append(float(part.offset[0]))
    left = 110
    for level, (size, read) in enumerate(zip(sizes, reads, strict=True)):
        y = (len(sizes) - 1 - level) * 64
        sheet.text(0, y + 17, "input" if level == 0 else f"after layer {level}", "soft")
        first, last = min(0, *read) if read else 0, max(size - 1, *read) if read else size - 1
        for cell in range(first, last + 1):
            x = left + (offsets[level] + cell * jumps[level]) * CELL
            inside = 0 <= cell < size
            sheet.cell(x, y, ("" if inside else "pad") + (" a" if cell in read else ""), "" if not inside else cell)
            if level and cell in read and inside:
                for source, _ in found[level - 1].reads(cell):
                    below = left + (offsets[level - 1] + source * jumps[level - 1]) * CELL
                    sheet.line(x + CELL / 2, y + CELL, below + CELL / 2, y + 64, "a")
        told.append(f"{len(read)} cells {'of the input' if level == 0 else f'after layer {level}'}")
    return sheet.render(
        f"Receptive field of {len(found)} layers: {field.size[0]} cells",
        f"Output {chosen} depends on {', '.join(reversed(told[:-1]))}; its field spans {field.size[0]} cells.",
    )
