"""The calculator: everything that follows from the text of a layer, JSON-ready.

The site runs this module in the reader's browser, on the standard library alone. The text is never evaluated; errors in
it are part of the result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

from convspec.errors import CallError, ConvspecError, RequestError, ShapeError, SpecError
from convspec.layers import facts, pictures, sentences
from convspec.layers.networks import Network, read_network, summarize
from convspec.layers.networks import table as network_table
from convspec.layers.pictures import text as drawing
from convspec.layers.remarks.port import NAMES, framework
from convspec.layers.sentences import times
from convspec.layers.translation import layers_of, layout_of, translate
from convspec.spec import FIELDS, Chain, ConvSpec, layouts

MAX_LENGTH = 20_000  # characters
MAX_LAYERS = 100
_LONG_NUMBER = re.compile(r"\d{10,}")


def calculate(text: str, input_shape: str = "", layout: str = "", in_channels: str = "") -> dict[str, Any]:
    """Return everything about a layer or a chain of layers, or ``{"error": …}``.

    Args:
        text: a spec, its JSON, or a constructor of any framework; for a chain one per line, or a JSON list; or a
            network as :meth:`Network.parse` reads it.
        input_shape: of the chain's input: ``1, 3, 32, 32``, without the batch, its spatial sizes only, or nothing.
        layout: layout of that shape; empty: that of the first layer's framework, or the other one if only that fits.
        in_channels: input channels, if the first layer does not have them.

    A network is ``{"network": …}``: the document of ``show --json``, and its table as texts.

    ``note`` says that the input is read in another layout than the framework's own.
    ``error`` has the ``kind`` of error, the form field ``at`` which it is, and the ``lines`` of its message.
    """
    at = "layer"
    try:
        _check_size(text)
        at = "in_channels"
        channels = _number(in_channels)
        at = "layer"
        try:
            layers = layers_of([text], channels)
        except CallError as error:
            return _network(text, input_shape, error)
        if len(layers) > MAX_LAYERS:
            raise RequestError(f"{len(layers)} layers are more than {MAX_LAYERS}")
        chain = Chain(spec for spec, _ in layers)
        own = layout_of(layers[0][1])
        at = "input"
        shape, read = _shape(input_shape, chain.specs[0], layout, own)
        return {**_result(chain, [item for _, item in layers], shape, read), **_note(shape, read, layout or own)}
    except SpecError as error:
        return {"error": {"kind": "SpecError", "at": at, "lines": list(error.problems)}}
    except ConvspecError as error:
        at = "input" if isinstance(error, ShapeError) else at
        at = "in_channels" if isinstance(error, CallError) and "in_channels" in error.problem else at
        return {"error": {"kind": type(error).__name__, "at": at, "lines": str(error).split("\n")}}


def _network(text: str, input_shape: str, error: CallError) -> dict[str, Any]:
    """Return the table of a network; where the text is none, ``error`` says why it is no layer."""
    network = read_network(text, error)
    document = summarize(network, *_network_input(network, input_shape))
    picture = pictures.feature_maps(document) if document["inputs"] else ""
    return {"network": {**document, "table": network_table.cells(document), "picture": picture}}


def _network_input(network: Network, text: str) -> list[tuple[int, ...]]:
    """Return the shape of a network's input, of one sample unless the text has a batch, in the network's own layout."""
    first = next((step for row in network.shapes() for step in row.steps if isinstance(step, ConvSpec)), None)
    sizes = _sizes(text)
    if sizes is None or first is None or len(sizes) >= first.ndim + 2:
        return [] if sizes is None else [sizes]
    shape, layout = _shape(text, first, "", network.layout)
    whole = layouts.shape_in(layouts.canonical_shape(shape or (), layout, first.ndim), network.layout, first.ndim)
    return [whole[1:] if network.vocabulary.samples else whole]


def written(fields: Mapping[str, str]) -> str:
    """Return the spec of a form's fields as text for :func:`calculate`; empty fields have their defaults.

    >>> written({"in_channels": "3", "out_channels": "16", "kernel_size": "3, 5", "padding": "same", "stride": ""})
    "ConvSpec(in_channels=3, out_channels=16, kernel_size=(3, 5), padding='same')"
    """
    given = {name: value.strip() for name, value in fields.items() if value.strip()}
    return f"ConvSpec({', '.join(f'{name}={_literal(value)}' for name, value in given.items())})"


def _literal(value: str) -> str:
    if "," in value and not value.startswith(("(", "[")):
        return f"({value})"
    return repr(value) if re.fullmatch(r"[a-z_]+", value) else value


def fields_of(spec: ConvSpec) -> dict[str, str]:
    """Return a form's fields for a layer, defaults being empty; :func:`written` reads them back."""
    texts = {name: _shown(name, getattr(spec, name)) for name in FIELDS}
    defaults = {name: str(signature(ConvSpec).parameters[name].default) for name in FIELDS}
    fields = {name: "" if text == defaults[name] else text for name, text in texts.items()}
    return {**fields, "ndim": "" if spec.ndim == 2 else str(spec.ndim)}


def _shown(name: str, value: Any) -> str:
    """Return one number if it holds for every axis."""
    if not isinstance(value, tuple):
        return str(value)
    ends = {end for pair in value for end in pair} if name == "padding" else set(value)
    return str(ends.pop()) if len(ends) == 1 else str(value)


def _check_size(text: str) -> None:
    if len(text) > MAX_LENGTH:
        raise RequestError(f"the text has {len(text):,} characters, more than {MAX_LENGTH:,}")
    if long := _LONG_NUMBER.search(text):
        raise RequestError(f"{long[0][:12]}… is a number of more than 9 digits")
    if not text.strip():
        raise RequestError("no layer: type one, such as nn.Conv2d(3, 16, 3, stride=2, padding=1)")


def _number(text: str) -> int | None:
    number = text.strip()
    if not number:
        return None
    if not re.fullmatch(r"[1-9]\d{0,8}", number):
        raise RequestError(f"in_channels {number[:40]!r} must be a whole number, at least 1")
    return int(number)  # strip() removes more than int() ignores


def _shape(text: str, spec: ConvSpec, layout: str, own: str) -> tuple[tuple[int, ...] | None, str]:
    """Return the whole shape and its layout; sizes without a batch mean one sample, spatial ones alone any channels.

    Without a ``layout`` it is the ``own`` one, unless only the other one has the layer's channels in their place.
    """
    sizes = _sizes(text)
    if sizes is None:
        return None, layout or own
    if len(sizes) == 1:
        sizes *= spec.ndim
    if len(sizes) == spec.ndim:
        return layouts.shape_in((1, spec.in_channels, *sizes), layout or own, spec.ndim), layout or own
    if len(sizes) == spec.ndim + 1:
        sizes = (1, *sizes)
    if not layout and len(sizes) == spec.ndim + 2:
        fits = [
            name for name in layouts.LAYOUTS if layouts.canonical_shape(sizes, name, spec.ndim)[1] == spec.in_channels
        ]
        own = fits[0] if len(fits) == 1 else own
    return sizes, layout or own


def _note(shape: tuple[int, ...] | None, layout: str, own: str) -> dict[str, str]:
    """Return the note of a size that is read in another layout than expected; empty if it is not."""
    if shape is None or layout == own:
        return {}
    name, other = layouts.name(layout, len(shape) - 2), layouts.name(own, len(shape) - 2)
    return {"note": f"{times(shape)} is read as {name}; the tensors of this layer's framework are {other}."}


def _sizes(text: str) -> tuple[int, ...] | None:
    if not text.strip():
        return None
    parts = [part for part in re.split(r"[\s,x×]+", text.strip("()[] \t\n")) if part]
    if not parts or not all(re.fullmatch(r"\d{1,9}", part) for part in parts):
        raise RequestError(f"the input's size {text.strip()[:60]!r} must be numbers such as 1, 3, 32, 32, or 32, 32")
    return tuple(map(int, parts))


def _result(chain: Chain, texts: Sequence[str], shape: tuple[int, ...] | None, layout: str) -> dict[str, Any]:
    shapes: Sequence[tuple[int, ...] | None] = (shape,)
    if len(texts) > 1:  # an error then names the layer
        shapes = (None,) * len(texts) if shape is None else chain.shapes(shape, layout)
    result: dict[str, Any] = {
        "layout": layouts.name(layout, chain.specs[0].ndim),
        "layers": [_layer(*each, layout) for each in zip(chain.specs, texts, shapes, strict=False)],
    }
    if len(texts) == 1:
        result["fields"] = fields_of(chain.specs[0])
    else:
        result["rows"] = _chain_rows(facts.of(chain, shape, layout, flatten=shape is not None))
        result |= _picture(lambda: pictures.sequence(chain, _spatial(chain.specs[0], shape, layout)))
    return result


def _layer(spec: ConvSpec, text: str, shape: tuple[int, ...] | None, layout: str) -> dict[str, Any]:
    known = facts.layer(spec, shape, layout)
    spatial = _spatial(spec, shape, layout)
    return {
        "title": repr(spec),
        "summary": known["summary"],
        "rows": _rows(spec, known, shape, layout),
        "meanings": [list(entry) for entry in sentences.meanings(spec)],
        **_picture(lambda: pictures.layer(spec, spatial)),
        "drawn": _drawn(spec, spatial),
        "channels": pictures.filters(spec),
        "frameworks": [
            _framework(name, spec, text, known["frameworks"][name], shape, layout)
            for name in sorted(known["frameworks"], key=_rank)
        ],
    }


def _drawn(spec: ConvSpec, spatial: tuple[int, ...] | None) -> str:
    """Return the size of the picture's input, if it is not the reader's."""
    sizes = drawing.small(spec, spatial)
    if sizes == spatial:
        return ""
    words = f"Drawn for an input of {times(sizes)}"
    return f"{words}." if spatial is None else f"{words}, with the same pads and windows as for yours."


def _rank(adapter: str) -> tuple[int, str]:
    """Rank the known frameworks in their usual order, before all others."""
    order = list(NAMES)
    return (order.index(framework(adapter)) if framework(adapter) in order else len(order)), adapter


def _spatial(spec: ConvSpec, shape: tuple[int, ...] | None, layout: str) -> tuple[int, ...] | None:
    return None if shape is None else layouts.canonical_shape(shape, layout, spec.ndim)[2:]


def _picture(draw: Any) -> dict[str, str]:
    """Return the picture, or the reason why there is none."""
    try:
        return {"picture": draw()}
    except ConvspecError as error:
        return {"picture": "", "no_picture": str(error)}


def _rows(spec: ConvSpec, known: dict[str, Any], shape: tuple[int, ...] | None, layout: str) -> list[list[str]]:
    rows = [[f"output {letter}", formula] for letter, formula in known["sizes"].items()]
    if "output" in known:
        name = known["layout"]
        rows.insert(0, [f"input ({name})", times(known["input"])])
        rows.append([f"output ({name})", times(known["output"])])
        if isinstance(spec.padding, str) and not spec.transposed:
            rows.append([f"{spec.padding} for this input", f"padding={tuple(map(tuple, known['padding']))}"])
    rows.append(["kernel (O, I/g, …)" if not spec.transposed else "kernel (I, O/g, …)", times(known["kernel"])])
    rows.append(["parameters", sentences.parameter_formula(spec)])
    if shape is not None:
        rows.append(["MACs", sentences.mac_formula(spec, layouts.canonical_shape(shape, layout, spec.ndim))])
    return [*rows, *_field_rows(known)]


def _chain_rows(known: dict[str, Any]) -> list[list[str]]:
    rows = []
    if "output" in known:
        rows += [[f"input ({known['layout']})", times(known["input"])], ["output", times(known["output"])]]
    rows.append(["parameters", f"{known['parameters']:,}"])
    if "macs" in known:
        rows.append(["MACs", f"{known['macs']:,}"])
    rows += _field_rows(known)
    if "flatten" in known:
        rows.append(["Linear/Dense after a flatten", f"in_features = {known['flatten']['in_features']:,}"])
    return rows


def _field_rows(known: dict[str, Any]) -> list[list[str]]:
    return [["receptive field", sentences.field(known)]] if "receptive field" in known else []


def _framework(
    name: str, spec: ConvSpec, text: str, entry: dict[str, Any], shape: tuple[int, ...] | None, layout: str
) -> dict[str, Any]:
    """Return the layer in one framework: its code, the shape of its kernel, and the differences to mind."""
    if shape is not None:
        shape = layouts.shape_in(layouts.canonical_shape(shape, layout, spec.ndim), layout_of(text), spec.ndim)
    translation = translate(text, name, spec.in_channels, input_shape=shape)
    kernel = f"of shape {tuple(entry['kernel'])}, axes {entry['order']}" if "kernel" in entry else ""
    return {
        "name": NAMES.get(framework(name), name), "adapter": name,
        "layout": layouts.name(translation.layout, spec.ndim), "support": str(translation.support),
        "reason": translation.support.reason, "source": translation.source, "kernel": kernel,
        "origin": translation.origin is not None and framework(translation.origin) == framework(name),
        "remarks": [remark.to_dict() for remark in translation.remarks],
    }  # fmt: skip
