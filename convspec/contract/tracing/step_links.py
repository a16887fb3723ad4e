"""From calls of a framework's functions to steps: the links of the data flow, and the paths of modules and calls."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from convspec.contract.tracing.cell_tracing import Array
from convspec.spec import ConvSpec, steps
from convspec.spec.steps import Other, Step

_MOST = 16  # copies that become a concatenation


class NoWord(Exception):
    """The vocabulary of steps has no word for a call; the text says why, if there is more to say."""


@dataclass(frozen=True, slots=True)
class Link:
    """One step of a call, with the framework's tensors themselves; a weight among ``arrays`` may be None."""

    step: Step | ConvSpec
    reads: Sequence[Any]
    writes: Sequence[Any]
    arrays: Mapping[str, Any] = field(default_factory=dict)
    layout: str = ""
    note: str = ""
    macs: int | None = None


@dataclass(frozen=True, eq=False)
class OperatorStep:
    """What an operator of a graph in a file is.

    Attributes:
        step: its step.
        reads: places of the inputs that the step reads, in its order.
        arrays: those of the step, by name.
        sources: the place of the input that each array was made of.
        layout: ``"NCHW"`` or ``"NHWC"`` for an operator that says where channels are.
        note: what the step cannot say.
    """

    step: ConvSpec | Step
    reads: tuple[int, ...] = (0,)
    arrays: Mapping[str, Array] = field(default_factory=dict)
    sources: Mapping[str, int] = field(default_factory=dict)
    layout: str = ""
    note: str = ""

    @classmethod
    def other(cls, name: str, reads: tuple[int, ...], note: str = "") -> OperatorStep:
        """Return an operator without a word."""
        return cls(Other(name), reads, note=note)


Whole: TypeAlias = Callable[[Sequence[Any], Sequence[Any]], Sequence[Link]]


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
        joint: what stands between the parts of a path.
    """

    path: str = ""
    kind: str = ""
    layer: bool = False
    whole: Whole | None = None
    given: Sequence[Any] = ()
    numbers: Mapping[int, int] = field(default_factory=dict)
    own: list[tuple[int, str]] = field(default_factory=list)
    inner: bool = False
    joint: str = "."
    _counts: Counter[str] = field(default_factory=Counter)

    def path_of(self, name: str) -> str:
        """Return the path of a new call of a function: its number counts from 0 in every call of the module."""
        bare = name.strip("_").replace(" ", "_")
        self._counts[bare] += 1
        return f"{self.path}{self.joint}{bare}_{self._counts[bare] - 1}".removeprefix(self.joint)

    @property
    def is_one_function(self) -> bool:
        """Whether the module is a layer in all but name: one call of one function."""
        return bool(self.path or self.layer) and not self.inner and len({path for _, path in self.own}) == 1


def paths_of_links(path: str, made: Sequence[Link], joint: str = ".") -> list[str]:
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
        paths.append(path if i == main else f"{path}{joint}{kind}_{counts[kind]}")
        counts[kind] += i != main
    return paths


# -- arguments ---------------------------------------------------------------------------------------------------------


def index_links(x: Any, index: Any, y: Any, ndim: int, take: Callable[[Any, Any], Any]) -> Iterator[Link]:
    """Yield the links of ``y = x[index]``: a slice, positions and new axes, one after the other.

    Raises:
        NoWord: where the index has more than these.
    """
    moves = _index_steps(index, ndim)
    for number, (step, part) in enumerate(moves, 1):
        z = y if number == len(moves) else take(x, part)
        yield Link(step, (x,), (z,))
        x = z


def _index_steps(index: Any, ndim: int) -> list[tuple[Step, Any]]:
    """Return the steps of ``x[index]``, each with its own index."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(not isinstance(p, slice | int | type(None) | type(...)) or isinstance(p, bool) for p in parts):
        raise NoWord("by positions in a tensor or list")
    used = sum(isinstance(p, slice | int) for p in parts)
    whole = [slice(None)] * (ndim - used)
    at = next((i for i, p in enumerate(parts) if p is ...), None)
    parts = [*parts, *whole] if at is None else [*parts[:at], *whole, *parts[at + 1 :]]
    moves: list[tuple[Step, Any]] = []
    axes = [p for p in parts if p is not None]
    ranges = [slice_range(p) if isinstance(p, slice) else (None, None, 1) for p in axes]
    if any(part != (None, None, 1) for part in ranges):
        moves.append((steps.Slice(ranges), tuple(slice(*part) for part in ranges)))
    for axis, part in reversed(list(enumerate(axes))):
        if isinstance(part, int):
            moves.append((steps.Select(axis, part), (slice(None),) * axis + (part,)))
    left = [p for p in parts if not isinstance(p, int)]
    new = tuple(i for i, p in enumerate(left) if p is None)
    if new:
        moves.append((steps.Unsqueeze(new), tuple(None if p is None else slice(None) for p in left)))
    return moves or [(steps.Identity(), ())]


def slice_range(part: slice) -> tuple[int | None, int | None, int]:
    """Return a slice as a range of :class:`~convspec.spec.steps.Slice`."""
    start, stop, step = (None if n is None else operator.index(n) for n in (part.start, part.stop, part.step))
    return (start or None, stop, 1 if step is None else step)


def stack_links(tensors: Sequence[Any], y: Any, axis: int, unsqueeze: Callable[[Any, int], Any]) -> Iterator[Link]:
    """Yield the links of tensors joined along a new axis."""
    parts = [unsqueeze(t, axis) for t in tensors]
    yield from (Link(steps.Unsqueeze((axis,)), (t,), (part,)) for t, part in zip(tensors, parts, strict=True))
    yield Link(steps.Concat(axis), parts, (y,))


def unstack_links(x: Any, results: Sequence[Any], axis: int, unsqueeze: Callable[[Any, int], Any]) -> Iterator[Link]:
    """Yield the links of a tensor that is taken apart along an axis."""
    parts = [unsqueeze(y, axis) for y in results]
    yield Link(steps.Split([1] * len(parts), axis), (x,), parts)
    yield from (Link(steps.Squeeze((axis,)), (part,), (y,)) for part, y in zip(parts, results, strict=True))


def tile_links(x: Any, y: Any, counts: Sequence[int]) -> Iterator[Link]:
    """Yield the link of copies side by side: a broadcast of axes of size 1, or a concatenation along one axis."""
    counts = (1,) * (len(x.shape) - len(counts)) + tuple(counts)
    shape = (1,) * (len(counts) - len(x.shape)) + tuple(x.shape)
    long = [axis for axis, count in enumerate(counts) if count != 1]
    if all(shape[axis] == 1 for axis in long):
        yield Link(steps.Expand(tuple(y.shape)), (x,), (y,))
    elif len(counts) > len(x.shape) or len(long) != 1 or not 0 < counts[long[0]] <= _MOST:
        raise NoWord(f"{counts} times")
    else:
        yield Link(steps.Concat(long[0]), (x,) * counts[long[0]], (y,))


def repeat_links(x: Any, y: Any, count: int, axis: int, unsqueeze: Callable[[Any, int], Any],
                 expand: Callable[[Any, tuple[int, ...]], Any]) -> Iterator[Link]:  # fmt: skip
    """Yield the links of elements that are each repeated along an axis."""
    axis = axis % len(x.shape) + 1
    inner = unsqueeze(x, axis)
    sizes = (*inner.shape[:axis], count, *inner.shape[axis + 1 :])
    wide = expand(inner, sizes)
    yield Link(steps.Unsqueeze((axis,)), (x,), (inner,))
    yield Link(steps.Expand(sizes), (inner,), (wide,))
    yield Link(steps.Reshape(tuple(y.shape)), (wide,), (y,))


def einsum_product(equation: str, learnt: Sequence[bool]) -> tuple[int, int, bool] | None:
    """Return a product with a learnt matrix: the operand that it is, the axis, and whether it is ``(in, out)``.

    None for a matrix product of two tensors.

    Raises:
        NoWord: where the equation is another product.
    """
    inputs, _, out = equation.replace(" ", "").partition("->")
    parts = inputs.split(",")
    if "." in equation or not out or len(parts) != 2 or any(len(set(part)) != len(part) for part in (*parts, out)):
        raise NoWord(equation)
    for w, x in ((1, parts[0]), (0, parts[1])):
        matrix = list(parts[w]) if learnt[w] and not learnt[1 - w] and len(parts[w]) == 2 else []
        for new, old in zip(matrix, reversed(matrix), strict=True):
            if old in x and new not in x and out == x.replace(old, new):
                return w, x.index(old), new == matrix[1]
    a, b = parts
    if len(a) >= 2 and b == a[:-2] + a[-1] + out[-1:] and out == a[:-1] + out[-1:]:
        return None
    raise NoWord(equation)
