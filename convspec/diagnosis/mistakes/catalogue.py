"""What a mistake is, the decorator that enters one, and the list of all."""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from convspec.diagnosis.faulty_layer import IMPOSSIBLE, Array, Layer, Variants

# Explanations that fit equally well are listed in this order.
THEMES = (
    "padding", "transposed", "causal", "padding_mode", "layout", "stride_dilation", "kernel_order", "channels", "bias",
    "spatial_axes", "edges", "scale", "precision",
)  # fmt: skip
INTEGER_THEMES = ("quantisation",)  # whose mistakes are made in quantised layers

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
        function: the generator behind :meth:`apply` or :meth:`fit`.
        fitted: whether it has numbers of its own (a scale, a shift), which are estimated from the actual output.
    """

    id: str
    title: str
    frameworks: tuple[str, ...]
    explanation: str
    fix: str
    evidence: tuple[str, ...]
    module: str
    function: Callable[..., Iterator[tuple[str, Any]]]
    fitted: bool = False

    def __repr__(self) -> str:
        return f"Mistake({self.id!r})"

    @property
    def theme(self) -> str:
        """The one of :data:`THEMES` or :data:`INTEGER_THEMES` that it belongs to."""
        return self.module.rpartition(".")[2]

    def apply(self, layer: Layer) -> Variants:
        """Yield the wrong layers that the mistake makes of a right one, each with a phrase that says what is wrong.

        A variant that breaks the rules of specs ends the list. Others may be impossible to compute, or give the right
        numbers after all: the caller checks. A fitted mistake has none.
        """
        if not self.fitted:
            with suppress(*IMPOSSIBLE):
                yield from self.function(layer)

    def fit(self, layer: Layer, output: Array, actual: Array) -> Variants:
        """Yield a fitted mistake's wrong layers nearest to ``actual``; ``output`` is the right layer's."""
        if self.fitted:
            with suppress(*IMPOSSIBLE):
                yield from self.function(layer, output, actual)


def mistake(
    title: str,
    *,
    frameworks: tuple[str, ...],
    explanation: str,
    fix: str,
    threads: tuple[str, ...],
    fitted: bool = False,
) -> Callable[[Callable[..., Iterator[tuple[str, Any]]]], Mistake]:
    """Enter a mistake into the catalogue; the function's name, with hyphens, is its id.

    Args:
        threads: GitHub issues and pull requests that report it, each as ``owner/repository/issues/number``.
        fitted: whether the function takes the right layer, its output and the actual output; else the layer alone.
            The output of a quantised layer is its sums.

    Raises:
        ValueError: if another mistake has that id.
    """

    def enter(function: Callable[..., Iterator[tuple[str, Any]]]) -> Mistake:
        name = function.__name__.replace("_", "-")
        if name in _mistakes:
            raise ValueError(f"two mistakes are called {name!r}")
        links = tuple(f"https://github.com/{thread}" for thread in threads)
        kind = Mistake(name, title, frameworks, explanation, fix, links, function.__module__, function, fitted)
        return _mistakes.setdefault(name, kind)

    return enter


def described(*, fitted: bool = False) -> Callable[[Callable[..., Iterator[tuple[str, Any]]]], Mistake]:
    """Enter a mistake, as :func:`mistake` does, whose texts are in the ``.toml`` file beside its module."""

    def enter(function: Callable[..., Iterator[tuple[str, Any]]]) -> Mistake:
        own = _texts(function.__module__)[function.__name__.replace("_", "-")]
        lists = {key: tuple(own[key]) for key in ("frameworks", "threads")}
        return mistake(**{**own, **lists}, fitted=fitted)(function)

    return enter


@cache
def _texts(module: str) -> dict[str, dict[str, Any]]:
    package, _, theme = module.rpartition(".")
    return tomllib.loads(files(package).joinpath(f"{theme}.toml").read_text("utf-8"))


@cache
def catalogue(*, integers: bool = False) -> Sequence[Mistake]:
    """Return all known mistakes by theme, those of float layers or those of quantised ones."""
    themes = INTEGER_THEMES if integers else THEMES
    for theme in themes:
        importlib.import_module(f"convspec.diagnosis.mistakes.{theme}")
    return tuple(sorted((kind for kind in _mistakes.values() if kind.theme in themes), key=theme_order))


def theme_order(kind: Mistake) -> int:
    """Return the position of a mistake's theme among :data:`THEMES`, then :data:`INTEGER_THEMES`."""
    return (*THEMES, *INTEGER_THEMES).index(kind.theme)
