"""What a person reads; the text is meant to change only on purpose."""

from dataclasses import replace

import numpy as np
import pytest
from rich.style import Style

from convspec import ConvParams, ConvSpec, diagnose, reference
from convspec.diagnosis.findings import lines

SPEC = ConvSpec(1, 2, 3, stride=2, padding="same", bias=False)
PARAMS = ConvParams.exact(SPEC, 1)
X = np.random.default_rng(0).integers(-9, 10, (1, 1, 6, 8)).astype(np.float32)

EQUAL_PADS = """\
24 of 24 elements are wrong, by at most {size} of Σ|x||w| + |b|; everywhere.
5 explanations give exactly these numbers; this input cannot tell them apart:

'same' padding ported as equal padding on both sides [same-as-symmetric]
  what: padded equally, rounded up: (1, 1) (to the last bit)
  why:  'same' pads only as much as the output needs: with a stride or an even kernel that is often
        an odd number, and the extra element goes after the input. padding=k//2 pads both sides
        equally, so every window starts one element earlier, usually with no change of shape.
  fix:  Pad explicitly with the resolved numbers (spec.explicit(input_shape).padding), then convolve
        unpadded.
  seen: https://github.com/pytorch/pytorch/issues/3867
  seen: https://github.com/google/flax/issues/2993
  seen: https://github.com/taehoonlee/tensornets/issues/25

Or: The odd element of the padding is on the wrong side (SAME_UPPER against SAME_LOWER) [odd-cell-on-the-wrong-side]
  what: before and after exchanged on every axis
  fix:  Write the pads as numbers, (before, after) for each axis.
"""


def test_a_finding_says_what_why_and_how_to_fix_it():
    found = diagnose(SPEC, PARAMS, X, reference.conv(replace(SPEC, padding=1), PARAMS, X))
    assert str(found).startswith(EQUAL_PADS.format(size=f"{found.location.largest:.2g}"))


def test_a_finding_alone_prints_its_part_of_the_text():
    found = diagnose(SPEC, PARAMS, X, reference.conv(replace(SPEC, padding=1), PARAMS, X))
    assert f"\n\n{found[0]}\n\nOr: " in str(found)
    assert len(repr(found[0])) < 400


def test_a_notebook_shows_a_table_of_the_findings():
    found = diagnose(SPEC, PARAMS, X, reference.conv(replace(SPEC, padding=1), PARAMS, X))
    html = found._repr_html_()
    assert html.count("<tr>") == 1 + len(found)
    assert "<td>&#x27;same&#x27; padding ported as equal padding on both sides [same-as-symmetric]</td>" in html
    assert '<a href="https://github.com/pytorch/pytorch/issues/3867">pytorch/pytorch/issues/3867</a>' in html
    assert diagnose(SPEC, PARAMS, X, reference.conv(SPEC, PARAMS, X))._repr_html_() == (
        "<pre>The numbers are right: nothing to diagnose.</pre>"
    )


def test_the_nearest_mistakes_say_that_they_explain_a_part_only():
    actual = reference.conv(SPEC, PARAMS, X)
    actual[0, 1, 1, ::2] += 40
    nearest = diagnose(SPEC, PARAMS, X, actual, seconds=0).nearest
    assert all("% of the elements unexplained)" in " ".join(str(finding).split()) for finding in nearest)


@pytest.mark.parametrize(
    ("distance", "words"),
    [
        (0.254, "within rounding, 0.25 of the bound"), (1.0, "within rounding, 1 of the bound"),
        (1.5, "leaves 37.5% of the elements unexplained"), (np.inf, "leaves 37.5% of the elements unexplained"),
    ],
)  # fmt: skip
def test_a_finding_beyond_the_bound_explains_a_part_only(distance, words):
    found = diagnose(SPEC, PARAMS, X, reference.conv(replace(SPEC, padding=1), PARAMS, X))[0]
    measured = replace(found.measured, worst=distance, wrong=0.375, exact=False)
    assert f"({words})" in " ".join(str(replace(found, measured=measured)).split())


def test_right_numbers():
    assert (
        str(diagnose(SPEC, PARAMS, X, reference.conv(SPEC, PARAMS, X))) == "The numbers are right: nothing to diagnose."
    )


def test_an_unknown_error_is_drawn():
    actual = reference.conv(SPEC, PARAMS, X)
    actual[0, 1, 1, ::2] += 40
    text = str(diagnose(SPEC, PARAMS, X, actual, seconds=0))
    size = 40 / reference.magnitude(SPEC, PARAMS, X)[0, 1, 1, ::2].min()
    assert text.startswith(
        f"2 of 24 elements are wrong, by at most {size:.2g} of Σ|x||w| + |b|; output channel 1 only (of 2); "
        "position 1 along H only (of 3); positions 0, 2 along W only (of 4)"
    )
    assert "simulated mistakes and pairs of mistakes gives these numbers." in text
    assert "The time limit was reached before all pairs were tried: allow more seconds." in " ".join(text.split())
    assert "Errors of sample 0, channel 1 (darker: larger):\n  ····\n  ▓·▓·\n  ····" in text


def test_a_wrong_shape_is_said_first():
    text = str(diagnose(SPEC, PARAMS, X, reference.conv(SPEC, PARAMS, X)[..., 1:]))
    assert text.startswith("The shape is wrong: expected (1, 2, 3, 4), got (1, 2, 3, 3)")


def test_every_line_has_a_style_that_a_terminal_knows():
    found = diagnose(SPEC, PARAMS, X, reference.conv(replace(SPEC, padding=1), PARAMS, X))
    styles = {style for _, style in lines(found)}
    assert len(styles) > 2
    for style in styles:
        Style.parse(style)
