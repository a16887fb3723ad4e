"""The words of einops, which users of several frameworks write: ``rearrange(x, "b c h w -> b (h w) c")``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import prod

from convspec.contract.network_words import Arguments, NotKnown, Word
from convspec.spec import steps

Groups = Sequence[Sequence[str]]

MODULES: Mapping[str, tuple[str, ...]] = {"einops": ("einops",)}


def words(samples: bool = False) -> dict[str, Word]:
    """Return the functions of einops by name.

    Args:
        samples: whether tensors are single samples, without a batch axis.
    """
    batch = int(samples)
    return {
        "einops.rearrange": Word("tensor, pattern, **sizes", lambda a: _moves(a, batch)),
        "einops.repeat": Word("tensor, pattern, **sizes", lambda a: _moves(a, batch)),
        "einops.reduce": Word("tensor, pattern, reduction, **sizes", lambda a: _moves(a, batch, a.reduction)),
    }


def _groups(side: str) -> Groups:
    """Return the names of each axis: several for one in parentheses, none for a 1."""
    found = re.findall(r"\(([^)]*)\)|(\S+)", side)
    return [[name for name in (several or one).split() if name != "1"] for several, one in found]


def _sizes(left: Groups, shape: Sequence[int], given: Mapping[str, int]) -> dict[str, int]:
    """Return the size of every name; one of an axis may follow from the others."""
    if len(left) != len(shape):
        raise NotKnown(f"the pattern has {len(left)} axes, its input {len(shape)}")
    sizes = dict(given)
    for names, size in zip(left, shape, strict=True):
        unknown = [name for name in names if name not in sizes]
        rest = prod(sizes[name] for name in names if name in sizes)
        if len(unknown) > 1 or rest == 0 or size % rest:
            raise NotKnown(f"the sizes of {' '.join(names)} do not follow from an axis of {size}")
        sizes |= dict.fromkeys(unknown, size // rest)
    return sizes


def _moves(a: Arguments, batch: int, reduction: str = "mean") -> list[steps.Step]:
    """Return the steps of a pattern: axes are divided, reduced, repeated, reordered and joined."""
    left, right = (_groups(side) for side in a.pattern.split("->"))
    if "..." in a.pattern:
        raise NotKnown("patterns with an ellipsis are not known")
    sizes = _sizes(left, a.shape, a.sizes)
    names, target = ([name for group in groups for name in group] for groups in (left, right))
    lead = (0,) * batch
    made: list[steps.Step] = []
    if any(len(group) != 1 for group in left):
        made.append(steps.Reshape(lead + tuple(sizes[name] for name in names)))
    if gone := [i + batch for i, name in enumerate(names) if name not in target]:
        made.append(steps.Reduce(reduction, gone))
        names = [name for name in names if name in target]
    if new := [name for name in target if name not in names]:
        names += new
        made.append(steps.Unsqueeze(range(-len(new), 0)))
        made.append(steps.Expand((-1,) * batch + tuple(sizes[name] for name in names)))
    order = [names.index(name) + batch for name in target]
    if order != sorted(order):
        made.append(steps.Permute([*range(batch), *order]))
    if any(len(group) != 1 for group in right):
        made.append(steps.Reshape(lead + tuple(prod(sizes[name] for name in group) for group in right)))
    return made or [steps.Identity()]
