"""The page that computes: a layer as somebody typed it, and everything that follows from it, JSON-ready.

The site runs this very module in the reader's browser, on the standard library alone. Whatever is wrong with the text
comes back as words too; nothing of it is evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING
from inspect import signature
from typing import Any

from convspec.errors import CallError, ConvspecError, RequestError, ShapeError, SpecError
from convspec.layers import facts, pictures, sentences
from convspec.layers.pictures import text as drawing
from convspec.layers.remarks.port import NAMES, framework
from convspec.layers.translation import layers_of, layout_of, translate
from convspec.spec import Chain, ConvSpec, layouts

MAX_LENGTH = 20_000  # characters
MAX_LAYERS = 100
_LONG_NUMBER = re.compile(r"\d{10,}")


def calculate(text: str, input_shape: str = "", layout: str = "", in_channels: str = "") -> dict[str, Any]:
    """Everything about a layer, or about a chain of them; where something is wrong, ``{"error": …}`` says what.

    Args:
        text: a spec, or its JSON, or a constructor of any framework; for a chain one a line, or a JSON list.
        input_shape: of the chain's input: ``1, 3, 32, 32``, or its spatial sizes only, or nothing.
        layout: of that shape; empty: that of the first layer's own framework.
        in_channels: where the first layer does not say it.

    ``error`` has the ``kind`` of error, the field ``at`` which it is, and ``lines`` that say it.
    """
    at = "layer"
    try:
        _bounded(text)
        at = "in_channels"
        channels = _number(in_channels)
        at = "layer"
        found = layers_of([text], channels)
        if len(found) > MAX_LAYERS:
            raise RequestError(f"{len(found)} layers are more than {MAX_LAYERS}")
        chain = Chain(spec for spec, _ in found)
        where = layout or layout_of(found[0][1])
        at = "input"
        shape = _shape(input_shape, chain.specs[0], where)
        return _calculated(chain, [item for _, item in found], shape, where)
    except SpecError as error:
        return {"error": {"kind": "SpecError", "at": at, "lines": list(error.problems)}}
    except ConvspecError as error:
        place = "input" if isinstance(error, ShapeError) else at
        place = "in_channels" if isinstance(error, CallError) and "in_channels" in error.problem else place
        return {"error": {"kind": type(error).__name__, "at": place, "lines": str(error).split("\n")}}


def written(fields: Mapping[str, str]) -> str:
    """The spec that a form's fields describe, as text for :func:`calculate`; empty ones have their defaults.

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
    """A form's fields for a layer, those with their defaults empty: :func:`written` makes the same layer of them."""
    found = {name: _shown(name, getattr(spec, name)) for name in signature(ConvSpec).parameters if name != "ndim"}
    for name, parameter in signature(ConvSpec).parameters.items():
        if name != "ndim" and parameter.default not in (MISSING, parameter.empty):
            found[name] = "" if found[name] == str(parameter.default) else found[name]
    return {**found, "ndim": "" if spec.ndim == 2 else str(spec.ndim)}


def _shown(name: str, value: Any) -> str:
    """One number where it holds for every axis."""
    if not isinstance(value, tuple):
        return str(value)
    ends = {end for pair in value for end in pair} if name == "padding" else set(value)
    return str(ends.pop()) if len(ends) == 1 else str(value)


def _bounded(*texts: str) -> None:
    for text in texts:
        if len(text) > MAX_LENGTH:
            raise RequestError(f"the text has {len(text):,} characters, more than {MAX_LENGTH:,}")
        if long := _LONG_NUMBER.search(text):
            raise RequestError(f"{long[0][:12]}… is a number of more than 9 digits")
        if not text.strip() and len(texts) == 1:
            raise RequestError("nothing is written: type a layer, such as nn.Conv2d(3, 16, 3, stride=2, padding=1)")


def _number(text: str) -> int | None:
    number = text.strip()
    if not number:
        return None
    if not re.fullmatch(r"[1-9]\d{0,8}", number):
        raise RequestError(f"in_channels {number[:40]!r} must be a whole number from 1 on")
    return int(number)  # of what int() leaves at the ends, strip() takes more


def _shape(text: str, spec: ConvSpec, layout: str) -> tuple[int, ...] | None:
    """The whole shape; of spatial sizes alone, one for all axes or one each, that of a single sample."""
    if not text.strip():
        return None
    parts = [part for part in re.split(r"[\s,x×]+", text.strip("()[] \t\n")) if part]
    if not parts or not all(re.fullmatch(r"\d{1,9}", part) for part in parts):
        raise RequestError(f"the input's size {text.strip()[:60]!r} must be numbers such as 1, 3, 32, 32, or 32, 32")
    sizes = tuple(map(int, parts))
    if len(sizes) == 1:
        sizes *= spec.ndim
    if len(sizes) == spec.ndim:
        return layouts.shape_in((1, spec.in_channels, *sizes), layout, spec.ndim)
    return sizes


def _calculated(chain: Chain, texts: Sequence[str], shape: tuple[int, ...] | None, layout: str) -> dict[str, Any]:
    shapes: Sequence[tuple[int, ...] | None] = (shape,)
    if len(texts) > 1:  # an error then names the layer
        shapes = (None,) * len(texts) if shape is None else chain.shapes(shape, layout)
    found: dict[str, Any] = {
        "layout": layouts.name(layout, chain.specs[0].ndim),
        "layers": [_layer(*each, layout) for each in zip(chain.specs, texts, shapes, strict=False)],
    }
    if len(texts) == 1:
        found["fields"] = fields_of(chain.specs[0])
    else:
        found["rows"] = _chain_rows(facts.of(chain, shape, layout, flatten=shape is not None))
        found |= _picture(lambda: pictures.sequence(chain, _spatial(chain.specs[0], shape, layout)))
    return found


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
            _written(name, spec, text, known["frameworks"][name], shape, layout)
            for name in sorted(known["frameworks"], key=_rank)
        ],
    }


def _drawn(spec: ConvSpec, spatial: tuple[int, ...] | None) -> str:
    """What the picture's input is, where it is not the reader's."""
    sizes = drawing.small(spec, spatial)
    if sizes == spatial:
        return ""
    words = f"Drawn for an input of {' × '.join(map(str, sizes))}"
    return f"{words}." if spatial is None else f"{words}: its pads and windows lie as in yours."


def _rank(adapter: str) -> tuple[int, str]:
    """The four frameworks in their usual order, others behind them."""
    order = list(NAMES)
    return (order.index(framework(adapter)) if framework(adapter) in order else len(order)), adapter


def _spatial(spec: ConvSpec, shape: tuple[int, ...] | None, layout: str) -> tuple[int, ...] | None:
    return None if shape is None else layouts.canonical_shape(shape, layout, spec.ndim)[2:]


def _picture(draw: Any) -> dict[str, str]:
    """The picture, or why there is none."""
    try:
        return {"picture": draw()}
    except ConvspecError as error:
        return {"picture": "", "no_picture": str(error)}


def _rows(spec: ConvSpec, known: dict[str, Any], shape: tuple[int, ...] | None, layout: str) -> list[list[str]]:
    rows = [[f"output {letter}", formula] for letter, formula in known["sizes"].items()]
    if "output" in known:
        name = known["layout"]
        rows.insert(0, [f"input ({name})", _times(known["input"])])
        rows.append([f"output ({name})", _times(known["output"])])
        if isinstance(spec.padding, str) and not spec.transposed:
            rows.append([f"{spec.padding} here", f"padding={_pairs(known['padding'])}"])
    rows.append(["kernel (O, I/g, …)" if not spec.transposed else "kernel (I, O/g, …)", _times(known["kernel"])])
    rows.append(["parameters", sentences.parameter_formula(spec)])
    if shape is not None:
        rows.append(["MACs", sentences.mac_formula(spec, layouts.canonical_shape(shape, layout, spec.ndim))])
    return [*rows, *_field_rows(known)]


def _chain_rows(known: dict[str, Any]) -> list[list[str]]:
    rows = []
    if "output" in known:
        rows += [[f"input ({known['layout']})", _times(known["input"])], ["output", _times(known["output"])]]
    rows.append(["parameters", f"{known['parameters']:,}"])
    if "macs" in known:
        rows.append(["MACs", f"{known['macs']:,}"])
    rows += _field_rows(known)
    if "flatten" in known:
        rows.append(["flatten, for a Linear", f"in_features = {known['flatten']['in_features']:,}"])
    return rows


def _field_rows(known: dict[str, Any]) -> list[list[str]]:
    if "receptive field" not in known:
        return []
    jump = " × ".join(known["jump"])
    words = f"{_times(known['receptive field'])} cells, neighbouring outputs {jump} apart"
    return [["receptive field", words]]


def _written(
    name: str, spec: ConvSpec, text: str, entry: dict[str, Any], shape: tuple[int, ...] | None, layout: str
) -> dict[str, Any]:
    """The layer in one framework: its program, what its kernel looks like, and what to heed."""
    there = None
    if shape is not None:
        there = layouts.shape_in(layouts.canonical_shape(shape, layout, spec.ndim), layout_of(text), spec.ndim)
    found = translate(text, name, spec.in_channels, input_shape=there)
    kernel = f"{tuple(entry['kernel'])}, which is {entry['order']}" if "kernel" in entry else ""
    return {
        "name": NAMES.get(framework(name), name),
        "adapter": name,
        "layout": layouts.name(found.layout, spec.ndim),
        "support": str(found.support),
        "reason": found.support.reason,
        "source": found.source,
        "kernel": kernel,
        "origin": found.origin is not None and framework(found.origin) == framework(name),
        "remarks": [remark.to_dict() for remark in found.remarks],
    }


def _times(values: Sequence[int]) -> str:
    return " × ".join(map(str, values))


def _pairs(values: Sequence[Sequence[int]]) -> str:
    return str(tuple(tuple(pair) for pair in values))
