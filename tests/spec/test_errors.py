"""Text of unknown origin in messages."""

import pytest

from convspec.errors import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("é 卷", "é 卷"), ("two\nlines\tand a tab", "two lines and a tab"), ("\x1b[31m\x07", r"\x1b[31m\x07"),
        ("\u202egpj", r"\u202egpj"), ("\udc80", r"\udc80"), ("\r", r"\r"), (ValueError("why"), "why"), (None, "None"),
    ],
)  # fmt: skip
def test_a_terminal_obeys_nothing_in_it(text, shown):
    assert printable(text) == shown
    assert printable(text).isprintable()


def test_it_is_cut_where_it_is_long():
    assert printable("x" * 300) == "x" * 300
    assert printable("x" * 301) == "x" * 299 + "…"
    assert printable("\x1b" * 9, 10) == "\\x1b\\x1b\\…"
    assert printable("x" * 5000, None) == "x" * 5000
