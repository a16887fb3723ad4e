"""Pictures of layers: inputs that outputs read, outputs that inputs write, and the receptive field of a chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from convspec.errors import RequestError
from convspec.layers.pictures import text
from convspec.layers.pictures.canvas import CELL, Canvas
from convspec.layers.pictures.geometry import Axis, axes
from convspec.layers.sentences import times
from convspec.spec import Chain, ConvSpec, layouts

_MOST = 64  # elements along an axis that are still readable
_TOO_LONG = f"a picture has at most {_MOST} elements along an axis"
_FEW = 24  # elements of a chain's input that are drawn at least, if it has as many
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


# -- inputs that outputs read ------------------------------------------------------------------------------------------


def cells(spec: ConvSpec, spatial: Sequence[int], output: Sequence[int] | None = None) -> str:
    """Draw the input pixels and pads that one output pixel of a 1-D or 2-D layer reads.

    Args:
        spec: the layer.
        spatial: the input's size, one int per spatial axis.
        output: index of the output pixel; default the first.

    Raises:
        RequestError: for another rank, or more than 64 elements along an axis.
        ShapeError: if there is no such output.
    """
    both = _two_axes(spec, spatial)
    own = both[-spec.ndim :]
    chosen = (0,) * spec.ndim if output is None else tuple(output)
    place = (0,) * (2 - spec.ndim) + chosen
    if len(place) != 2 or any(not 0 <= o < axis.output for o, axis in zip(place, both, strict=True)):
        raise RequestError(f"output={chosen} must be inside the output's size, {tuple(axis.output for axis in own)}")
    sheet = Canvas()
    rows, columns = both
    taps = [dict(axis.reads(o)) for axis, o in zip(both, place, strict=True)]
    low = [-axis.before * (not axis.transposed) for axis in both]
    high = [axis.length + axis.after * (not axis.transposed) for axis in both]
    for y, x in product(range(low[0], high[0]), range(low[1], high[1])):
        inside = 0 <= y < rows.length and 0 <= x < columns.length
        read = y in taps[0] and x in taps[1]
        kind = ("" if inside else "pad") + (" a" if read else "")
        tap = "w" + "".join(str(t[c]) for t, c in [(taps[0], y), (taps[1], x)][-spec.ndim :]) if read else ""
        sheet.cell((x - low[1]) * CELL, 24 + (y - low[0]) * CELL, kind.strip(), tap)
    width = (high[1] - low[1]) * CELL
    sheet.text(0, 14, f"input {times([axis.length for axis in own])}")
    sheet.arrow(width + 12, 24 + CELL / 2, width + 40)
    left = width + 52
    for y, x in product(range(rows.output), range(columns.output)):
        sheet.cell(left + x * CELL, 24 + y * CELL, "b" if (y, x) == place else "")
    sheet.text(left, 14, f"output {times([axis.output for axis in own])}")
    return sheet.render(f"Inputs that output ({_listed(chosen)}) reads", _describe(own, chosen))


def _drawable_axes(spec: ConvSpec, spatial: Sequence[int]) -> tuple[Axis, ...]:
    """Return every spatial axis of the layer.

    Raises:
        RequestError: if one is too long for a picture.
        ShapeError: if the layer has no output for an input of that size.
    """
    every = axes(spec, spatial)
    if any(max(axis.length + axis.before + axis.after, axis.output, axis.span) > _MOST for axis in every):
        raise RequestError(_TOO_LONG)
    return every


def _two_axes(spec: ConvSpec, spatial: Sequence[int]) -> tuple[Axis, Axis]:
    """Return two axes; a 1-D layer gets a first axis of length 1."""
    if spec.ndim > 2:
        raise RequestError(f"a picture has 1 or 2 spatial axes, this layer has {spec.ndim}")
    if len(spatial) != spec.ndim:
        raise RequestError(f"spatial={tuple(spatial)} must have one size per spatial axis ({spec.ndim} here)")
    first, *rest = _drawable_axes(spec, spatial)
    return (first, rest[0]) if rest else (Axis(1, 1, 1, 1, 1, 0, 0, 0, False, "zeros"), first)


def _describe(drawn: Sequence[Axis], chosen: Sequence[int]) -> str:
    """Return the description of the picture in words."""
    parts = []
    for axis, letter, o in zip(drawn, layouts.spatial_letters(len(drawn)), chosen, strict=True):
        read = sorted(index for index, _ in axis.reads(o))
        inside = [index for index in read if 0 <= index < axis.length]
        pads = len(read) - len(inside)
        words = f"along {letter} the inputs {_listed(inside)}" if inside else f"along {letter} no input"
        parts.append(words + (f" and {pads} pad{'s' * (pads > 1)}" if pads else ""))
    return f"Output ({_listed(chosen)}) reads {'; '.join(parts)}."


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def windows(layers: Mapping[str, ConvSpec], length: int) -> str:
    """Draw the inputs that every output of 1-D layers reads, one layer below the other.

    Args:
        layers: the 1-D layers by caption.
        length: number of elements of their input.
    """
    drawn = {caption: _two_axes(spec, (length,))[1] for caption, spec in layers.items()}
    if any(axis.transposed for axis in drawn.values()):
        raise RequestError("a transposed layer scatters: draw it with scatter()")
    reach = max(axis.before for axis in drawn.values())
    sheet, y = Canvas(), 0.0
    for caption, axis in drawn.items():
        y = _window_rows(sheet, y, caption, axis, reach) + 22
    texts = "; ".join(f"{caption}: {_describe_windows(axis)}" for caption, axis in drawn.items())
    title = f"Inputs that each output reads: {', '.join(drawn)}"
    return sheet.render(title, f"Of an input of {length} elements, {texts}.")


def _describe_windows(axis: Axis) -> str:
    """Return the rows of an axis in words."""
    reads = ", ".join(f"[{_listed([index for index, _ in axis.reads(o)])}]" for o in range(axis.output))
    return f"pads {axis.before} before and {axis.after} after, outputs read {reads}"


def _window_rows(sheet: Canvas, y: float, caption: str, axis: Axis, reach: int) -> float:
    """Draw a layer's padded input, and below it a row of taps for every output; return the y below them."""
    sheet.text(0, y + 12, caption, "strong")
    read = {index for o in range(axis.output) for index, _ in axis.reads(o)}
    if unread := [index for index in range(axis.length) if index not in read]:
        sheet.text(0, y + 28, f"never read: {', '.join(f'x{index}' for index in unread)}", "warn")
        y += 16
    y += 20
    left = reach * CELL
    for index in range(-axis.before, axis.length + axis.after):
        inside = 0 <= index < axis.length
        held = axis.holds(index)
        word = f"x{index}" if inside else "0" if held is None else f"x{held}"
        sheet.cell(left + index * CELL, y, "d" if index in unread else "" if inside else "pad", word)
    for o in range(axis.output):
        level = y + CELL + 6 + o * 14
        taken = [index for index, _ in axis.reads(o)]
        first, last = (left + index * CELL for index in (taken[0], taken[-1]))
        sheet.line(first + 4, level + 4, last + CELL - 4, level + 4)
        for index in taken:
            sheet.cell(left + index * CELL + CELL / 2 - 5, level, "ab"[o % 2], width=10, height=8)
        sheet.text(left + (axis.length + axis.after) * CELL + 10, level + 9, f"y{o}", "soft")
    return y + CELL + 6 + axis.output * 14


def padding_modes(length: int, pad: int) -> str:
    """Draw the values of the pads in each padding mode, along one axis."""
    sheet, texts = Canvas(), []
    for row, mode in enumerate(("zeros", "reflect", "replicate", "circular")):
        (axis,) = axes(ConvSpec(1, 1, (1,), padding=(pad,), padding_mode=mode), (length,))
        held = [(axis.holds(index), 0 <= index < length) for index in range(-pad, length + pad)]
        words = ["0" if source is None else _LETTERS[source] for source, _ in held]
        sheet.text(0, row * 36 + 17, mode, "strong")
        kinds = [("" if inside else "pad" + (" a" if source is not None else "")) for source, inside in held]
        sheet.row(80, row * 36, zip(kinds, words, strict=True))
        texts.append(f"{mode}: {' '.join(words[:pad])} before and {' '.join(words[-pad:])} after")
    return sheet.render(
        "Values of the pads",
        f"An input {' '.join(_LETTERS[:length])} with {pad} pads on each side. {'; '.join(texts)}.",
    )


# -- transposed layers: a scatter of the inputs, or a convolution of the zero-stuffed input ----------------------------


def _axis(spec: ConvSpec, length: int) -> Axis:
    if spec.ndim != 1 or not spec.transposed:
        raise RequestError("this picture shows a transposed layer with 1 spatial axis")
    return axes(spec, (length,))[0]


def scatter(spec: ConvSpec, length: int) -> str:
    """Draw a 1-D transposed layer: every input is multiplied by all taps, the products are summed, the sum is cropped.

    Raises:
        RequestError: for any other layer.
    """
    axis = _axis(spec, length)
    sheet = Canvas()
    _scatter_rows(sheet, 0, axis)
    return sheet.render("A transposed convolution as a scatter", _describe_scatter(axis))


def _scatter_rows(sheet: Canvas, y: float, axis: Axis) -> float:
    """Draw the products of every input in its own row and their sum below; return the y below them."""
    left = 56
    for i in range(axis.length):
        hue = "abcd"[i % 4]
        sheet.cell(0, y, hue, f"x{i}")
        sheet.arrow(CELL + 4, y + CELL / 2, left - 6)
        for tap in range(axis.kernel):
            sheet.cell(left + (i * axis.stride + tap * axis.dilation) * CELL, y, hue, f"w{tap}")
        y += CELL + 4
    y += 18
    sheet.text(left - 8, y + 17, "sum", "soft", anchor="end")
    first, last = axis.before, axis.before + axis.output
    for place in range(max(axis.full, last)):
        kept = first <= place < last
        kind = ("dash " if place >= axis.full else "") + ("c" if kept else "pad")
        sheet.cell(left + place * CELL, y, kind, f"y{place - first}" if kept else "×")
    sheet.text(left, y + CELL + 16, _cropped(axis), "soft")
    return y + CELL + 16


def _cropped(axis: Axis) -> str:
    more = f"; output_padding keeps {axis.extra} more at the end" if axis.extra else ""
    return f"{axis.before} cropped before, {axis.after} after{more}"


def _describe_scatter(axis: Axis) -> str:
    """Return the scatter of an axis in words."""
    return (
        f"Each of {axis.length} inputs is multiplied by {axis.kernel} taps, {axis.stride} elements after the last one. "
        f"The overlapping products sum to {axis.full} elements; {_cropped(axis)}: {axis.output} remain."
    )


def zero_stuffing(spec: ConvSpec, length: int) -> str:
    """Draw a 1-D transposed layer as a regular one: zeros between the inputs, pads around them, a flipped kernel.

    Raises:
        RequestError: for any other layer.
    """
    axis = _axis(spec, length)
    before = axis.span - 1 - axis.before
    after = axis.span - 1 - axis.after + axis.extra
    stuffed = [(-1 if i % axis.stride else i // axis.stride) for i in range((length - 1) * axis.stride + 1)]
    sheet = Canvas()
    sheet.text(0, 14, "input")
    shift = max(before, 0)
    sheet.row(shift * CELL, 22, [("", f"x{i}") for i in range(length)])
    zeros = f"{axis.stride - 1} zero{'s' * (axis.stride != 2)}"
    sheet.text(0, 74, f"{zeros} between, {before} before, {after} after, then stride 1")
    for place in range(-before, len(stuffed) + after):
        inside = 0 <= place < len(stuffed)
        held = stuffed[place] if inside else -1
        word, kind = (f"x{held}", "") if held >= 0 else ("0", "b" if inside else "pad")
        sheet.cell((shift + place) * CELL, 82, kind, word)
    sheet.text(0, 134, f"the kernel, flipped: w{axis.kernel - 1} … w0")
    for tap in range(axis.kernel):
        at = (shift - before + (axis.kernel - 1 - tap) * axis.dilation) * CELL
        sheet.cell(at, 142, "a", f"w{tap}")
    sheet.arrow((shift - before + axis.span) * CELL + 8, 155, (shift - before + axis.span + 2) * CELL)
    return sheet.render(
        "A transposed convolution as zero-stuffing",
        f"{axis.stride - 1} zeros between neighbouring inputs, {before} before and {after} after; then a convolution "
        f"of stride 1 with the flipped kernel gives {axis.output} outputs.",
    )


# -- layers of any kind, and chains ------------------------------------------------------------------------------------


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
    drawn = _drawable_axes(spec, sizes)
    sheet, y = Canvas(), 0.0
    texts = []
    reach = 0 if spec.transposed else max(axis.before for axis in drawn)
    for letter, axis in zip(layouts.spatial_letters(spec.ndim), drawn, strict=True):
        if spec.transposed:
            sheet.text(0, y + 12, f"along {letter}", "strong")
            y = _scatter_rows(sheet, y + 22, axis) + 26
            texts.append(f"Along {letter}: {_describe_scatter(axis)}")
        else:
            y = _window_rows(sheet, y, f"along {letter}", axis, reach) + 22
            texts.append(f"Along {letter}, of {axis.length} elements, {_describe_windows(axis)}.")
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
    probe = flat.explicit((1, 1, given or _MOST)) if words else flat
    field = probe.receptive_field()
    step = max(int(field.jump[0]), 1)
    least = max(field.size[0] + 2 * step, _FEW)
    length = least if given is None or given > least else given
    length += (given - least) % step if given is not None and given > least else 0  # the same remainder: the same pads
    if length > _MOST:
        raise RequestError(_TOO_LONG)
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
    shape = (1, chain.specs[0].in_channels, length)
    sizes = [each[2] for each in chain.shapes(shape)]
    drawn = [axes(spec, (size,))[0] for spec, size in zip(chain.specs, sizes, strict=False)]
    chosen = sizes[-1] // 2 if output is None else output
    reads = [{chosen}]
    for axis in reversed(drawn):
        reads.insert(0, {index for o in reads[0] if 0 <= o < axis.output for index, _ in axis.reads(o)})
    sheet, texts = Canvas(), []
    fields = [Chain(chain.specs[: i + 1]).receptive_field(shape) for i in range(len(drawn))]
    jumps = [1.0, *(float(field.jump[0]) for field in fields)]
    offsets = [0.0, *(float(field.offset[0]) for field in fields)]
    span = fields[-1].size[0]
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
        f"Receptive field of {len(drawn)} layers: {span} elements",
        f"Output {chosen} depends on {', '.join(reversed(texts[:-1]))}; its field spans {span} elements.",
    )
