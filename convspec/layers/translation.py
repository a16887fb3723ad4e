"""Source to source: a layer written for one framework, in the words of another."""

from __future__ import annotations

import ast
import json
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from convspec.contract import ConstructorCall, Support, Unread, adapter_of, parse_call, registry
from convspec.errors import RequestError, SpecError
from convspec.layers.remarks import Port, Remark, remarks_on
from convspec.layers.remarks.port import framework
from convspec.spec import ConvSpec, layouts, shapes

if TYPE_CHECKING:
    from convspec.contract import Adapter

MAX_PROGRAM = 20_000  # characters of a text with several layers
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
        spatial=None if input_shape is None else shapes.spatial_shape(spec, input_shape, there),
    )
    return Translation(spec, to, text, support, remarks_on(port), wanted, dtype, origin)


def layer_of(
    layer: str | ConvSpec, in_channels: int | None = None
) -> tuple[ConvSpec, str | None, ConstructorCall | None]:
    """The spec that a text describes – JSON, or a constructor – with the adapter whose constructor it is, and the call.

    Raises:
        CallError, SpecError: as :func:`translate`.
        RequestError: where ``in_channels`` contradicts the spec.
    """
    if isinstance(layer, ConvSpec) or layer.lstrip().startswith("{"):
        spec = layer if isinstance(layer, ConvSpec) else ConvSpec.from_json(layer)
        return _agreed(spec, in_channels, "the spec"), None, None
    call = parse_call(layer)
    if call.function == "ConvSpec":
        return _own(call, in_channels), None, None
    origin = adapter_of(call)
    return _agreed(registry.adapter(origin).parse(layer, in_channels), in_channels, call.name), origin, call


def _own(call: ConstructorCall, in_channels: int | None) -> ConvSpec:
    """The spec of ``ConvSpec(…)`` itself, as its repr writes it."""
    names = [field.name for field in fields(ConvSpec)]
    return _agreed(ConvSpec(**call.bind(names, required=3)), in_channels, call.name)


def _agreed(spec: ConvSpec, in_channels: int | None, what: str) -> ConvSpec:
    if in_channels not in (None, spec.in_channels):
        raise RequestError(f"in_channels={in_channels} contradicts {what}, which has {spec.in_channels}")
    return spec


def layers_of(texts: Iterable[str], in_channels: int | None = None) -> list[tuple[ConvSpec, str]]:
    """The layers that texts describe, first to last, each with its text.

    A text holds one layer, a JSON list of layers, or one constructor a statement; imports are passed over. A layer that
    does not say how many channels come in gets those of the one before.

    Raises:
        CallError, SpecError, RequestError: as :func:`layer_of`.
    """
    found: list[tuple[ConvSpec, str]] = []
    for item in [item for text in texts for item in _statements(text)]:
        channels = found[-1][0].out_channels if found else in_channels
        needs = found and not item.lstrip().startswith("{")
        try:
            spec = layer_of(item, None if found else in_channels)[0]
        except RequestError as error:
            if not needs or "in_channels" not in str(error):
                raise
            spec = layer_of(item, channels)[0]
        found.append((spec, item))
    return found


def _statements(text: str) -> list[str]:
    """The layers of a JSON list or of a program, else the text itself."""
    if text.lstrip().startswith("["):
        try:
            items: Any = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SpecError([f"the list of layers must be JSON: {error}"]) from None
        return [item if isinstance(item, str) else json.dumps(item) for item in items]
    program = textwrap.dedent(text.strip("\n"))
    try:
        body = ast.parse(program).body if len(program) <= MAX_PROGRAM else []
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        body = []
    wanted = [node for node in body if not isinstance(node, ast.Import | ast.ImportFrom)]
    return [ast.get_source_segment(program, node) or "" for node in wanted] if len(body) > 1 else [text]


def layout_of(layer: str) -> str:
    """The layout of the tensors of a constructor's own framework; NCHW for a spec.

    Raises:
        CallError: where the constructor cannot be read.
    """
    if layer.lstrip().startswith("{"):
        return layouts.CHANNELS_FIRST
    call = parse_call(layer)
    if call.function == "ConvSpec":
        return layouts.CHANNELS_FIRST
    origin = adapter_of(call)
    return _layout_of(origin, _arguments(call, origin))


def own_layout(adapter: Adapter) -> str:
    """The layout that the adapter's framework has its layers in."""
    return adapter.native_layout


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


def _arguments(call: ConstructorCall, origin: str) -> dict[str, Any]:
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
