"""A plan's text is what runs: what it defines is new each time, what it is compiled to is not."""

import linecache
import traceback

import pytest

from convspec import ConvSpec
from convspec.contract.plan import _KEPT, Plan


def plan(text):
    return Plan(ConvSpec(3, 4, 3), "NCHW", "float32", text)


def test_every_execution_defines_a_layer_of_its_own():
    text = "class Layer:\n    pass\nlayer = Layer()\n"
    first, second = plan(text).execute(), plan(text).execute()
    assert type(first).__name__ == type(second).__name__ == "Layer"
    assert type(first) is not type(second)


def test_a_traceback_shows_the_lines_of_the_text():
    with pytest.raises(ZeroDivisionError) as raised:
        plan("def layer():\n    return 1 // 0  # the very line\n").execute()()
    assert "return 1 // 0  # the very line" in "".join(traceback.format_exception(raised.value))


def test_no_number_of_layers_fills_the_memory():
    def lines():
        return sum(name.startswith("<convspec plan") for name in linecache.cache)

    for _ in range(3):
        plan("layer = 0").execute()
    before = lines()
    plan("layer = 0").execute()
    assert lines() == before
    for number in range(_KEPT + 50):
        assert plan(f"layer = {number}").execute() == number
    assert lines() == _KEPT
