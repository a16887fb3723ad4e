"""The facts of a layer, or of a chain of layers, as one JSON document."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Any

from convspec.contract import Adapter, registry
from convspec.errors import UnsupportedError, printable
from convspec.layers import kernel_orders, sentences
from convspec.layers.pictures import text as drawing
from convspec.layers.remarks.port import framework
from convspec.spec import Chain, ConvSpec, ReceptiveField, layouts

FEATURES = 8  # number of entries that are shown of a flatten's order


def of(
    chain: Chain,
    input_shape: tuple[int, ...] | None,
    layout: str,
    *,
    flatten: bool = False,
    adapters: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return the facts of the layer, or of all layers and the chain, JSON-ready, with the code of some adapters.

    Raises:
        ShapeError: if the input does not fit.
    """
    shapes = None if input_shape is None else chain.shapes(input_shape, layout)
    if len(chain.specs) == 1:
        result = layer(chain.specs[0], input_shape, layout, adapters)
    else:
        inputs = shapes or (None,) * len(chain.specs)
        result = {
            "layers": [layer(spec, shape, layout, adapters) for spec, shape in zip(chain.specs, inputs, strict=False)],
            "layout": layout,
            "parameters": chain.num_parameters,
        }
        if shapes is not None and input_shape is not None:
            result |= {"input": list(shapes[0]), "output": list(shapes[-1]), "macs": chain.macs(input_shape, layout)}
            result |= _field(chain.receptive_field(input_shape, layout))
    if flatten and input_shape is not None:
        result["flatten"] = _flatten(chain, input_shape, layout)
    return result


def layer(
    spec: ConvSpec, input_shape: tuple[int, ...] | None, layout: str, adapters: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return the facts of one layer; facts about sizes only if the input's shape is given."""
    spatial = None
    result: dict[str, Any] = {
        "spec": spec.to_dict(), "summary": sentences.summary(spec),
        "meaning": {name: f"{value}: {text}" for name, value, text in sentences.meanings(spec)},
        "kernel": list(spec.kernel_shape), "parameters": spec.num_parameters,
        "effective kernel": list(spec.effective_kernel), "layout": layouts.name(layout, spec.ndim),
    }  # fmt: skip
    if input_shape is not None:
        explicit = spec.explicit(input_shape, layout)
        result["input"] = list(input_shape)
        result["output"] = list(spec.output_shape(input_shape, layout))
        result["padding"] = [list(pair) for pair in explicit.padding]
        result["macs"] = spec.macs(input_shape, layout)
        result |= _field(spec.receptive_field(input_shape, layout))
        spatial = layouts.canonical_shape(input_shape, layout, spec.ndim)[2:]
    elif not isinstance(spec.padding, str):
        result |= _field(spec.receptive_field())
    result["sizes"] = dict(sentences.size_formulas(spec, spatial))
    known = registry.importable()
    result["support"] = {name: _support(one, spec, layout) for name, one in known.items()}
    names = adapters or [*{framework(name): name for name in reversed(known)}.values()][::-1]  # the first of each
    result["frameworks"] = {name: _written(registry.adapter(name), spec) for name in names}
    small = drawing.small(spec, spatial)
    result["drawing"] = {"input": list(small), "lines": drawing.lines(spec, small)}
    return result


def _field(field: ReceptiveField) -> dict[str, Any]:
    return {
        "receptive field": list(field.size),
        "jump": [str(n) for n in field.jump],
        "offset": [str(n) for n in field.offset],
    }


def _support(adapter: Adapter, spec: ConvSpec, layout: str) -> str:
    try:
        support = adapter.support(spec, layout)
        return f"{support!s}: {support.reason}" if support.reason else str(support)
    except Exception as error:  # noqa: BLE001 – an adapter may raise anything
        return f"error: {type(error).__name__}: {printable(error)}"


def _written(adapter: Adapter, spec: ConvSpec) -> dict[str, Any]:
    """Return the layer in a framework's own layout: support, code, constructor, shape of the kernel."""
    layout = adapter.native_layout
    support, _, reason = _support(adapter, spec, layout).partition(": ")
    result: dict[str, Any] = {"layout": layouts.name(layout, spec.ndim), "support": support}
    if reason:
        result["reason"] = reason
    try:
        text = adapter.source(spec, layout)
        stored = kernel_orders.of_plan(spec, framework(adapter.name), text)
        order = stored.axes(spec) + (", flipped" if stored.flipped else "")
        if support == "composed":
            result["code"] = code(text)
        return {**result, "constructor": constructor(text), "kernel": list(stored.shape(spec)), "order": order}
    except UnsupportedError:
        return result
    except Exception as error:  # noqa: BLE001 – an adapter may raise anything
        return {**result, "support": "error", "reason": f"{type(error).__name__}: {printable(error)}"}


def code(text: str) -> str:
    """Return a program without its imports."""
    imports = (ast.Import, ast.ImportFrom)
    first = next((node.lineno for node in ast.parse(text).body if not isinstance(node, imports)), 1)
    return "\n".join(text.splitlines()[first - 1 :]).strip("\n")


def constructor(text: str) -> str:
    """Return the constructor call, or the line of a .param text, of a program's convolution; empty if there is none."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            operator = ast.unparse(node.args[0]).strip("'") if name == "helper.make_node" else name.rpartition(".")[2]
            if "." in name and re.search("Conv|convolution", operator):
                return ast.unparse(node)
    line = re.search(r"^(C|Dec)onvolution\w* .*$", text, re.MULTILINE)
    return line[0] if line else ""


def _flatten(chain: Chain, input_shape: tuple[int, ...], layout: str) -> dict[str, Any]:
    features = chain.flatten(input_shape, layout)
    return {
        "in_features": features.in_features, "channels": features.channels, "spatial": list(features.spatial),
        "axes": {name: ", ".join(features.axes(name)) for name in layouts.LAYOUTS},
        "order of NHWC in NCHW": list(features.order("NHWC", first=FEATURES)),
    }  # fmt: skip
