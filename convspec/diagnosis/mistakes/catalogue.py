"""What a mistake is, the decorator that enters one, and the list of all."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from convspec.diagnosis.faulty_layer import Array, Layer, Variants

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


@dataclass(frozen=True, eq=False, repr=False)
class Mistake:
    """One way to get a convolution wrong that is known to have hurt people.

    Attributes:
        id: short name, stable.
        title: one line.
        frameworks: the frameworks that have it, or between which it happens.
        explanation: why it happens, for a reader who has never met it.
        fix: what to do.
        evidence: addresses of public threads that report it.
        module: name of the module that defines it.
        apply: returns the wrong layers that the mistake makes of a right one, each with a phrase that names the
            variant. Some may be impossible, or compute the right numbers after all: the caller checks.
        fit: for a mistake with numbers of its own (a scale, a shift): returns, for a right layer, its output and the
            actual output, the wrong layers whose output comes nearest to the actual one. None for any other mistake.
    """

    id: str
    title: str
    frameworks: tuple[str, ...]
    explanation: str
    fix: str
    evidence: tuple[str, ...]
    module: str
    apply: Callable[[Layer], Variants]
    fit: Callable[[Layer, Array, Array], Variants] | None = None

    def __repr__(self) -> str:
        return f"Mistake({self.id!r})"

    @property
    def theme(self) -> str:
        """The one of :data:`THEMES` that it belongs to."""
        return self.module.rpartition(".")[2]


def mistake(
    title: str,
    *,
    frameworks: tuple[str, ...],
    explanation: str,
    fix: str,
    threads: tuple[str, ...],
    fitted: bool = False,
) -> Callable[[Callable[..., Variants]], Mistake]:
    """Enter a mistake into the catalogue; the function's name, with hyphens, is its id.

    Args:
        threads: GitHub issues and pull requests that report it, each as ``owner/repository/issues/number``.
        fitted: whether the function is the mistake's ``fit``; else it is its ``apply``.

    Raises:
        ValueError: if another mistake has that id.
    """

    def enter(function: Callable[..., Variants]) -> Mistake:
        name = function.__name__.replace("_", "-")
        if name in _mistakes:
            raise ValueError(f"two mistakes are called {name!r}")
        evidence = tuple(f"https://github.com/{thread}" for thread in threads)
        facts = (name, title, frameworks, explanation, fix, evidence, function.__module__)
        _mistakes[name] = Mistake(*facts, _nothing, function) if fitted else Mistake(*facts, function)
        return _mistakes[name]

    return enter


def _nothing(_: Layer) -> Variants:
    yield from ()


@cache
def catalogue() -> Sequence[Mistake]:
    """Return all known mistakes, by theme."""
    for theme in THEMES:
        importlib.import_module(f"convspec.diagnosis.mistakes.{theme}")
    return tuple(sorted(_mistakes.values(), key=theme_order))


def theme_order(kind: Mistake) -> int:
    """Return the position of a mistake's theme among :data:`THEMES`."""
    return THEMES.index(kind.theme)
