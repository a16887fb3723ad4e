"""Source to source: the code of a layer for another framework."""

from __future__ import annotations

import ast
import json
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from convspec.contract import (
    Adapter,
    ConstructorCall,
    Support,
    Unread,
    adapter_of,
    imported_modules,
    parse_call,
    registry,
)
from convspec.errors import CallError, RequestError, SpecError
from convspec.layers.remarks import Port, Remark, remarks_on
from convspec.layers.remarks.port import NAMES, framework
from convspec.spec import ConvSpec, layouts, shapes

MAX_PROGRAM = 20_000  # characters of a text with several layers
_WIDTH = 100
_SPEC = "in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True, " \
        "padding_mode='zeros', transposed=False, output_padding=0, ndim=None"  # fmt: skip


@dataclass(frozen=True, slots=True, repr=False)
class Translation:
    """A layer as code of a framework, with the differences to mind; ``print`` shows both as one program.

    Attributes:
        spec: the layer.
        adapter: name of the target's adapter.
        source: the program that defines ``layer``; empty if unsupported.
        support: ``native``, ``composed`` or ``unsupported``, with the reason.
        remarks: differences that make the naive translation wrong, the most important first.
        layout: layout of the layer's input and output.
        dtype: dtype of the layer's weights.
        origin: name of the source's adapter; None for a spec.
    """

    spec: ConvSpec
    adapter: str
    source: str
    support: Support
    remarks: tuple[Remark, ...]
    layout: str
    dtype: str
    origin: str | None = None

    def __repr__(self) -> str:
        return f"<Translation: {self.spec!r} for {self.adapter}, {self.support}, {len(self.remarks)} remarks>"

    def __str__(self) -> str:
        """Return the program, followed by the remarks as comments."""
        lines = [self.source.rstrip("\n")] if self.source else [f"# {self.adapter} has no such layer."]
        if self.remarks:
            source = self.origin and f" when porting from {NAMES.get(framework(self.origin), self.origin)}"
            lines += ["", f"# Differences to mind{source or ''}:"]
        for remark in self.remarks:
            text = re.sub(r"\([^()]*\)", lambda tuple_: tuple_[0].replace(" ", "\xa0"), str(remark))
            wrapped = textwrap.wrap(
                text, _WIDTH, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False,
                break_long_words=False,
            )  # fmt: skip
            lines += ["#", *(line.replace("\xa0", " ") for line in wrapped)]
            lines += [f"#       {line}" for line in remark.code.splitlines()]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; ``spec`` as :meth:`convspec.ConvSpec.to_dict` gives it."""
        return {
            "spec": self.spec.to_dict(), "from": self.origin, "to": self.adapter, "layout": self.layout,
            "dtype": self.dtype, "support": str(self.support), "reason": self.support.reason, "source": self.source,
            "remarks": [remark.to_dict() for remark in self.remarks],
        }  # fmt: skip


def translate(
    layer: str | ConvSpec,
    to: str,
    in_channels: int | None = None,
    *,
    layout: str | None = None,
    dtype: str = "float32",
    input_shape: Sequence[int] | None = None,
) -> Translation:
    """Return the code of a layer for another framework, with a remark wherever the naive translation would be wrong.

    Args:
        layer: a constructor of any framework, as text that is parsed and never evaluated; or a spec, or its JSON.
        to: name of an adapter.
        in_channels: input channels, if the constructor has no such argument, as in Keras and linen.
        layout: layout of the program's tensors; None: the framework's own.
        dtype: dtype of the program's weights.
        input_shape: shape of the input *in the source's layout*; the remarks then give its numbers.

    Raises:
        CallError: if the constructor cannot be read, with the position.
        SpecError: if the layer breaks a rule.
        ShapeError: if the input does not fit the layer.
    """
    spec, origin, call = layer_of(layer, in_channels)
    target = registry.adapter(to)
    wanted = layouts.family(layout or target.native_layout, spec.ndim)
    support, text = _program(target, spec, wanted, dtype)
    arguments = {} if call is None or origin is None else _arguments(call, origin)
    source_layout = _layout_of(origin, arguments)
    port = Port(
        spec=spec, target=to, support=support, text=text, layout=wanted, source=origin, source_layout=source_layout,
        arguments=arguments, function="" if call is None else call.function,
        spatial=None if input_shape is None else shapes.canonical_input(spec, input_shape, source_layout)[2:],
    )  # fmt: skip
    return Translation(spec, to, text, support, remarks_on(port), wanted, dtype, origin)


def layer_of(
    layer: str | ConvSpec, in_channels: int | None = None
) -> tuple[ConvSpec, str | None, ConstructorCall | None]:
    """Return the spec of a text (JSON, or a constructor), the adapter of the constructor, and the call.

    Raises:
        CallError, SpecError: as :func:`translate`.
        RequestError: if ``in_channels`` contradicts the spec.
    """
    if isinstance(layer, str) and layer.lstrip().startswith("{") and "class_name" in layer:
        raise CallError(f"{layer[:40]}…", "it is the configuration of a model, not a layer")
    if isinstance(layer, ConvSpec) or layer.lstrip().startswith("{"):
        spec = layer if isinstance(layer, ConvSpec) else ConvSpec.from_json(layer)
        return _agreed(spec, in_channels, "the spec"), None, None
    call = parse_call(layer)
    if call.function == "ConvSpec":
        spec = ConvSpec(**call.bind(_SPEC))
        return _agreed(spec, in_channels, call.name), None, None
    origin = adapter_of(call)
    return _agreed(registry.adapter(origin).parse(layer, in_channels), in_channels, call.name), origin, call


def _agreed(spec: ConvSpec, in_channels: int | None, what: str) -> ConvSpec:
    if in_channels not in (None, spec.in_channels):
        raise RequestError(f"in_channels={in_channels} contradicts {what}, which has {spec.in_channels}")
    return spec


def layers_of(texts: Iterable[str], in_channels: int | None = None) -> list[tuple[ConvSpec, str]]:
    """Return the layers of texts, first to last, each with its text.

    A text has one layer, a JSON list of layers, or one constructor per statement, with the modules that imports name.
    A constructor
    without an argument for input channels gets the output channels of the layer before it.

    Raises:
        CallError, SpecError, RequestError: as :func:`layer_of`.
    """
    layers: list[tuple[ConvSpec, str]] = []
    for item in [item for text in texts for item in _statements(text)]:
        try:
            spec = layer_of(item, None if layers else in_channels)[0]
        except RequestError as error:
            if not layers or item.lstrip().startswith("{") or "in_channels" not in str(error):
                raise
            spec = layer_of(item, layers[-1][0].out_channels)[0]
        layers.append((spec, item))
    return layers


def _statements(text: str) -> list[str]:
    """Return the layers of a JSON list or of a program, else the text itself."""
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
    if len(body) < 2:
        return [text]
    calls = [node for node in body if not isinstance(node, ast.Import | ast.ImportFrom)]
    found = [ast.get_source_segment(program, node) or "" for node in calls]
    for name, module in imported_modules(body).items():
        found = [re.sub(rf"(?<![\w.]){name}(?=[.(])", module, call, count=1) for call in found]
    return found


def layout_of(layer: str) -> str:
    """Return the layout of the tensors of a constructor's own framework; NCHW for a spec.

    Raises:
        CallError: if the constructor cannot be read.
    """
    call = None if layer.lstrip().startswith("{") else parse_call(layer)
    if call is None or call.function == "ConvSpec":
        return layouts.CHANNELS_FIRST
    origin = adapter_of(call)
    return _layout_of(origin, _arguments(call, origin))


def _program(adapter: Adapter, spec: ConvSpec, layout: str, dtype: str) -> tuple[Support, str]:
    """Return support and code; of two spellings of the same rows, for the one that is native."""
    support = registry.answer(adapter, "support", Support, spec, layout, dtype)
    if support != "native" and (other := _symmetric(spec)) is not None:
        native = registry.answer(adapter, "support", Support, other, layout, dtype)
        if native == "native":
            return native, registry.answer(adapter, "source", str, other, layout, dtype)
    text = "" if support == "unsupported" else registry.answer(adapter, "source", str, spec, layout, dtype)
    return support, text


def _symmetric(spec: ConvSpec) -> ConvSpec | None:
    """Return the same transposed layer with equal crops on both sides and other output padding, if there is one."""
    if not spec.transposed or isinstance(spec.padding, str):
        return None
    extra = tuple(lo - hi + op for (lo, hi), op in zip(spec.padding, spec.output_padding, strict=True))
    try:
        other = replace(spec, padding=tuple((lo, lo) for lo, _ in spec.padding), output_padding=extra)
    except SpecError:
        return None
    return None if other == spec else other


def _layout_of(origin: str | None, arguments: dict[str, Any]) -> str:
    """Return the layout of the source's tensors."""
    if "data_format" in arguments:
        return layouts.CHANNELS_FIRST if arguments["data_format"] == "channels_first" else layouts.CHANNELS_LAST
    return layouts.CHANNELS_FIRST if origin is None else registry.adapter(origin).native_layout


def _arguments(call: ConstructorCall, origin: str) -> dict[str, Any]:
    """Return the arguments by name, as they are given."""
    words = registry.adapter(origin).vocabulary()
    names = words.layers[call.function].parameters[0] if words is not None and call.function in words.layers else ()
    arguments = dict(zip(names, call.args, strict=False)) | dict(call.kwargs)
    none = {name: None for name, value in arguments.items() if isinstance(value, Unread) and value.text == "None"}
    return arguments | none
