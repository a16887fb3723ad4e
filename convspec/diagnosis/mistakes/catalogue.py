"""What a mistake is, and the list of all that are known."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from convspec.diagnosis.faulty_layer import Array, Layer

# In the order in which explanations that fit equally well are listed.
THEMES = (
    "padding",
    "transposed",
    "causal",
    "padding_mode",
    "layout",
    "stride_dilation",
    "kernel_order",
    "channels",
    "bias",
    "spatial_axes",
    "edges",
    "scale",
    "precision",
)

_mistakes: dict[str, Mistake] = {}


class Mistake:
    """One way to get a convolution wrong that is known to have hurt people.

    A subclass states what it is and says, for a right layer, which wrong ones come of it.

    Attributes:
        id: short name, stable.
        title: one line.
        frameworks: those that it bites, or between which it happens.
        explanation: why it happens, for somebody who did not know.
        fix: what to do.
        evidence: public threads where it hurt somebody.
    """

    id: ClassVar[str]
    title: ClassVar[str]
    frameworks: ClassVar[tuple[str, ...]]
    explanation: ClassVar[str]
    fix: ClassVar[str]
    evidence: ClassVar[tuple[str, ...]]

    def made_in(self, layer: Layer) -> Iterator[tuple[str, Layer]]:
        """The wrong layers that the mistake makes of a right one, each with a phrase that says what it did.

        Some may be impossible, or give the right numbers after all: whoever asks has to see to that.
        """
        raise NotImplementedError


class Fitted(Mistake):
    """A mistake with numbers of its own – a scale, a shift – that are estimated from the output."""

    def made_in(self, layer: Layer) -> Iterator[tuple[str, Layer]]:
        yield from ()

    def fitted_to(self, layer: Layer, output: Array, actual: Array) -> Iterator[tuple[str, Layer]]:
        """The wrong layers whose numbers come nearest to ``actual``; ``output`` is the right layer's."""
        raise NotImplementedError


def github(*threads: str) -> tuple[str, ...]:
    """Addresses of issues and pull requests, each given as ``owner/repository/issues/number``."""
    return tuple(f"https://github.com/{thread}" for thread in threads)


def mistake(cls: type[Mistake]) -> type[Mistake]:
    """Enter a mistake into the catalogue."""
    if cls.id in _mistakes:
        raise ValueError(f"two mistakes are called {cls.id!r}")
    _mistakes[cls.id] = cls()
    return cls


@cache
def catalogue() -> Sequence[Mistake]:
    """All mistakes that are known, by theme."""
    for theme in THEMES:
        importlib.import_module(f"convspec.diagnosis.mistakes.{theme}")
    return tuple(sorted(_mistakes.values(), key=theme_of))


def theme_of(kind: Mistake) -> int:
    """The place of a mistake's theme among :data:`THEMES`."""
    return THEMES.index(type(kind).__module__.rpartition(".")[2])
