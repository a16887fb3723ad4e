"""Step: the base of every operation that stands between convolutions."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from math import prod
from typing import Any, ClassVar, TypeAlias, dataclass_transform

from convspec.errors import ShapeError, SpecError, UnknownFieldError
from convspec.spec import layouts
from convspec.spec.steps import fields
from convspec.spec.validation import abbreviate, as_sequence

Shape: TypeAlias = tuple[int, ...]
Bad: TypeAlias = Callable[[str, str], None]
KINDS: dict[str, type[Step]] = {}  # every kind of step by name, as in ``Step.to_dict``


@dataclass_transform(
    frozen_default=False,  # they are frozen; but told so, mypy forgets the fields' types in subclasses
    field_specifiers=(fields.Int, fields.Real, fields.OptionalInt, fields.OptionalReal, fields.Flag, fields.Word,
                      fields.Ints, fields.Axes, fields.Sizes, fields.OptionalSizes, fields.Extent,
                      fields.OptionalExtent, fields.PartialExtent, fields.Factors, fields.Pairs, fields.WindowPads,
                      fields.Ranges),
)  # fmt: skip
class Step:
    """One operation between convolutions: no framework, no weights; a frozen dataclass for each kind.

    Data are ``(N, C, *spatial)``, and axes are counted in that order whatever the layout of the framework is. Every
    field is kept in one canonical form, so that two spellings of a step are equal and have the same hash. Text:
    ``str(step)`` is a plain phrase, ``repr(step)`` the constructor.

    Raises:
        SpecError: with one sentence for every field that breaks a rule. For a keyword that is not a field it is an
            ``UnknownFieldError``, which is a TypeError too.
    """

    num_inputs: ClassVar[int | None] = 1  # number of input tensors; None: one or more
    phrase: ClassVar[str] = ""  # the step's words; fields stand in braces

    def __init_subclass__(cls, *, abstract: bool = False) -> None:
        """Make the class a frozen dataclass and, unless it is abstract, a kind that :meth:`from_dict` knows."""
        for name, rule in [(n, v) for n, v in vars(cls).items() if isinstance(v, fields.Field)]:
            default = dataclasses.MISSING if rule.default is fields.REQUIRED else rule.default
            setattr(cls, name, dataclasses.field(default=default, kw_only=rule.kw_only, metadata={"rule": rule}))
        dataclasses.dataclass(frozen=True, repr=False)(cls)
        cls.__init__ = _explain_keywords(cls.__init__, cls)  # type: ignore[method-assign]
        if not abstract:
            KINDS[cls.__name__] = cls

    # -- for inputs of given shapes -------------------------------------------------------------------------------

    def output_shape(self, *input_shapes: Sequence[int], layout: str = "NCHW") -> Shape:
        """Return the shape of the only output; tensors of three axes or more have theirs in ``layout``.

        Raises:
            ShapeError: if the inputs do not fit, or there are several outputs (see :meth:`output_shapes`).
        """
        shapes = self.output_shapes(*input_shapes, layout=layout)
        if len(shapes) != 1:
            raise ShapeError(f"{self} has {len(shapes)} outputs: call output_shapes")
        return shapes[0]

    def output_shapes(self, *input_shapes: Sequence[int], layout: str = "NCHW") -> tuple[Shape, ...]:
        """Return the shapes of all outputs; raises as :meth:`output_shape`."""
        outputs = self._shapes(*self._canonical_inputs(input_shapes, layout))
        return tuple(layouts.shape_in(s, layout, len(s) - 2) if len(s) > 2 else s for s in outputs)

    def macs(self, *input_shapes: Sequence[int], layout: str = "NCHW") -> int:
        """Count multiply-accumulate operations as the field does: those of matrix products; other steps have none."""
        return self._macs(*self._canonical_inputs(input_shapes, layout))

    def _canonical_inputs(self, input_shapes: Sequence[Sequence[int]], layout: str) -> list[Shape]:
        given = [tuple(int(n) for n in shape) for shape in input_shapes]
        if len(given) != self.num_inputs and (self.num_inputs is not None or not given):
            expected = "at least one input" if self.num_inputs is None else f"{self.num_inputs} input(s)"
            raise ShapeError(f"{self} needs {expected}, got {len(given)}")
        return [layouts.canonical_shape(s, layout, len(s) - 2) if len(s) > 2 else s for s in given]

    def _shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return (self._shape(*inputs),)

    def _shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def _macs(self, *inputs: Shape) -> int:
        return 0

    # -- derived from the fields alone ----------------------------------------------------------------------------

    @property
    def arrays(self) -> dict[str, Shape]:
        """Shapes of the step's arrays by canonical name, learnt ones and statistics; empty for most steps."""
        return {}

    @property
    def num_parameters(self) -> int:
        """Number of learnt parameters: elements of all arrays but the running statistics."""
        return sum(prod(shape) for name, shape in self.arrays.items() if name not in ("mean", "variance"))

    @property
    def words(self) -> str:
        """The step in one plain phrase."""
        shown = [(name, getattr(self, name), rule) for name, rule in rules(type(self)).items()]
        texts = {name: rule.show(value) for name, value, rule in shown if value is not None}
        parts = [r.words.format(texts.get(name)) for name, value, r in shown if r.words and not r.is_default(value)]
        return ", ".join([(self.phrase or type(self).__name__.lower()).format(**texts), *parts])

    def __str__(self) -> str:
        return self.words

    def __repr__(self) -> str:
        values = {name: (getattr(self, name), rule) for name, rule in rules(type(self)).items()}
        shown = [f"{name}={value!r}" for name, (value, rule) in values.items() if not rule.is_default(value)]
        return f"{type(self).__name__}({', '.join(shown)})"

    # -- fields ---------------------------------------------------------------------------------------------------

    def __post_init__(self) -> None:
        own = rules(type(self))
        given = {name: getattr(self, name) for name in own}
        lists = {name: as_sequence(given[name]) for name, rule in own.items() if rule.per_axis}
        ranks = {name: len(values) for name, values in lists.items() if values is not None}
        rank = next(iter(ranks.values()), 2)
        problems = []
        if len(set(ranks.values())) > 1:
            listing, name = ", ".join(f"{name} has {n}" for name, n in ranks.items()), next(iter(ranks))
            problems.append(f"{name}={given[name]!r} must have as many axes as the other fields: {listing}")
        for name, rule in own.items():
            value = given[name]
            if name in lists and name not in ranks and not isinstance(value, str | None):
                value = (value,) * rank
            try:
                object.__setattr__(self, name, rule(value))
            except ValueError as error:
                problems.append(f"{name}={abbreviate(given[name])} must {error}")
        if not problems:
            self._settle(lambda name, text: problems.append(f"{name}={given[name]!r} must {text}"))
        if problems:
            raise SpecError(problems)

    def _settle(self, bad: Bad) -> None:
        """Check the rules that involve several fields, and bring fields that depend on one another to one form."""

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        """Return the kind and all fields as JSON-ready values; :meth:`from_dict` reads them back."""
        return {"step": type(self).__name__, **{name: _listed(getattr(self, name)) for name in rules(type(self))}}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Step:
        """Return the step of the kind ``data["step"]`` with these values of fields; absent ones have their defaults.

        Raises:
            SpecError: for an unknown kind, unknown or missing fields, and values that break a rule.
        """
        if not isinstance(data, Mapping):
            raise SpecError([f"step={data!r} must be a mapping of field names to values"])
        kind = str(data.get("step"))
        if kind not in KINDS:
            raise SpecError([f"step={data.get('step')!r} must be one of {', '.join(KINDS)}{_nearest(kind, KINDS)}"])
        return KINDS[kind](**{str(name): value for name, value in data.items() if name != "step"})


def _explain_keywords(init: Callable[..., None], kind: type[Step]) -> Callable[..., None]:
    """Make a constructor list every keyword that is not a field, and every missing field."""

    @functools.wraps(init)
    def checked(self: Step, *args: Any, **kwargs: Any) -> None:
        own = rules(kind)
        given = {f.name for f in [f for f in dataclasses.fields(kind) if not f.kw_only][: len(args)]} | set(kwargs)  # type: ignore[arg-type]
        absent = [n for n, rule in own.items() if rule.default is fields.REQUIRED and n not in given]
        problems = [
            f"{name}={value!r} must not be given: there is no such field{_nearest(name, own)}"
            for name, value in kwargs.items()
            if name not in own
        ] + [f"{name} must be given" for name in absent]
        if problems:
            raise UnknownFieldError(problems)
        init(self, *args, **kwargs)

    return checked


def rules(kind: Any) -> dict[str, fields.Field[Any, Any]]:
    """Return the fields of a kind of step by name."""
    return {f.name: f.metadata["rule"] for f in dataclasses.fields(kind)}


def _nearest(name: str, known: Mapping[str, object]) -> str:
    near = get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _listed(value: Any) -> Any:
    return list(map(_listed, value)) if isinstance(value, tuple) else value


def positive_axis(axis: int, rank: int, what: object) -> int:
    """Return an axis of a tensor with ``rank`` axes, counted from the first.

    Raises:
        ShapeError: if there is no such axis.
    """
    if not -rank <= axis < rank:
        raise ShapeError(f"{what}: axis {axis} must be an axis of the input, which has {rank}")
    return axis % rank


def positive_axes(axes: Sequence[int], rank: int, what: object) -> tuple[int, ...]:
    """Return axes counted from the first, in their own order; raises as :func:`positive_axis`, and if one repeats."""
    found = tuple(positive_axis(axis, rank, what) for axis in axes)
    if len(set(found)) != len(found):
        raise ShapeError(f"{what}: axes {tuple(axes)} must differ from each other")
    return found


def spatial(shape: Shape, ndim: int, what: object) -> Shape:
    """Return the sizes of the spatial axes of ``(N, C, *spatial)``.

    Raises:
        ShapeError: if the tensor has another number of axes.
    """
    if len(shape) != ndim + 2:
        raise ShapeError(f"{what}: an input with {ndim} spatial axes has {ndim + 2} axes, got shape {shape}")
    return shape[2:]
