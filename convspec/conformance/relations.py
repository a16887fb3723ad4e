"""Metamorphic relations: what must hold between runs of a layer, whatever the right numbers are.

They need no oracle, so they run at any size and on any device. Each is made on exact data – integers of which every
sum is representable – where a correct implementation, in whatever order it sums, fulfils it to the last bit; only
repeatability is asked of random numbers. What is wrong in the same way in both runs stays unseen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convspec.conformance import sides

if TYPE_CHECKING:
    from convspec.cases import Case
    from convspec.conformance.sides import Pair, Run

METAMORPHIC = "metamorphic"  # all of them


@dataclass(frozen=True, slots=True)
class Relation:
    """One relation.

    Attributes:
        applies: whether there is anything to compare for a case that has an output.
        sides: the two arrays, of one shape, that must be equal.
    """

    id: str
    title: str
    rationale: str
    applies: Callable[[Case], bool]
    sides: Callable[[Case, str, Run], Pair]


RELATIONS = {
    relation.id: relation
    for relation in (
        Relation(
            "linearity",
            "the output of a sum is the sum of the outputs",
            "An input is dealt out to two, each with zeros where the other has its numbers; what is clipped, rounded, "
            "quantised, or read from elsewhere than the input breaks the sum.",
            lambda _: True,
            sides.linear,
        ),
        Relation(
            "shift",
            "an input shifted by one stride gives the output shifted by one cell",
            "Compared where no pad is read. Tiles, vector tails and edges at fixed places break it.",
            sides.shifts,
            sides.shifted,
        ),
        Relation(
            "adjoint",
            "the layer and the transposed layer of the same kernel are each other's adjoint",
            "⟨A·x, y⟩ = ⟨x, Aᵀ·y⟩: two routines that share little code must fit to the last cell, so that a crop, a "
            "pad or a kernel turned in one of them shows.",
            lambda case: sides.partner(case) is not None,
            sides.adjoint,
        ),
        Relation(
            "groups",
            "the groups are layers of their own",
            "The first half of the groups, and the second, built and run as layers by themselves.",
            lambda case: case.spec.groups > 1,
            sides.by_groups,
        ),
        Relation(
            "outputs",
            "the filters are layers of their own",
            "The first half of each group's filters, and the second: other sizes take other paths in vectorised code.",
            lambda case: case.spec.out_channels > case.spec.groups,
            sides.by_outputs,
        ),
        Relation(
            "dilation",
            "a dilated kernel is a kernel with zeros between its weights",
            "Dilation has code of its own nearly everywhere; a kernel with zeros has not.",
            sides.stuffs,
            sides.stuffed,
        ),
        Relation(
            "batch",
            "samples do not see one another",
            "The input and its negative in one batch, and one after the other.",
            lambda case: case.input_shape[0] > 0,
            sides.by_samples,
        ),
        Relation(
            "layouts",
            "both layouts give the same numbers",
            "The layer with channels first and with channels last.",
            lambda _: True,
            sides.in_both_layouts,
        ),
        Relation(
            "repeatability",
            "the same layer on the same numbers gives the same bits",
            "Random numbers, two builds, two runs: reads of memory that nobody wrote, and orders of summation that "
            "depend on chance, show themselves.",
            lambda _: True,
            sides.repeated,
        ),
    )
}
