"""Sums of products that no step describes, einsum and attention: the shape of the result, and what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from math import prod

from convspec.contract.network_words import NotKnown, Placed, Shape, Tensor
from convspec.spec.steps import Other


def einsum(equation: str, operands: Sequence[Tensor | Shape]) -> Placed:
    """Return a sum of products; its operations are those of one loop over all letters, for two operands.

    Raises:
        NotKnown: where the equation does not fit the operands, or the shape of one is not known.
    """
    inputs, arrow, out = equation.replace(" ", "").partition("->")
    shapes = [t.sizes if isinstance(t, Tensor) else t for t in operands]
    parts = [_letters(part, len(shape)) for part, shape in zip(inputs.split(","), shapes, strict=False)]
    sizes: dict[str, int] = {}
    for letter, n in chain.from_iterable(map(zip, parts, shapes)):
        if n != 1 and sizes.get(letter, 1) not in (1, n):
            raise NotKnown(f"{letter} is {sizes[letter]} and {n} in {equation!r}")
        sizes[letter] = max(n, sizes.get(letter, n)) if n else 0
    free = sorted(letter for letter in sizes if not letter.isalpha())
    counts = Counter(chain(*parts))
    result = [*free, *sorted(letter for letter in sizes if letter.isalpha() and counts[letter] == 1)]
    if arrow:
        head, dots, tail = out.partition("...")
        result = [*head, *(free if dots else ()), *tail]
    if inputs.count(",") + 1 != len(shapes) or not {*result} <= {*sizes}:
        raise NotKnown(f"{equation!r} does not fit its operands")
    cost = {1: 0, 2: prod(sizes.values())}.get(len(shapes))  # of more it depends on their order
    return Placed(Other("einsum"), parameters=0, shapes=[tuple(sizes[letter] for letter in result)], macs=cost)


def _letters(part: str, rank: int) -> list[str]:
    """Return the letters of an operand's axes; those of an ellipsis are numbers, counted from the last."""
    head, dots, tail = part.partition("...")
    free = rank - len(head) - len(tail)
    if free < 0 or (free and not dots):
        raise NotKnown(f"{part!r} does not fit {rank} axes")
    return [*head, *(str(n) for n in range(10 - free, 10)), *tail]


def attention_macs(queries: int, keys: int, width: int, batch: int = 1) -> int:
    """Count the operations of scores and weighted sums; ``width``: of a query and a value together, of all heads."""
    return batch * queries * keys * width


def projected_attention_macs(
    shapes: Sequence[Shape | None], widths: tuple[int, int, int], axes: Sequence[int] = (-2,), further: int = 0
) -> int | None:
    """Count the operations of attention with projections of query, key and value, and one of the result.

    Args:
        shapes: of query, key and value, features last; those that are left out are as the last one. None: not known.
        widths: of the projected queries and keys, of the projected values, both of all heads, and of the result.
        axes: of the keys along which each query meets them; ``further``: keys that are no inputs.
    """
    if not shapes or None in shapes:
        return None
    query, key, value = [shape or () for shape in (*shapes, *[shapes[-1]] * 2)][:3]
    inner, values, outer = widths
    queries = prod(query[:-1])
    projections = prod(key) * inner + prod(value) * values + queries * (query[-1] * inner + values * outer)
    return projections + attention_macs(queries, prod(key[axis] for axis in axes) + further, inner + values)
