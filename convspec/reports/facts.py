"""One layer's facts: what follows from its fields, and from the size of its input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from convspec import arithmetic, registry

if TYPE_CHECKING:
    from rich.console import Console

    from convspec.spec import ConvSpec


def of(spec: ConvSpec, input_shape: tuple[int, ...] | None, layout: str) -> dict[str, Any]:
    """The facts, JSON-ready; those that need the input's size only where it is given.

    Raises:
        ShapeError: if the input does not fit the layer.
    """
    found: dict[str, Any] = {
        "spec": spec.to_dict(),
        "kernel": list(spec.kernel_shape),
        "parameters": spec.num_parameters,
        "effective kernel": list(spec.effective_kernel),
    }
    if input_shape is not None:
        explicit = spec.explicit(input_shape, layout)
        found["input"] = list(input_shape)
        found["output"] = list(spec.output_shape(input_shape, layout))
        found["padding"] = [list(pair) for pair in explicit.padding]
        found["macs"] = spec.macs(input_shape, layout)
        found |= _field(spec.receptive_field(input_shape, layout))
    elif not isinstance(spec.padding, str):
        found |= _field(spec.receptive_field())
    found["support"] = {name: _support(name, spec, layout) for name in registry.adapters()}
    return found


def _field(field: arithmetic.ReceptiveField) -> dict[str, Any]:
    return {
        "receptive field": list(field.size),
        "jump": [str(n) for n in field.jump],
        "offset": [str(n) for n in field.offset],
    }


def _support(name: str, spec: ConvSpec, layout: str) -> str:
    support = registry.adapter(name).support(spec, layout)
    return f"{support!s}: {support.reason}" if support.reason else str(support)


def show(found: dict[str, Any], console: Console) -> None:
    """Print the facts, one a line."""
    table = Table(box=None, pad_edge=False, show_header=False)
    fields = ", ".join(f"{key}={value}" for key, value in found["spec"].items())
    table.add_row("layer", Text(fields))
    for key, value in found.items():
        if key not in ("spec", "support"):
            table.add_row(key, Text(" × ".join(map(str, value)) if _flat(value) else str(value)))
    for name, support in found["support"].items():
        table.add_row(f"in {name}", Text(support))
    console.print(table)


def _flat(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, int) for v in value)
