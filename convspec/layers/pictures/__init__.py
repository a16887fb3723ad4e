"""Pictures of layers: SVG from a spec, by the standard library, the same bytes for the same spec.

Every picture has a title and a description for screen readers, and follows the reader's light or dark theme:
``data-theme`` of an element above it if there is one, else the system's preference.
"""

from __future__ import annotations

from convspec.layers.pictures.channels import errors, filters, groups
from convspec.layers.pictures.layers import (
    cells,
    layer,
    padding_modes,
    receptive_field,
    scatter,
    sequence,
    windows,
    zero_stuffing,
)
from convspec.layers.pictures.network_maps import feature_maps
from convspec.layers.pictures.numbers import data_layouts, formats, kernel_layouts, sums

__all__ = [
    "cells", "data_layouts", "errors", "feature_maps", "filters", "formats", "groups", "kernel_layouts", "layer",
    "padding_modes", "receptive_field", "scatter", "sequence", "sums", "windows", "zero_stuffing",
]  # fmt: skip
