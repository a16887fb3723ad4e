"""Faulty convolutions on purpose: what the corpora must catch."""

from mutants import channels, conditions, equivalent, known, windows
from mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    *windows.MUTANTS,
    *channels.MUTANTS,
    *conditions.MUTANTS,
    *known.MUTANTS,
    *equivalent.MUTANTS,
)
