"""What an adapter is: everything that the author of an adapter may import.

The class :class:`Adapter`, its base for plans :class:`PlanAdapter`, and what their methods take and return; declared
gaps, constructors as text, and the registry that finds adapters by entry point. The names of :mod:`convspec.spec` that
adapters use are here too. ``tracing`` and ``isolation`` are packages of their own: they need NumPy and child processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convspec import spec as _spec
from convspec.contract import known_gaps, registry
from convspec.contract.constructor_calls import (
    FOREIGN,
    ConstructorCall,
    Unread,
    adapter_of,
    as_written,
    imported_modules,
    parse_call,
    read_layer,
)
from convspec.contract.gap_expressions import Predicate
from convspec.contract.known_gaps import SCALARS, VECTORS, Gap, applying
from convspec.contract.model_parts import KINDS, Call, ModelModule, ModelTrace, Part, StepTrace, TracedStep
from convspec.contract.plan import Plan, Support, call_text
from convspec.contract.plan_adapter import LayerModule, PlanAdapter
from convspec.contract.protocol import (
    Adapter,
    FoundConv,
    LayerRequest,
    QuantizedForm,
    Reading,
    kernel_axes,
    xla_precision,
)
from convspec.contract.refusals import check_layout, known_dtype, no_convolutions, refuse_inputs, refuse_shape
from convspec.contract.registry import adapter, adapters
from convspec.contract.scaffold import create
from convspec.spec import (
    CHANNELS_FIRST,
    CHANNELS_LAST,
    DTYPES,
    Array,
    ComputePrecision,
    ConvSpec,
    Gradients,
    Pads,
    QuantSpec,
    column_roundings,
    copies,
    family,
    format_of,
    layouts,
    overlap,
    resolve_padding,
    rounded,
    same_pads,
)

if TYPE_CHECKING:
    from convspec.spec import ConvParams

__all__ = [
    "CHANNELS_FIRST", "CHANNELS_LAST", "DTYPES", "FOREIGN", "KINDS", "SCALARS", "VECTORS", "Adapter", "Array", "Call",
    "ComputePrecision", "ConstructorCall", "ConvParams", "ConvSpec", "FoundConv", "Gap", "Gradients", "LayerModule",
    "LayerRequest", "ModelModule", "ModelTrace", "Pads", "Part", "Plan", "PlanAdapter", "Predicate", "QuantSpec",
    "QuantizedForm", "Reading", "StepTrace", "Support", "TracedStep", "Unread", "adapter", "adapter_of", "adapters",
    "applying", "as_written", "call_text", "check_layout", "column_roundings", "copies", "create", "family",
    "format_of", "imported_modules", "kernel_axes", "known_dtype", "known_gaps", "layouts", "no_convolutions",
    "overlap", "parse_call", "read_layer", "refuse_inputs", "refuse_shape", "registry", "resolve_padding", "rounded",
    "same_pads", "xla_precision",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Return ``ConvParams`` on first use: it needs NumPy."""
    if name == "ConvParams":
        return _spec.ConvParams
    raise AttributeError(f"module 'convspec.contract' has no attribute {name!r}")
