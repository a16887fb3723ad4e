"""Channels: filters and their feature maps, groups, and the errors in one channel."""

from __future__ import annotations

from collections.abc import Sequence

from convspec.layers.pictures.canvas import CELL, Canvas
from convspec.spec import ConvSpec

SHADES = "·░▒▓█"  # from correct to the largest error
_SIDE = 12
_MOST = 12  # channels drawn; of more, the first ones


def filters(spec: ConvSpec) -> str:
    """Draw the filters of a layer: each reads all input channels (of its group) and makes one output channel."""
    sheet = Canvas()
    ins, outs = min(spec.in_channels, _MOST), min(spec.out_channels, _MOST)
    per = spec.in_channels // spec.groups
    taps = " × ".join(map(str, (per, *spec.kernel_size)))
    height = max(ins, outs) * (CELL + 6)
    sheet.text(0, 14, f"{spec.in_channels} input channel{'s' * (spec.in_channels > 1)}")
    sheet.text(150, 14, f"{spec.out_channels} filters of {taps}")
    sheet.text(330, 14, f"{spec.out_channels} feature maps")
    tops = {"in": 24 + (height - ins * (CELL + 6)) / 2, "out": 24 + (height - outs * (CELL + 6)) / 2}
    for o in range(outs):
        group = o * spec.groups // spec.out_channels
        hue, y = "abcd"[o % 4], tops["out"] + o * (CELL + 6)
        for i in range(ins):
            if i // per == group:
                sheet.line(CELL * 2, tops["in"] + i * (CELL + 6) + CELL / 2, 150, y + CELL / 2, hue)
        sheet.cell(150, y, hue, f"filter {o}" + (" + bias" if spec.bias else ""), width=110)
        sheet.arrow(266, y + CELL / 2, 322)
        sheet.cell(330, y, hue, f"map {o}", width=70)
    for i in range(ins):
        sheet.cell(0, tops["in"] + i * (CELL + 6), "", f"c{i}", width=CELL * 2)
    inputs = "all input channels" if spec.groups == 1 else f"the {per} input channel{'s' * (per > 1)} of its group"
    return sheet.render(
        f"{spec.out_channels} filters make {spec.out_channels} feature maps",
        f"Each of the {spec.out_channels} filters, of {taps} weights, reads {inputs} and makes one output channel.",
    )


def groups(spec: ConvSpec) -> str:
    """Draw the input channels that each output channel depends on."""
    sheet, step = Canvas(), CELL + 12
    inside, outside = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    width = max(spec.in_channels, spec.out_channels) * step
    starts = [(width - n * step) / 2 for n in (spec.in_channels, spec.out_channels)]
    for o in range(spec.out_channels):
        group = o // outside
        hue = "abcd"[group % 4]
        for i in range(group * inside, (group + 1) * inside):
            sheet.line(starts[0] + i * step + CELL / 2, 18 + CELL, starts[1] + o * step + CELL / 2, 118, hue)
        sheet.cell(starts[1] + o * step, 118, hue, f"o{o}")
    for i in range(spec.in_channels):
        sheet.cell(starts[0] + i * step, 18, "abcd"[i // inside % 4], f"i{i}")
    sheet.text(starts[0], 10, f"{spec.in_channels} input channels", "soft")
    sheet.text(
        starts[1], 162, f"{spec.out_channels} output channels, {spec.groups} group{'s' * (spec.groups > 1)}", "soft"
    )
    text = "; ".join(
        f"outputs {g * outside} to {(g + 1) * outside - 1} read inputs {g * inside} to {(g + 1) * inside - 1}"
        for g in range(spec.groups)
    )
    return sheet.render(f"groups={spec.groups}", f"{text[0].upper()}{text[1:]}.")


def errors(rows: Sequence[str], what: str) -> str:
    """Draw the errors in one channel, given as one text of :data:`SHADES` per row, as in a diagnosis."""
    sheet = Canvas()
    wrong = total = 0
    sheet.text(0, 0, what, "soft")
    for y, row in enumerate(rows):
        for x, sign in enumerate(row):
            level = max(SHADES.find(sign), 0)
            wrong, total = wrong + (level > 0), total + 1
            sheet.cell(x * _SIDE, 10 + y * _SIDE, f"e{level}" if level else "", width=_SIDE, height=_SIDE)
    return sheet.render("Error positions", f"In {what}, {wrong} of {total} positions are wrong.")
