"""Calls of PyTorch functions, with their arguments by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from convspec.contract import network_words as words
from convspec.contract.tracing import Link, NoWord
from convspec.spec import ConvSpec
from convspec.spec.steps import Squeeze, Step, Unsqueeze
from convspec_torch.network import VOCABULARY

FIRST = "NCHW"  # the layout of every function that knows a channel axis
_ALIASES = {"axis": "dim", "keepdims": "keepdim", "train": "training", "group": "num_groups"}  # NumPy's, operators'
_OPERANDS = ("input", "self", "tensors", "tensor", "x")


class Given(dict[str, Any]):
    """Arguments by name; one that is not given has no word."""

    def __missing__(self, name: str) -> Any:
        raise NoWord(f"the argument {name} is not given by name")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a function.

    Attributes:
        name: of the function, without what marks a method, an operator or a change in place: ``add`` for ``+=``.
        args: positional arguments.
        kwargs: arguments by name.
        results: the tensors that it returned or changed.
        names: of all positional arguments, where the function has a schema.
        learnt: whether a tensor does not depend on the model's inputs.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    results: tuple[Tensor, ...]
    names: tuple[str, ...]
    learnt: Callable[[Tensor], bool]

    def given(self, *names: str) -> Given:
        """Return all arguments but the first operand by name; ``names`` are of positional ones after it."""
        operand = next((name for name in _OPERANDS if name in self.kwargs), None) if not self.args else None
        by_name = {name: value for name, value in self.kwargs.items() if name != operand}
        found = {**dict(zip(self.names[1:] or names, self.args[1:], strict=False)), **by_name}
        return Given({_ALIASES.get(name, name): value for name, value in found.items()})

    @property
    def operand(self) -> Any:
        """The first operand: a tensor, or a list of tensors."""
        if self.args:
            return self.args[0]
        for name in _OPERANDS:
            if name in self.kwargs:
                return self.kwargs[name]
        raise NoWord

    @property
    def x(self) -> Tensor:
        """The first operand.

        Raises:
            NoWord: if it is no tensor.
        """
        if not isinstance(self.operand, Tensor):
            raise NoWord
        return self.operand

    @property
    def y(self) -> Tensor:
        """The first result."""
        return self.results[0]

    def sizes(self, *names: str) -> tuple[int, ...]:
        """Return the integers after the operand, given one by one, as a tuple or by name."""
        rest = self.args[1:] or tuple(self.kwargs[name] for name in names if name in self.kwargs)[:1]
        if len(rest) == 1 and isinstance(rest[0], tuple | list):
            rest = tuple(rest[0])
        return tuple(int(n) for n in rest)

    def link(
        self,
        step: Step | ConvSpec,
        *more: Tensor,
        arrays: Mapping[str, Tensor | None] | None = None,
        layout: str = "",
        note: str = "",
    ) -> Link:
        """Return the one link of this call, which reads the operand and ``more``."""
        return Link(step, (self.x, *more), self.results, arrays or {}, layout, note)


Builder: TypeAlias = Callable[[Call], "Link | Iterable[Link]"]


def step_of(call: Call, name: str, *, shaped: bool = True, **more: Any) -> Step:
    """Return the step that a function of PyTorch's vocabulary means for the arguments of a call, and for ``more``.

    Args:
        call: what is called.
        name: of the function in the vocabulary.
        shaped: whether the meaning may depend on the shape of the operand.
        more: arguments that replace those of the call.
    """
    word = VOCABULARY.functions[name]
    operand, *names = word.parameters[0]
    given = call.given(*names) | more
    tensors = (words.Tensor(0, tuple(call.x.shape)),) if shaped else ()
    values = {key: _value(given[key]) for key in names if key in given}
    meaning = word.means(words.Arguments(word.bind(name, (), {operand: _value(call.x), **values}), tensors))
    step = meaning.step if isinstance(meaning, words.Placed) else meaning
    assert isinstance(step, Step)
    return step


def _value(given: Any) -> Any:
    """Return an argument as a vocabulary takes it: without values of tensors, and without lists."""
    if isinstance(given, Tensor):
        return words.Tensor(0, tuple(given.shape))
    return tuple(given) if isinstance(given, list) else given


def macs_of(name: str, args: Any, kwargs: Mapping[str, Any]) -> int | None:
    """Return the cost of a function without a step, where PyTorch's vocabulary says it."""
    word = VOCABULARY.functions.get(name)
    if word is None:
        return None
    given = {key: _value(value) for key, value in kwargs.items()}
    return word.macs([_value(a) for a in args], given, words_of(tensors_in((args, kwargs))))


def macs_of_layer(layer: Any, reads: Iterable[Tensor]) -> int | None:
    """Return the cost of a layer without a step, where PyTorch's vocabulary says it."""
    word = VOCABULARY.layers.get(type(layer).__name__)
    if word is None:
        return None
    given = {name: getattr(layer, name) for name in word.names if hasattr(layer, name)}
    return word.macs((), given, words_of(reads))


def words_of(tensors: Iterable[Tensor]) -> list[words.Tensor]:
    """Return tensors as a vocabulary takes them."""
    return [words.Tensor(0, tuple(t.shape)) for t in tensors]


def by_word(name: str) -> Builder:
    """Return the builder of a function whose step its word in PyTorch's vocabulary says."""
    return lambda call: call.link(step_of(call, name), layout=VOCABULARY.functions[name].layout)


def batched(call: Call, step: Step, ndim: int, **words: Any) -> Iterable[Link]:
    """Yield the link of a step over ``ndim`` spatial axes; an input without a batch axis gets one for it."""
    link = call.link(step, layout=FIRST, **words)
    if call.x.ndim != ndim + 1:
        return (link,)
    return without_batch(link)


def without_batch(link: Link) -> tuple[Link, ...]:
    """Return the links of a step whose operand has no batch axis: one is added before it and removed after it."""
    x, *more = link.reads
    inner, outer = x[None], [y[None] for y in link.writes]
    middle = Link(link.step, (inner, *more), outer, link.arrays, link.layout, link.note)
    after = (Link(Squeeze((0,)), (a,), (b,)) for a, b in zip(outer, link.writes, strict=True))
    return (Link(Unsqueeze((0,)), (x,), (inner,)), middle, *after)


def tensors_in(value: Any) -> list[Tensor]:
    """Return all tensors in nested arguments, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, tuple | list):
        return []
    return [t for one in value for t in tensors_in(one)]
