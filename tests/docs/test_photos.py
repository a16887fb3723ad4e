"""The figures of the photograph: computed by the reference, on a page, with alternative texts, small."""

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PAGES = {page: page.read_text("utf-8") for page in (ROOT / "docs" / "reference" / "parameters").glob("*.md")}


@pytest.fixture(scope="module")
def figures():
    import site_photos

    return site_photos


def test_every_figure_stands_on_one_page(figures):
    shown = [name for text in PAGES.values() for name in re.findall(r"^```\{photos\} (\w+)$", text, re.M)]
    assert sorted(shown) == sorted(figures.FIGURES)
    for page in ("out_channels", "in_channels", "stride", "dilation", "padding_mode", "transposed", "groups"):
        assert "{photos}" in (ROOT / "docs" / "reference" / "parameters" / f"{page}.md").read_text("utf-8")


def test_figures_are_images_with_texts_and_small(figures, tmp_path):
    for name in figures.FIGURES:
        html = figures.render(name, "../", tmp_path)
        images = re.findall(r'<img class="\w+" src="\.\./_static/(.+?)" width="\d+" height="\d+" alt="(.+?)"', html)
        assert len(images) == html.count("<img") > 0
        assert all(len(alt) > 10 for _, alt in images)
        assert sum((tmp_path / file).stat().st_size for file in {file for file, _ in images}) < 100_000, name


def test_images_hold_the_values(tmp_path):
    import site_png

    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    site_png.write_colours(tmp_path / "a.png", pixels)
    assert (site_png.read(tmp_path / "a.png") == pixels).all()
    site_png.write_grey(tmp_path / "b.png", np.zeros((3, 4)))
    with pytest.raises(ValueError, match="must be an 8-bit RGB"):
        site_png.read(tmp_path / "b.png")


def test_the_photograph_has_its_licence(figures):
    assert figures.photo().shape == (1, 3, 128, 128)
    said = (figures.PHOTO.parent / "LICENCE.md").read_text("utf-8")
    assert "CC0" in said
    assert "skimage.data.coffee" in (ROOT / "docs" / "reference" / "pictures.md").read_text("utf-8")


def test_a_sheet_of_every_colour_is_part_of_the_sum(figures):
    """The kernel that a row shows is the one that made its map."""
    for row in list(figures.out_channels())[1:]:
        kernel, _, image = row
        padded = np.pad(figures.photo()[0], ((0, 0), (1, 1), (1, 1)), "edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        assert np.allclose(image.values, np.einsum("chwij,cij->hw", windows, kernel.sheets))


def test_the_checkerboard_is_one_and_the_other_is_not(figures):
    """On a constant input the outputs differ where the kernel is no multiple of the stride, and only there."""
    from convspec import ConvSpec

    counts = {}
    for k in (3, 4):
        spec = ConvSpec(1, 1, k, stride=2, padding=1, transposed=True, bias=False)
        inside = figures.run(spec, np.ones((k, k)), np.ones((1, 1, 8, 8)))[0, 0, 2:-2, 2:-2]
        counts[k] = {*np.unique(inside)}
    assert counts == {3: {1, 2, 4}, 4: {4}}
    text = PAGES[ROOT / "docs" / "reference" / "parameters" / "transposed.md"]
    assert "With a kernel of 3 and a\nstride of 2, these are one, two or four products." in text


def test_doubling_every_width_costs_four_times():
    import site_widths

    from convspec.corpora import architectures

    cases = [*architectures.resnet50()]
    twice = [site_widths.doubled(case) for case in cases]
    for before, after in zip(cases, twice, strict=True):
        assert after.spec.output_shape(after.input_shape)[1] == 2 * before.spec.out_channels
        assert after.input_shape[1] == (3 if before is cases[0] else 2 * before.input_shape[1])
    depthwise = next(case for case in architectures.mobilenet_v2() if case.spec.depthwise)
    assert site_widths.doubled(depthwise).spec.num_parameters == 2 * depthwise.spec.num_parameters


def test_every_drawing_links_to_its_call():
    import site_pictures

    listed = site_pictures.listing()
    for text in PAGES.values():
        for expression in re.findall(r"^```\{picture\}\n(.*?)^```$", text, re.M | re.S):
            assert f"({site_pictures.mark(expression)})=" in listed
