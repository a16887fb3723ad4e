"""The words in which a framework's users write networks: layers, functions and methods, each with the steps it means.

``network.py`` of an adapter has a :class:`Vocabulary`; ``convspec.Network`` reads the text of a network with it. The
framework is not imported, and the text is never evaluated.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, TypeAlias

from convspec.errors import CallError, ConvspecError
from convspec.spec import ConvSpec
from convspec.spec.steps import Step

Shape: TypeAlias = tuple[int, ...]
REQUIRED: Any = object()


class NotKnown(Exception):
    """What a word means cannot be said; the message is the reason, and what would help: ``its size is not known``."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the text.

    Attributes:
        number: of the tensor in the reading; the first input is 0.
        shape: in the framework's axis order; None: not known.
    """

    number: int
    shape: Shape | None

    @property
    def sizes(self) -> Shape:
        """The shape; raises :class:`NotKnown` where it is not known."""
        if self.shape is None:
            raise NotKnown("the shape of its input is not known")
        return self.shape


@dataclass(frozen=True, slots=True)
class Symbol:
    """A name or a value in the text that nothing says what it is; ``text`` is what is written there."""

    text: str


@dataclass(frozen=True, slots=True)
class Placed:
    """A step with what the step itself cannot say.

    Attributes:
        layout: in which it takes its tensors, whatever its word says (Keras' ``data_format``). Where it is
            empty, the step counts axes as the tensors have them.
        parameters: number of learnt parameters, where it is not the step's own: 0 where they are tensors of the text.
        shapes: of the results, where the step does not say them; None for one that is not known. More than one: the
            call returns them together.
        samples: whether the tensors are single samples: the step is for a batch of them.
        macs: multiply-accumulate operations, where the step does not say them.
    """

    step: ConvSpec | Step
    layout: str = ""
    parameters: int | None = None
    shapes: Sequence[Shape | None] | None = None
    samples: bool = False
    macs: int | None = None


@dataclass(frozen=True, slots=True)
class Value:
    """What a function returns without a step: ``x.size(0)`` a number, ``x.float()`` its tensor.

    A tensor of the number -1 is a new one, which is neither an input nor computed of one: ``torch.zeros(3)``.
    """

    value: object


Meaning: TypeAlias = ConvSpec | Step | Placed


class Arguments:
    """The arguments of a call by the names of the signature, defaults included: ``a.kernel_size``.

    Attributes:
        tensors: the tensors that the call is applied to, in order: those given to a layer, or those among the
            arguments of a function. Tensors in lists count.
        mapped: how often a call of single samples is mapped over a first axis, by ``jax.vmap``.
    """

    def __init__(self, values: Mapping[str, Any], tensors: Sequence[Tensor] = (), mapped: int = 0) -> None:
        self.__dict__.update(values)
        self.tensors, self.mapped = tuple(tensors), mapped

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the signature has no {name!r}")

    @property
    def shape(self) -> Shape:
        """The shape of the first tensor; raises :class:`NotKnown`."""
        if not self.tensors:
            raise NotKnown("it is not applied to a tensor")
        return self.tensors[0].sizes

    @property
    def rank(self) -> int:
        """The number of axes of the first tensor; raises :class:`NotKnown`."""
        return len(self.shape)


Meanings: TypeAlias = Meaning | Sequence[Meaning] | Value


@dataclass(frozen=True, slots=True)
class Word:
    """A layer, function or method.

    Attributes:
        signature: its parameters as Python writes them, without annotations: ``"kernel_size, stride=None"``; for a
            function and a method with those that take tensors. ``*args`` takes the rest, and ``**kwargs`` what else is
            named.
        build: returns the steps that it means for some arguments, one after another; the first reads all tensors, and
            what comes after a split is done with each part. Where arguments do not matter, it is these steps.
        layout: ``"NCHW"`` or ``"NHWC"`` where the step says where channels are; empty: axes are the framework's own.
        also: what a call returns after its tensor, as Equinox' ``x, state = norm(x, state)``.
    """

    signature: str
    build: Meanings | Callable[[Arguments], Meanings]
    layout: str = ""
    also: tuple[object, ...] = ()

    def means(self, arguments: Arguments) -> Meanings:
        """Return the steps that it means for these arguments; raises :class:`NotKnown`, and SpecError."""
        return self.build(arguments) if callable(self.build) else self.build

    def macs(self, args: Sequence[Any], kwargs: Mapping[str, Any], tensors: Sequence[Tensor]) -> int | None:
        """Return the cost of a call in a run where the word says it, as no step does; None elsewhere."""
        try:
            made = self.means(Arguments(self.bind("", args, kwargs), tensors))
        except (NotKnown, ConvspecError, AttributeError, TypeError, ValueError, IndexError):
            return None  # a run has other arguments than a text
        return made.macs if isinstance(made, Placed) else None

    @property
    def parameters(self) -> tuple[tuple[str, ...], str]:
        """The names of the parameters in the order of positions, and that of ``*args``, empty without one."""
        return _parameters(self.signature)[:2]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all parameters."""
        positional, rest, defaults, others = _parameters(self.signature)
        return (*positional, rest, *defaults, others)

    def bind(self, text: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments by name, with defaults.

        Raises:
            CallError: for too many arguments, and names that are unknown, missing or given twice.
        """
        positional, rest, defaults, others = _parameters(self.signature)
        name = text.partition("(")[0]
        bound: dict[str, Any] = dict(zip(positional, args, strict=False)) | ({others: {}} if others else {})
        if rest:
            bound[rest] = tuple(args[len(positional) :])
        elif len(args) > len(positional):
            raise CallError(text, f"{name} takes at most {len(positional)} positional arguments, got {len(args)}")
        for key, value in kwargs.items():
            if key not in positional and key not in defaults:
                if others:
                    bound[others][key] = value
                    continue
                near = get_close_matches(key, [*positional, *defaults], n=1)
                raise CallError(
                    text, f"{name} has no argument {key!r}{f' (did you mean {near[0]!r}?)' if near else ''}"
                )
            if key in bound:
                raise CallError(text, f"{key} is given twice")
            bound[key] = value
        bound = {**defaults, **bound}
        bound = {key: bound[key] for key in (*positional, rest, *defaults, others) if key in bound}
        if missing := [key for key in positional if key not in bound]:
            raise CallError(text, f"{name} needs {', '.join(missing)}")
        return bound


@functools.lru_cache(maxsize=1024)
def _parameters(signature: str) -> tuple[tuple[str, ...], str, dict[str, Any], str]:
    """Return the positional parameters, the name of ``*args``, the defaults, and the name of ``**kwargs``."""
    (node,) = ast.parse(f"def f({signature}): 0").body
    assert isinstance(node, ast.FunctionDef)
    given = node.args
    names = tuple(a.arg for a in given.args)
    pairs = zip(names[len(names) - len(given.defaults) :], given.defaults, strict=True)
    named = zip((a.arg for a in given.kwonlyargs), given.kw_defaults, strict=True)
    defaults = {name: ast.literal_eval(value) for name, value in (*pairs, *named) if value is not None}
    rest, others = (one.arg if one else "" for one in (given.vararg, given.kwarg))
    return names, rest, defaults, others


def repeated(value: Any, ndim: int) -> tuple[Any, ...]:
    """Return a value for each of ``ndim`` axes; one counts for all."""
    values = tuple(value) if isinstance(value, tuple | list) else (value,)
    return values * ndim if len(values) == 1 else values


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a framework's users write.

    Attributes:
        title: the framework's name in sentences: ``"PyTorch"``.
        modules: import paths whose names it has, with the names that people give them when they import them:
            ``{"torch.nn": ("nn",), "torch.nn.functional": ("F", "functional")}``.
        layout: of the tensors that its users have: ``"NCHW"`` or ``"NHWC"``.
        layers: by the name of the class.
        functions: by the name of the function; of modules that have another function of that name as ``"jnp.max"``.
        methods: by the name of a tensor's method; the tensor is the first argument. Attributes (``x.shape``) too.
        special: what else the text of a network has, by its name: ``"sequence"``, ``"list"`` and ``"dict"`` are classes
            that hold layers, ``"input"`` makes an input with a ``shape``, ``"graph"`` a model of inputs and results,
            ``"parameter"`` a learnt array of a tensor, ``"wrapper"`` returns its first argument, a layer, ``"map"``
            maps it over a first axis, and ``"call"`` calls its first argument with the others.
            ``"names"`` is a decorator of methods in which layers get their names when they are made. A text
            ``"lambda …"`` is what the name stands for.
        bases: classes that a network's class inherits from: ``("Module",)``.
        forward: names of the method that is called: ``("forward",)``.
        counts_statistics: whether running means and variances count as parameters, as in Keras.
        read_printed: reads what the framework prints of a model, and returns None for any other text; None where it
            prints nothing that can be read.
        read_config: the code of a model that the framework has as data, and None for any other text.
        default_name: the first name of layers of a class that were given none: ``conv2d``, then ``conv2d_1``; a layer
            has it from when it is made. None: a layer without a place in a model is named as a function is.
        separator: between the names of a path.
        prepare: a method that runs before the first call of an object, with the shape of its input.
        item_path: what follows the path of a list or dictionary for an item: ``".{}"``, ``"[{!r}]"``;
            ``sequence_path``: what follows that of a sequence.
        left_out: values of parameters that the text of a network need not give, by name, such as random keys.
        samples: whether its users' tensors are single samples: the text's shapes have no batch axis, those of steps do.
        learnt_arrays: whether every array that is an attribute of a model is a parameter.
        flatten: a flatten as an item of a sequence, where ``{module}`` is what stands before the next layer's class,
            and as a call on ``{x}``; mends write it.
    """

    title: str
    modules: Mapping[str, tuple[str, ...]]
    layout: str
    layers: Mapping[str, Word]
    functions: Mapping[str, Word] = field(default_factory=dict)
    methods: Mapping[str, Word] = field(default_factory=dict)
    special: Mapping[str, str] = field(default_factory=dict)
    bases: tuple[str, ...] = ("Module",)
    forward: tuple[str, ...] = ("forward",)
    counts_statistics: bool = False
    read_printed: Callable[[str], Printed | None] | None = None
    read_config: Callable[[str], str | None] | None = None
    default_name: Callable[[str], str] | None = None
    separator: str = "."
    prepare: str = ""
    item_path: str = ".{}"
    sequence_path: str = ".{}"
    left_out: Mapping[str, object] = field(default_factory=dict)
    samples: bool = False
    learnt_arrays: bool = False
    flatten: tuple[str, str] = ("lambda x: x.reshape(x.shape[0], -1)", "{x}.reshape({x}.shape[0], -1)")


@dataclass(frozen=True, slots=True)
class PrintedLayer:
    """A layer of a printed model.

    Attributes:
        path: where it is in the model.
        call: its constructor as text, such as ``"Conv2d(3, 16, kernel_size=(3, 3))"``; the class alone where the text
            says no settings.
        shape: its output's shape where the text says it; None in it is the batch size.
        parameters: their number where the text says it.
    """

    path: str
    call: str
    shape: tuple[int | None, ...] | None = None
    parameters: int | None = None


@dataclass(frozen=True, slots=True)
class Printed:
    """A printed model: its layers in the order in which they are printed.

    Attributes:
        ordered: whether they run in that order, one after the other; else that is an assumption, which a note says, and
            a layer that does not fit is not known to be wrong.
    """

    layers: Sequence[PrintedLayer]
    ordered: bool
