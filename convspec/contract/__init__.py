"""What an adapter is: everything that the author of an adapter may import.

The protocol :class:`Adapter` and its base :class:`PlanAdapter` with all defaults, plans (the code of a layer), readings
of layers, declared gaps, constructors as text, and the registry that finds adapters by entry point. ``tracing`` and
``isolation`` are packages of their own: they need NumPy, and child processes.
"""

from convspec.contract import known_gaps, registry
from convspec.contract.constructor_calls import ConstructorCall, Unread, adapter_of, parse_call
from convspec.contract.gap_expressions import Predicate
from convspec.contract.known_gaps import SCALARS, VECTORS, Gap, applying
from convspec.contract.model_parts import KINDS, Call, Part
from convspec.contract.plan import Plan, Support
from convspec.contract.plan_adapter import PlanAdapter
from convspec.contract.protocol import Adapter, Found, LoadsFiles, Reading, Scripted, check_layout, kernel_axes
from convspec.contract.registry import adapter, adapters
from convspec.contract.scaffold import create
from convspec.spec import ComputePrecision, Gradients, resolve_padding

__all__ = [
    "KINDS",
    "SCALARS",
    "VECTORS",
    "Adapter",
    "Call",
    "ComputePrecision",
    "ConstructorCall",
    "Found",
    "Gap",
    "Gradients",
    "LoadsFiles",
    "Part",
    "Plan",
    "PlanAdapter",
    "Predicate",
    "Reading",
    "Scripted",
    "Support",
    "Unread",
    "adapter",
    "adapter_of",
    "adapters",
    "applying",
    "check_layout",
    "create",
    "kernel_axes",
    "known_gaps",
    "parse_call",
    "registry",
    "resolve_padding",
]
