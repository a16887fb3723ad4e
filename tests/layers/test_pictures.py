"""Pictures: well formed, the same every time, told in words, and drawn from the layer's own arithmetic."""

import re
import subprocess
import sys
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings

from convspec import Chain, ConvSpec
from convspec.errors import RequestError, ShapeError
from convspec.layers import pictures
from convspec.layers.pictures import geometry
from convspec.layers.pictures import text as drawing
from convspec.strategies import specs

SVG = "{http://www.w3.org/2000/svg}"
UP = ConvSpec(1, 1, (3,), stride=2, padding=1, output_padding=1, transposed=True)
GALLERY = {
    "cells": lambda: pictures.cells(ConvSpec(3, 16, (3, 5), stride=(2, 1), padding=((0, 1), (2, 1))), (6, 7), (1, 2)),
    "windows": lambda: pictures.windows(
        {"a < b": ConvSpec(1, 1, (2,), stride=3), "same": ConvSpec(1, 1, (3,), padding=1)}, 8
    ),
    "padding modes": lambda: pictures.padding_modes(5, 2),
    "scatter": lambda: pictures.scatter(UP, 4),
    "zero-stuffing": lambda: pictures.zero_stuffing(UP, 4),
    "filters": lambda: pictures.filters(ConvSpec(3, 5, (3, 5))),
    "groups": lambda: pictures.groups(ConvSpec(4, 6, 3, groups=2)),
    "data": lambda: pictures.data_layouts(3, (2, 4)),
    "kernel": lambda: pictures.kernel_layouts((3, 2, 2, 2), {"O & I": "OI*", "I, O": "*IO"}),
    "formats": lambda: pictures.formats({"float32": (8, 23), "float16": (5, 10)}),
    "sums": lambda: pictures.sums([16777216, 1, 1, -16777216], {"a < b": (((0, 1), 2), 3), "lanes": ((0, 2), (1, 3))}),
    "field": lambda: pictures.receptive_field(Chain([ConvSpec(1, 2, (3,)), ConvSpec(2, 2, (3,), stride=2)]), 11),
}


def parsed(text):
    root = ET.fromstring(text)
    assert root.tag == f"{SVG}svg"
    return root


def boxes(root, *kinds):
    return [r for r in root.iter(f"{SVG}rect") if set(kinds) <= set(r.get("class", "").split())]


@pytest.mark.parametrize("name", GALLERY)
def test_a_picture_says_in_words_what_it_shows(name):
    root = parsed(GALLERY[name]())
    title, description = (root.find(f"{SVG}{part}") for part in ("title", "desc"))
    assert title.text
    assert len(description.text) > len(title.text)
    assert root.get("aria-labelledby").split() == [title.get("id"), description.get("id")]
    assert root.get("role") == "img"


@pytest.mark.parametrize("name", GALLERY)
def test_a_picture_is_whole_and_follows_the_theme(name):
    text = GALLERY[name]()
    root = parsed(text)
    left, top, width, height = map(float, root.get("viewBox").split())
    for box in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(box.get(key)) for key in ("x", "y", "width", "height"))
        assert left <= x <= x + w <= left + width
        assert top <= y <= y + h <= top + height
    assert "prefers-color-scheme:dark" in text
    assert not re.search(r'(fill|stroke)="', text), "a colour that no theme can change"


def test_the_same_spec_gives_the_same_bytes_in_another_process():
    code = (
        "from convspec import ConvSpec\nfrom convspec.layers import pictures\n"
        "import sys; sys.stdout.buffer.write(pictures.cells(ConvSpec(1, 1, (3, 2), padding=1), (4, 5)).encode())\n"
        "assert not {'numpy', 'rich'} & set(sys.modules)"
    )
    runs = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}
    assert runs == {pictures.cells(ConvSpec(1, 1, (3, 2), padding=1), (4, 5)).encode()}


def test_cells_marks_what_the_output_reads():
    root = parsed(pictures.cells(ConvSpec(3, 16, 3, stride=2, padding=1), (6, 7), (0, 1)))
    assert len(boxes(root, "a")) == 9
    assert len(boxes(root, "a", "pad")) == 3
    assert len(boxes(root, "b")) == 1
    assert "along H the inputs 0, 1 and 1 pad; along W the inputs 1, 2, 3." in root.find(f"{SVG}desc").text


def test_cells_of_a_transposed_layer_are_those_scattered_to_it():
    root = parsed(pictures.cells(ConvSpec(1, 1, 3, stride=2, padding=1, transposed=True), (3, 4), (2, 3)))
    assert [t.text for t in root.iter(f"{SVG}text") if t.text.startswith("w")] == ["w12", "w10"]
    assert len(boxes(root, "a")) == 2
    assert not boxes(root, "pad")


def test_one_axis_is_a_row():
    root = parsed(pictures.cells(ConvSpec(1, 1, (3,), padding=((2, 0),)), (7,)))
    assert {box.get("y") for box in root.iter(f"{SVG}rect")} == {"24"}
    assert [t.text for t in root.iter(f"{SVG}text") if re.fullmatch(r"w\d+", t.text)] == ["w0", "w1", "w2"]


def test_cells_that_no_output_reads_are_named():
    words = [t.text for t in parsed(pictures.windows({"k2 s3": ConvSpec(1, 1, (2,), stride=3)}, 8)).iter(f"{SVG}text")]
    assert "never read: x2, x5" in words


def test_the_kept_cells_of_a_scatter_are_the_output():
    root = parsed(pictures.scatter(UP, 4))
    assert len([r for r in boxes(root, "c") if r.get("y") == boxes(root, "pad")[0].get("y")]) == 8
    assert UP.output_shape((1, 1, 4)) == (1, 1, 8)


def test_memory_is_walked_in_the_layouts_order():
    root = parsed(pictures.data_layouts(2, (2, 3)))
    digits = [t.text for t in root.iter(f"{SVG}text") if re.fullmatch(r"\d{3}", t.text)]
    assert digits[:4] == ["000", "001", "002", "010"]
    assert digits[12:16] == ["000", "100", "001", "101"]


def test_sums_are_those_of_float32():
    numbers = np.array([16777216, 1, 1, -16777216], np.float32)
    orders = {"in turn": (((0, 1), 2), 3), "lanes": ((0, 2), (1, 3)), "halves": ((0, 3), (1, 2))}

    def added(order):
        return numbers[order] if isinstance(order, int) else added(order[0]) + added(order[1])

    root = parsed(pictures.sums(numbers.tolist(), orders))
    told = root.find(f"{SVG}desc").text.removesuffix(".").split("; ")
    assert (
        [float(each.rpartition(" = ")[2]) for each in told] == [added(order) for order in orders.values()] == [0, 1, 2]
    )
    rounded = [box for box in boxes(root, "b") if float(box.get("width")) > 20]
    assert len(rounded) == 2 + 1  # 2²⁴ + 1 twice in turn, once in a lane; its neighbour, 1 - 2²⁴, is exact


def test_groups_join_only_their_own_channels():
    spec = ConvSpec(4, 6, 3, groups=2)
    assert len([*parsed(pictures.groups(spec)).iter(f"{SVG}line")]) == 6 * 2


def test_the_field_of_a_chain_is_the_arithmetics():
    chain = Chain([ConvSpec(1, 2, (3,)), ConvSpec(2, 2, (3,), stride=2)])
    root = parsed(pictures.receptive_field(chain, 11))
    lowest = max(float(box.get("y")) for box in root.iter(f"{SVG}rect"))
    marked = [box for box in boxes(root, "a") if float(box.get("y")) == lowest]
    assert len(marked) == chain.receptive_field().size[0] == 5


def test_words_from_outside_stay_words():
    root = parsed(pictures.windows({'<script>alert("x")</script>&': ConvSpec(1, 1, (3,))}, 5))
    assert not [*root.iter(f"{SVG}script")]


@given(spec=specs(ndims=(1, 2)))
@settings(max_examples=60)
def test_any_layer_can_be_drawn(spec):
    try:
        shape = spec.output_shape((1, spec.in_channels, *(9, 12)[: spec.ndim]))
    except ShapeError:
        return
    if all(shape[2:]):
        drawn = parsed(pictures.cells(spec, (9, 12)[: spec.ndim], [n - 1 for n in shape[2:]]))
        assert list(drawn.iter(f"{SVG}rect"))
    if spec.transposed and spec.ndim == 1:
        parsed(pictures.scatter(spec, 9))
        parsed(pictures.zero_stuffing(spec, 9))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: pictures.cells(ConvSpec(1, 1, 3, ndim=3), (5, 5, 5)),
        lambda: pictures.cells(ConvSpec(1, 1, 3), (5,)),
        lambda: pictures.cells(ConvSpec(1, 1, 3), (5, 5), (3, 0)),
        lambda: pictures.cells(ConvSpec(1, 1, 3), (5, 5), (-1, 0)),
        lambda: pictures.cells(ConvSpec(1, 1, 3), (5, 500)),
        lambda: pictures.windows({"up": UP}, 5),
        lambda: pictures.scatter(ConvSpec(1, 1, (3,)), 5),
        lambda: pictures.data_layouts(64, (28, 28)),
        lambda: pictures.sums([1, 2, 3], {"one is missing": (0, 1)}),
        lambda: pictures.sums([1, 2], {"one is twice there": ((0, 1), 1)}),
        lambda: pictures.sums(range(9), {}),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw):
    with pytest.raises(RequestError):
        draw()


@settings(deadline=None, max_examples=80)
@given(specs())
def test_every_layer_has_a_picture_or_a_reason(spec):
    cells = [
        max(axis.length + axis.before + axis.after, axis.output, axis.span)
        for axis in geometry.axes(spec, drawing.small(spec))
    ]
    if max(cells) > 64:
        with pytest.raises(RequestError, match="cannot be read in a picture"):
            pictures.layer(spec)
    else:
        assert parsed(pictures.layer(spec)).find(f"{SVG}desc").text


def test_the_picture_of_a_3d_layer_shows_every_axis():
    root = parsed(pictures.layer(ConvSpec(2, 4, (3, 2, 1), stride=(2, 1, 3), padding=(1, 0, 2)), (9, 8, 7)))
    words = [t.text for t in root.iter(f"{SVG}text")]
    assert [w for w in words if w.startswith("along ")] == ["along D", "along H", "along W"]


def test_the_pads_of_a_large_input_are_those_of_the_small_one_that_is_drawn():
    spec = ConvSpec(1, 1, (3,), stride=2, padding="same")
    for length in (224, 225):
        ((lo, hi),) = spec.explicit((1, 1, length)).padding
        assert f"pads {lo} before and {hi} after" in pictures.layer(spec, (length,))


def test_a_sequence_is_drawn_along_its_last_axis():
    chain = Chain([ConvSpec(1, 6, (5, 3), padding="same"), ConvSpec(6, 16, (5, 3), stride=2)])
    assert "Receptive field of 2 layers: 5 elements" in pictures.sequence(chain, (28, 300))
    with pytest.raises(RequestError, match="at most 64 elements"):
        pictures.sequence(Chain([ConvSpec(1, 1, 99)]))
