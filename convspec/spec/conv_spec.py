"""ConvSpec: the description of one convolution layer."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, ParamSpec, TypeAlias

from convspec.errors import SpecError, UnknownFieldError
from convspec.spec import shapes
from convspec.spec.shapes import ReceptiveField, sum_pads
from convspec.spec.validation import FIELDS, SIZE_RULE, Pads, canonical, name_problems

_P = ParamSpec("_P")
Sizes: TypeAlias = int | Sequence[int]
Padding: TypeAlias = int | str | Sequence[int] | Sequence[Sequence[int]]


def _explain_keywords(init: Callable[_P, None]) -> Callable[_P, None]:
    """Make a constructor raise UnknownFieldError, with a suggestion, for a keyword that is not a field."""

    @functools.wraps(init)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> None:
        if problems := name_problems(kwargs):
            raise UnknownFieldError(problems)
        init(*args, **kwargs)

    return checked


@dataclass(frozen=True, init=False, slots=True)
class ConvSpec:
    """One convolution layer: no framework, no tensor sizes, no weights.

    Every field is stored in one canonical form, so two spellings of a layer are equal and have the same hash. Two
    things stay as given: crops and ``output_padding`` of a transposed layer are not offset against each other, and a
    word for padding stays where a stride makes its numbers depend on the input.

    Shapes in this class are ``(N, C, *spatial)`` for data, ``(O, I/groups, *kernel)`` for kernels and
    ``(I, O/groups, *kernel)`` for kernels of transposed layers.

    Args:
        in_channels: channels of the input, C.
        out_channels: channels of the output: the number of filters, each of which makes one feature map.
        kernel_size: taps along each spatial axis; an int, or one int per axis.
        stride: step of the window between neighbouring outputs; for a transposed layer, distance between the output
            positions of neighbouring inputs.
        padding: an int, one int per axis, one ``(before, after)`` per axis, or a word: ``"valid"``, ``"same"``
            (an odd pixel goes after), ``"same_lower"`` (before), ``"causal"`` (1-D: all before). A transposed
            layer *crops* that many pixels instead.
        dilation: distance between neighbouring taps.
        groups: number of groups of channels, each with its own filters.
        bias: whether one number per output channel is added.
        padding_mode: the values of the pads: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
        transposed: whether this is the transposed convolution ("deconvolution").
        output_padding: rows that a transposed layer keeps beyond the crop at the end, one int per axis.
        ndim: number of spatial axes; needed only if every other field is an int or a word. Default 2.

    Raises:
        SpecError: with one sentence for every field that breaks a rule. For a keyword that is not a field, such as
            ``strides`` or ``filters``, it is an ``UnknownFieldError``, which is a TypeError too.

    >>> spec = ConvSpec(3, 16, kernel_size=3, stride=2, padding=1)
    >>> spec.output_shape((1, 3, 32, 32))
    (1, 16, 16, 16)
    >>> spec == ConvSpec(3, 16, (3, 3), (2, 2), ((1, 1), (1, 1)))
    True
    """

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Pads | Literal["same", "same_lower"]
    dilation: tuple[int, ...]
    groups: int
    bias: bool
    padding_mode: str
    transposed: bool
    output_padding: tuple[int, ...]
    ndim: int

    @_explain_keywords
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Padding = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        transposed: bool = False,
        output_padding: Sizes = 0,
        *,
        ndim: int | None = None,
    ) -> None:
        values = (in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
                  padding_mode, transposed, output_padding)  # fmt: skip
        for name, value in canonical(dict(zip(FIELDS, values, strict=True)), ndim).items():
            object.__setattr__(self, name, value)

    # -- derived from the fields alone ---------------------------------------------------------------------------

    @property
    def effective_kernel(self) -> tuple[int, ...]:
        """Pixels that the kernel spans along each axis, ``(k - 1) * dilation + 1``."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """Shape of the kernel in the canonical order: ``(O, I/g, *kernel)``, transposed ``(I, O/g, *kernel)``."""
        channels = (self.out_channels, self.in_channels)
        first, second = channels[::-1] if self.transposed else channels
        return (first, second // self.groups, *self.kernel_size)

    @property
    def num_parameters(self) -> int:
        """Number of learnt parameters, kernel and bias."""
        return shapes.product(self.kernel_shape) + (self.out_channels if self.bias else 0)

    @property
    def depthwise(self) -> bool:
        """Whether every input channel has filters of its own (``groups == in_channels > 1``)."""
        return self.groups == self.in_channels > 1

    # -- for an input of given size --------------------------------------------------------------------------------

    def output_shape(self, input_shape: Sequence[int], layout: str = "NCHW") -> tuple[int, ...]:
        """Return the output's shape for an input of shape ``input_shape``, both in ``layout``.

        Raises:
            ShapeError: if the input does not fit, naming the axis and the likely cause.
        """
        return shapes.output_shape(self, input_shape, layout)

    def explicit(self, input_shape: Sequence[int], layout: str = "NCHW") -> ConvSpec:
        """Return the same layer with the padding that this input gets, as numbers.

        >>> ConvSpec(3, 8, 3, stride=2, padding="same").explicit((1, 3, 32, 32)).padding
        ((0, 1), (0, 1))
        """
        if not isinstance(self.padding, str):
            return self
        pads, output_padding = shapes.resolve_padding(self, shapes.canonical_input(self, input_shape, layout)[2:])
        return replace(self, padding=pads, output_padding=output_padding)

    def macs(self, input_shape: Sequence[int], layout: str = "NCHW") -> int:
        """Count the multiply-accumulate operations for this input, those on padding included."""
        return shapes.macs(self, input_shape, layout)

    def receptive_field(self, input_shape: Sequence[int] | None = None, layout: str = "NCHW") -> ReceptiveField:
        """Return size, jump and offset of the receptive field along each axis.

        ``input_shape`` is needed only if the padding is a word that depends on it.
        """
        spec = self if input_shape is None else self.explicit(input_shape, layout)
        return shapes.receptive_field((spec,))

    # -- text ----------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return all fields but the implied ``ndim`` as JSON-ready values; :meth:`from_dict` reads them back."""
        return {name: _listed(getattr(self, name)) for name in FIELDS}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ConvSpec:
        """Return the spec with these values of fields, by name; absent fields have their defaults.

        Raises:
            SpecError: for unknown or missing fields and for values that break a rule.
        """
        if not isinstance(data, Mapping):
            raise SpecError([f"spec={data!r} must be a mapping of field names to values"])
        problems = name_problems({str(name): value for name, value in data.items()})
        problems += [f"{name} must be given" for name in FIELDS[:3] if name not in data]
        if problems:
            raise SpecError(problems)
        return cls(**data)

    @classmethod
    def _of(cls, data: Mapping[str, Any]) -> ConvSpec:
        """Return the spec that :meth:`to_dict` of this same run wrote, without any check."""
        spec = cls.__new__(cls)
        for name in FIELDS:
            object.__setattr__(spec, name, _tupled(data[name]))
        object.__setattr__(spec, "ndim", len(spec.kernel_size))
        return spec

    def to_json(self) -> str:
        """Return one line of JSON; :meth:`from_json` reads it back."""
        return json.dumps(self.to_dict(), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> ConvSpec:
        """Return the spec that a JSON object describes.

        Raises:
            SpecError: if the text is not a JSON object, or describes no valid layer.
        """
        try:
            data = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise SpecError([f"spec must be JSON: {error}"]) from None
        except ValueError:  # Python's limit on the digits of an int
            raise SpecError([f"a number of the spec has thousands of digits: it must {SIZE_RULE}"]) from None
        return cls.from_dict(data)

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of the input of :meth:`from_dict` and :meth:`from_json`."""
        from importlib.resources import files

        return dict(json.loads(files("convspec.spec").joinpath("spec.schema.json").read_text("utf-8")))

    def __repr__(self) -> str:
        plain = ConvSpec(1, 1, self.kernel_size)
        fields = ["kernel_size", *(name for name in FIELDS[3:] if getattr(self, name) != getattr(plain, name))]
        texts = (f"{name}={getattr(self, name)!r}" for name in fields)
        return f"ConvSpec({self.in_channels}, {self.out_channels}, {', '.join(texts)})"


def add_pads(spec: ConvSpec, pads: Pads, sign: int = 1) -> ConvSpec | None:
    """Return the spec with ``pads`` added to its own (or removed, with sign -1).

    None if the spec's padding is a word, or a pad would be negative.
    """
    if isinstance(spec.padding, str):
        return None
    total = sum_pads(spec.padding, pads, sign)
    return None if any(n < 0 for pair in total for n in pair) else replace(spec, padding=total)


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list) else value


def _listed(value: Any) -> Any:
    return list(map(_listed, value)) if isinstance(value, tuple) else value
