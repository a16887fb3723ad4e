"""Pads before a convolution as its own."""

from types import SimpleNamespace

import numpy as np
import pytest

from convspec import ConvParams, ConvSpec
from convspec.contract import StepTrace, TracedStep
from convspec.contract.plan_adapter import PlanAdapter
from convspec.contract.protocol import FoundConv, Reading
from convspec.contract.tracing.pad_folding import VARIES, Pad, described, folded, pads_met
from convspec.errors import UnsupportedError
from convspec.spec import steps


def found(spec):
    return FoundConv("conv", Reading(spec, ConvParams.random(spec), "NCHW"))


ROWS = Pad("zeros", ((2, 0), (0, 1)))


def test_pads_add_up_nearest_first():
    one = folded(found(ConvSpec(3, 4, 3, padding=1)), [ROWS, Pad("zeros", ((0, 3), (0, 0)))])
    assert one.reading.spec == ConvSpec(3, 4, 3, padding=((3, 4), (1, 2)))
    assert (one.pads, one.note) == (((2, 3), (0, 1)), "")


def test_a_pad_of_another_mode_gives_the_layer_its_mode_where_it_has_no_padding_of_its_own():
    pad = Pad("reflect", ((2, 0), (0, 1)))
    assert folded(found(ConvSpec(3, 4, 3)), [pad]).reading.spec == ConvSpec(
        3, 4, 3, padding=((2, 0), (0, 1)), padding_mode="reflect"
    )
    one = folded(found(ConvSpec(3, 4, 3, padding=1)), [pad])
    assert (one.reading.spec, one.pads) == (ConvSpec(3, 4, 3, padding=1), ())
    assert "'reflect'" in one.note


def test_what_is_nearer_is_folded_though_what_is_farther_is_not():
    one = folded(found(ConvSpec(3, 4, 3)), [ROWS, Pad("circular", ((1, 1), (1, 1)))])
    assert one.reading.spec.padding == one.pads == ROWS.cells
    assert "'circular'" in one.note


def test_replicated_cells_of_replicated_cells_are_replicated_once():
    spec = ConvSpec(1, 1, (3,), padding=2, padding_mode="replicate")
    one = folded(found(spec), [Pad("replicate", ((1, 3),))])
    assert one.reading.spec.padding == ((3, 5),)
    x = np.arange(4)
    np.testing.assert_array_equal(np.pad(np.pad(x, (1, 3), "edge"), 2, "edge"), np.pad(x, (3, 5), "edge"))


@pytest.mark.parametrize(
    ("spec", "pad", "words"),
    [
        (ConvSpec(3, 4, 3, transposed=True), ROWS, "transposed"),
        (ConvSpec(3, 4, 3, 2, "same"), ROWS, "depends on the input's size"),
        (ConvSpec(3, 4, 3), Pad("zeros", ((-1, 0), (0, 0))), "crops"),
        (ConvSpec(3, 4, 3), Pad("zeros", ((1, 0),)), "1 spatial axes, the convolution has 2"),
        (ConvSpec(3, 4, 3), "it is computed", "it is computed"),
    ],
)
def test_what_no_spec_says_is_left_and_noted(spec, pad, words):
    one = folded(found(spec), [pad])
    assert one.reading.spec == spec
    assert words in one.note


def test_a_convolution_that_was_not_read_stays_so():
    assert folded(FoundConv("conv", None, "why"), [ROWS]) == FoundConv("conv", None, "why")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("constant", [(0, 0), (0, 0), (2, 0), (0, 1)]), ROWS),
        (("constant", [(0, 0), (2, 0), (0, 1), (0, 0)], 0.0, "NHWC"), ROWS),
        (("edge", [(2, 0), (0, 1)], 0, ""), Pad("replicate", ROWS.cells)),
        (("wrap", [(0, 0), (0, 0), (1, 1)]), Pad("circular", ((1, 1),))),
    ],
)
def test_pads_as_frameworks_say_them(arguments, expected):
    assert described(*arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("constant", [(0, 0), (1, 0), (2, 0)]), "batch or the channels"),
        (("constant", [(0, 0), (0, 0), (2, 0)], 1.0), "1.0"),
        (("symmetric", [(0, 0), (0, 0), (2, 0)]), "'symmetric'"),
    ],
)
def test_what_is_no_padding_is_said(arguments, words):
    assert words in described(*arguments)


def test_an_adapter_without_pads_refuses_to_fold_them():
    class Bare(PlanAdapter):
        def _module(self, name):
            convs = SimpleNamespace(convs=lambda model, shape: [found(ConvSpec(3, 4, 3))])
            return convs if name == "read" else super()._module(name)

    bare = Bare("bare", "convspec", (), (), "NCHW", ("float32",))
    assert len(bare.convs(None)) == 1
    with pytest.raises(UnsupportedError, match="'bare' does not find the pads before"):
        bare.convs(None, fold_pads=True)


def test_pads_of_a_run_are_those_before_a_layer_and_not_its_own():
    outer, inner = steps.Pad(((1, 2), (0, 0))), steps.Pad(((0, 3), (0, 0), (0, 0)), "reflect")
    listed = [TracedStep("a", outer, (0,), (1,)), TracedStep("conv.pad", steps.Pad(1), (1,), (2,)),
              TracedStep("conv", ConvSpec(3, 3, 3), (2,), (3,), layout="NCHW"),
              TracedStep("b", inner, (3,), (4,)), TracedStep("last", ConvSpec(3, 3, 3), (4,), (5,), layout="NHWC"),
              TracedStep("far", ConvSpec(3, 3, 3), (5,), (6,), layout="NHWC")]  # fmt: skip
    trace = StepTrace(listed, [np.zeros(1)] * 8, (0,), (6,))
    assert pads_met(trace) == {
        "conv": [Pad("zeros", ((1, 2), (0, 0)))], "last": [Pad("reflect", ((0, 3), (0, 0)))], "far": []
    }  # fmt: skip
    again = StepTrace([*listed, TracedStep("conv", ConvSpec(3, 3, 3), (6,), (7,), layout="NCHW")], [np.zeros(1)] * 8,
                      (0,), (7,))  # fmt: skip
    assert pads_met(again)["conv"] == [VARIES]
