"""ConvSpec: what one convolution layer is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from difflib import get_close_matches
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from convspec.errors import SpecError
from convspec.spec import shapes
from convspec.spec.validation import Pads, canonical

if TYPE_CHECKING:
    from convspec.spec.shapes import ReceptiveField

Sizes: TypeAlias = int | Sequence[int]
Padding: TypeAlias = int | str | Sequence[int] | Sequence[Sequence[int]]


@dataclass(frozen=True, init=False, slots=True)
class ConvSpec:
    """One convolution layer: no framework, no tensor sizes, no weights.

    Every field is brought to one canonical form, so that two spellings of a layer are equal and hash alike. What
    the fields say is kept in two places: crops and ``output_padding`` of a transposed layer are not set off
    against each other, and a word for padding stays where a stride makes its numbers depend on the input.

    Data are ``(N, C, *spatial)`` in what follows, kernels ``(O, I/groups, *kernel)``, those of transposed layers
    ``(I, O/groups, *kernel)``.

    Args:
        in_channels: channels of the input, C.
        out_channels: channels of the output: the number of filters, each of which makes one feature map.
        kernel_size: taps along each spatial axis; an int, or one int per axis.
        stride: step between neighbouring outputs; for a transposed layer, between the places where neighbouring
            inputs are scattered to.
        padding: an int, one int per axis, one ``(before, after)`` per axis, or a word: ``"valid"``, ``"same"``
            (the extra cell goes after), ``"same_lower"`` (before), ``"causal"`` (1-D: all before). A transposed
            layer *crops* that many cells instead.
        dilation: distance between neighbouring taps.
        groups: parts into which the channels are split, each with filters of its own.
        bias: whether one number per output channel is added.
        padding_mode: what the pads hold: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
        transposed: whether this is the transposed convolution ("deconvolution").
        output_padding: rows that a transposed layer keeps beyond the crop at the end, one int per axis.
        ndim: number of spatial axes; needed only where every other field is an int or a word. Default 2.

    Raises:
        SpecError: with one sentence for every field that breaks a rule.

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
        given = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "kernel_size": kernel_size,
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
            "bias": bias,
            "padding_mode": padding_mode,
            "transposed": transposed,
            "output_padding": output_padding,
        }
        for name, value in canonical(given, ndim).items():
            object.__setattr__(self, name, value)

    # -- derived from the fields alone ---------------------------------------------------------------------------

    @property
    def effective_kernel(self) -> tuple[int, ...]:
        """Cells that the kernel spans along each axis, ``(k - 1) * dilation + 1``."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """Shape of the kernel in the canonical order: ``(O, I/g, *kernel)``, transposed ``(I, O/g, *kernel)``."""
        first, second = self.out_channels, self.in_channels
        if self.transposed:
            first, second = second, first
        return (first, second // self.groups, *self.kernel_size)

    @property
    def num_parameters(self) -> int:
        """Number of learnt numbers: those of the kernel and of the bias."""
        return shapes.product(self.kernel_shape) + (self.out_channels if self.bias else 0)

    @property
    def depthwise(self) -> bool:
        """Whether every input channel has filters of its own (``groups == in_channels > 1``)."""
        return self.groups == self.in_channels > 1

    # -- together with an input's size ---------------------------------------------------------------------------

    def output_shape(self, input_shape: Sequence[int], layout: str = "NCHW") -> tuple[int, ...]:
        """Shape of the output, in ``layout``, for an input of shape ``input_shape`` in ``layout``.

        Raises:
            ShapeError: if the input does not fit, naming the axis and the likely cause.
        """
        return shapes.output_shape(self, input_shape, layout)

    def explicit(self, input_shape: Sequence[int], layout: str = "NCHW") -> ConvSpec:
        """The same layer for this input, its padding written as numbers.

        >>> ConvSpec(3, 8, 3, stride=2, padding="same").explicit((1, 3, 32, 32)).padding
        ((0, 1), (0, 1))
        """
        if not isinstance(self.padding, str):
            return self
        spatial = shapes.spatial_shape(self, input_shape, layout)
        pads, output_padding = shapes.resolve_padding(self, spatial)
        return replace(self, padding=pads, output_padding=output_padding)

    def macs(self, input_shape: Sequence[int], layout: str = "NCHW") -> int:
        """Multiply-accumulate operations for this input, those with padding cells counted."""
        return shapes.macs(self, input_shape, layout)

    def receptive_field(self, input_shape: Sequence[int] | None = None, layout: str = "NCHW") -> ReceptiveField:
        """Size, jump and offset of the receptive field along each axis.

        ``input_shape`` is needed only where the padding is a word that depends on it.
        """
        spec = self if input_shape is None else self.explicit(input_shape, layout)
        return shapes.receptive_field((spec,))

    # -- text ----------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """All fields but ``ndim`` (which the others tell) as JSON-ready values; :meth:`from_dict` reads it back."""
        return {name: _listed(getattr(self, name)) for name in _FIELDS}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ConvSpec:
        """The spec that a mapping of field names to values describes; absent fields have their defaults.

        Raises:
            SpecError: for unknown or missing fields and for values that break a rule.
        """
        if not isinstance(data, Mapping):
            raise SpecError([f"spec={data!r} must be a mapping of field names to values"])
        known = [f.name for f in fields(cls)]
        problems = []
        for key in data:
            if key not in known:
                near = get_close_matches(str(key), known, n=1)
                problems.append(
                    f"{key}={data[key]!r} must not be given: there is no such field"
                    + (f" (did you mean {near[0]!r}?)" if near else "")
                )
        problems += [f"{name} must be given" for name in known[:3] if name not in data]
        if problems:
            raise SpecError(problems)
        return cls(**data)

    @classmethod
    def _of(cls, data: Mapping[str, Any]) -> ConvSpec:
        """The spec that :meth:`to_dict` wrote in this same run: nothing is looked at again."""
        spec = cls.__new__(cls)
        for name in _FIELDS:
            object.__setattr__(spec, name, _tupled(data[name]))
        object.__setattr__(spec, "ndim", len(spec.kernel_size))
        return spec

    def to_json(self) -> str:
        """One line of JSON; :meth:`from_json` reads it back."""
        return json.dumps(self.to_dict(), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> ConvSpec:
        """The spec that a JSON object describes.

        Raises:
            SpecError: if the text is no JSON object, or describes no valid layer.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SpecError([f"spec must be JSON: {error}"]) from None
        return cls.from_dict(data)

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """The JSON Schema (2020-12) of what :meth:`from_dict` and :meth:`from_json` read."""
        schema: dict[str, Any] = json.loads(files("convspec.spec").joinpath("spec.schema.json").read_text("utf-8"))
        return schema

    def __repr__(self) -> str:
        parts = [str(self.in_channels), str(self.out_channels), f"kernel_size={self.kernel_size}"]
        defaults = canonical(dict(zip(_FIELDS, (1, 1, self.kernel_size, *_DEFAULTS), strict=True)), self.ndim)
        for name in _FIELDS[3:]:
            if getattr(self, name) != defaults[name]:
                parts.append(f"{name}={getattr(self, name)!r}")
        return f"ConvSpec({', '.join(parts)})"


_FIELDS = tuple(f.name for f in fields(ConvSpec) if f.name != "ndim")
_DEFAULTS = (1, 0, 1, 1, True, "zeros", False, 0)
assert all(f.default is MISSING for f in fields(ConvSpec))


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list) else value


def _listed(value: Any) -> Any:
    if not isinstance(value, tuple):
        return value
    return [list(pair) if isinstance(pair, tuple) else pair for pair in value]
