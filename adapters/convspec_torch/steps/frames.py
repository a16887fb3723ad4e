"""Modules that are being called, and the paths of the steps in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from torch import Tensor

from convspec_torch.steps.calls import Link

Whole: TypeAlias = Callable[[Sequence[Tensor], Sequence[Tensor]], Sequence[Link]]


@dataclass(slots=True)
class Frame:
    """The call of a module.

    Attributes:
        path: of the module.
        kind: name of its class.
        layer: whether its functions are steps even where no input reaches them.
        whole: of a module that is a step by itself: its links, from its tensors and results.
        given: tensors that such a module is called with; ``numbers``: theirs, by identity, before the call.
        own: positions of the steps of its own functions, with the path of each call.
        inner: whether modules in it have steps.
    """

    path: str = ""
    kind: str = ""
    layer: bool = False
    whole: Whole | None = None
    given: Sequence[Tensor] = ()
    numbers: Mapping[int, int] = field(default_factory=dict)
    own: list[tuple[int, str]] = field(default_factory=list)
    inner: bool = False
    _counts: Counter[str] = field(default_factory=Counter)

    def path_of(self, name: str) -> str:
        """Return the path of a new call of a function: its number counts from 0 in every call of the module."""
        bare = name.strip("_").replace(" ", "_")
        self._counts[bare] += 1
        return f"{self.path}.{bare}_{self._counts[bare] - 1}".lstrip(".")

    @property
    def is_one_function(self) -> bool:
        """Whether the module is a layer in all but name: one call of one function."""
        return bool(self.path or self.layer) and not self.inner and len({path for _, path in self.own}) == 1


def paths_of_links(path: str, made: Sequence[Link]) -> list[str]:
    """Return the paths of the steps of one call: the main one has the path of the call, others lie under it.

    The main one is the layer, else the one with the most tensors, else the last.
    """

    def weight(i: int) -> tuple[bool, int, int]:
        return bool(made[i].layout or made[i].arrays), len(made[i].reads) + len(made[i].writes), i

    main = max(range(len(made)), key=weight, default=0)
    counts: Counter[str] = Counter()
    paths = []
    for i, link in enumerate(made):
        kind = type(link.step).__name__.lower()
        paths.append(path if i == main else f"{path}.{kind}_{counts[kind]}")
        counts[kind] += i != main
    return paths
