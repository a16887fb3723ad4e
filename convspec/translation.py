"""Source to source: a layer written for one framework, in the words of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convspec import arithmetic, layouts, registry
from convspec.calls import Call, Unread, adapter_of, parse_call
from convspec.errors import RequestError, SpecError
from convspec.plan import Support
from convspec.remarks import Port, Remark, remarks_on
from convspec.remarks.remark import framework
from convspec.spec import ConvSpec

if TYPE_CHECKING:
    from convspec.contract import Adapter

_CHANNELS_LAST = ("flax", "keras")


@dataclass(frozen=True, slots=True)
class Translation:
    """A layer in a framework's own words, and what to heed.

    Attributes:
        spec: the layer.
        adapter: name of the adapter that it is written for.
        source: the program that defines ``layer``; empty where there is none.
        support: ``native``, ``composed`` or ``unsupported``, with the reason.
        remarks: where the naive translation would be wrong, the weightiest first.
        layout: of the tensors that the program's layer takes and gives.
        dtype: name of its format.
        origin: name of the adapter whose constructor was read; None for a spec.
    """

    spec: ConvSpec
    adapter: str
    source: str
    support: Support
    remarks: tuple[Remark, ...]
    layout: str
    dtype: str
    origin: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; ``spec`` as :meth:`convspec.ConvSpec.to_dict` gives it."""
        return {
            "spec": self.spec.to_dict(),
            "from": self.origin,
            "to": self.adapter,
            "layout": self.layout,
            "dtype": self.dtype,
            "support": str(self.support),
            "reason": self.support.reason,
            "source": self.source,
            "remarks": [remark.to_dict() for remark in self.remarks],
        }


def translate(
    layer: str | ConvSpec,
    to: str,
    in_channels: int | None = None,
    *,
    layout: str | None = None,
    dtype: str = "float32",
    input_shape: Sequence[int] | None = None,
) -> Translation:
    """The program of a layer for another framework, with a remark wherever the naive translation would be wrong.

    Args:
        layer: a constructor of any framework, as text that is parsed and never evaluated; a spec, or its JSON.
        to: name of an adapter.
        in_channels: where the constructor does not say so, as in Keras and linen.
        layout: of the program's tensors; None: the framework's own.
        dtype: of the program's weights.
        input_shape: of the input *in the source's layout*; with it, remarks have its numbers.

    Raises:
        CallError: where the constructor cannot be read, with the position.
        SpecError: where the layer that it describes breaks a rule.
        ShapeError: where an input of that shape does not fit the layer.
    """
    spec, origin, call = layer_of(layer, in_channels)
    target = registry.adapter(to)
    wanted = layouts.family(layout or own_layout(target), spec.ndim)
    support, text = _program(target, spec, wanted, dtype)
    arguments = {} if call is None or origin is None else _arguments(call, origin)
    there = _layout_of(origin, arguments)
    port = Port(
        spec=spec,
        target=to,
        support=support,
        text=text,
        layout=wanted,
        source=origin,
        source_layout=there,
        arguments=arguments,
        function="" if call is None else call.function,
        spatial=None if input_shape is None else arithmetic.spatial_shape(spec, input_shape, there),
    )
    return Translation(spec, to, text, support, remarks_on(port), wanted, dtype, origin)


def layer_of(layer: str | ConvSpec, in_channels: int | None = None) -> tuple[ConvSpec, str | None, Call | None]:
    """The spec that a text describes – JSON, or a constructor – with the adapter whose constructor it is, and the call.

    Raises:
        CallError, SpecError: as :func:`translate`.
        RequestError: where ``in_channels`` contradicts the spec.
    """
    if isinstance(layer, ConvSpec) or layer.lstrip().startswith("{"):
        spec = layer if isinstance(layer, ConvSpec) else ConvSpec.from_json(layer)
        if in_channels not in (None, spec.in_channels):
            raise RequestError(f"in_channels={in_channels} contradicts the spec, which has {spec.in_channels}")
        return spec, None, None
    call = parse_call(layer)
    origin = adapter_of(call)
    spec = registry.adapter(origin).parse(layer, in_channels)
    if in_channels not in (None, spec.in_channels):
        raise RequestError(f"in_channels={in_channels} contradicts {call.name}, which has {spec.in_channels}")
    return spec, origin, call


def own_layout(adapter: Adapter) -> str:
    """The layout that the adapter's framework has its layers in."""
    return getattr(adapter, "native_layout", adapter.layouts[0])


def _program(adapter: Adapter, spec: ConvSpec, layout: str, dtype: str) -> tuple[Support, str]:
    """Support and text; of two spellings of the same rows, the one for which the framework has a layer."""
    support = adapter.support(spec, layout, dtype)
    if support != "native" and (other := _symmetric(spec)) is not None:
        better = adapter.support(other, layout, dtype)
        if better == "native":
            return better, adapter.source(other, layout, dtype)
    return support, "" if support == "unsupported" else adapter.source(spec, layout, dtype)


def _symmetric(spec: ConvSpec) -> ConvSpec | None:
    """The same transposed layer with equal crops on both sides, output padding making up for it, where there is one."""
    if not spec.transposed or isinstance(spec.padding, str):
        return None
    extra = tuple(lo - hi + op for (lo, hi), op in zip(spec.padding, spec.output_padding, strict=True))
    try:
        fields = {**spec.to_dict(), "padding": [[lo, lo] for lo, _ in spec.padding], "output_padding": extra}
        other = ConvSpec.from_dict(fields)
    except SpecError:
        return None
    return None if other == spec else other


def _layout_of(origin: str | None, arguments: dict[str, Any]) -> str:
    """The layout of the source's tensors."""
    if "data_format" in arguments:
        return layouts.CHANNELS_FIRST if arguments["data_format"] == "channels_first" else layouts.CHANNELS_LAST
    channels_last = origin is not None and framework(origin) in _CHANNELS_LAST
    return layouts.CHANNELS_LAST if channels_last else layouts.CHANNELS_FIRST


def _arguments(call: Call, origin: str) -> dict[str, Any]:
    """The arguments by name, as far as remarks look at them."""
    found = dict(call.kwargs)
    if framework(origin) == "flax":
        names = ("in_features", "out_features", "kernel_size", "strides", "padding")
        found |= dict(zip(names[origin == "flax-linen" :], call.args, strict=False))
    if framework(origin) == "keras":  # words say by themselves what they are, padding comes before the others
        words = [value for value in call.args if isinstance(value, str)]
        for word in words:
            if word.startswith("channels_"):
                found["data_format"] = word
            elif word != words[0]:
                found["activation"] = word
    return {
        name: None if isinstance(value, Unread) and value.text == "None" else value for name, value in found.items()
    }
