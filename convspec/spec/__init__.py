"""The description of a convolution layer: fields, their rules, the shapes that follow from them, and the weights.

The input is a layer's fields, as a user writes them; the output is a :class:`ConvSpec`, a :class:`QuantSpec`, a
:class:`Chain` or :class:`ConvParams`, output shapes, padding in numbers, layouts and dtypes. The package knows no
framework. Only ``parameters`` needs more than the standard library, so the rest also runs in a browser.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from convspec.spec import layouts, shapes
from convspec.spec.chains import Chain, Flattened
from convspec.spec.conv_spec import ConvSpec, add_pads
from convspec.spec.dtypes import DTYPES, Array, ComputePrecision, Format, Gradients, format_of, representable, rounded
from convspec.spec.layouts import CHANNELS_FIRST, CHANNELS_LAST, LAYOUTS, family
from convspec.spec.quant_spec import ACTIVATIONS, INTEGERS, QuantSpec
from convspec.spec.shapes import (
    DIRECTIONS,
    ReceptiveField,
    column_roundings,
    copies,
    output_shape,
    output_spatial,
    overlap,
    product,
    resolve_padding,
    same_pads,
    sum_pads,
)
from convspec.spec.validation import FIELDS, PADDING_MODES, SIZE_RULE, Pads, too_large

if TYPE_CHECKING:
    from convspec.spec.parameters import (
        MAX_MAGNITUDE,
        SPARSE_MAGNITUDE,
        ConvParams,
        as_kernel,
        dealt,
        exact_budget,
        exact_limit,
        forward_products,
        magnitudes,
        nonzero_integers,
        normal,
        sparse_mask,
    )

__all__ = [
    "ACTIVATIONS", "CHANNELS_FIRST", "CHANNELS_LAST", "DIRECTIONS", "DTYPES", "FIELDS", "INTEGERS", "LAYOUTS",
    "MAX_MAGNITUDE", "PADDING_MODES", "SIZE_RULE", "SPARSE_MAGNITUDE", "Array", "Chain", "ComputePrecision",
    "ConvParams", "ConvSpec", "Flattened", "Format", "Gradients", "Pads", "QuantSpec", "ReceptiveField",
    "add_pads", "as_kernel", "column_roundings", "copies", "dealt", "exact_budget", "exact_limit", "family",
    "format_of", "forward_products", "layouts", "magnitudes", "nonzero_integers", "normal", "output_shape",
    "output_spatial", "overlap", "product", "representable", "resolve_padding", "rounded", "same_pads", "shapes",
    "sparse_mask", "sum_pads", "too_large",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import the names of ``parameters`` on first use: they need NumPy."""
    if name in __all__:
        return getattr(importlib.import_module("convspec.spec.parameters"), name)
    raise AttributeError(f"module 'convspec.spec' has no attribute {name!r}")
