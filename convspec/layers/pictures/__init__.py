"""Pictures of layers: SVG from a spec, by the standard library, the same bytes for the same spec.

Every picture carries a title and a description for those who cannot see it, and follows the reader's light or dark
theme: ``data-theme`` of an element above it where there is one, else the system's preference.
"""

from __future__ import annotations

from convspec.layers.pictures.chain import receptive_field
from convspec.layers.pictures.channel_sums import sums
from convspec.layers.pictures.channels import filters, groups
from convspec.layers.pictures.error_map import errors
from convspec.layers.pictures.inputs import cells, padding_modes, windows
from convspec.layers.pictures.layers import layer, sequence
from convspec.layers.pictures.memory import data_layouts, formats, kernel_layouts
from convspec.layers.pictures.scattering import scatter, zero_stuffing

__all__ = [
    "cells",
    "data_layouts",
    "errors",
    "filters",
    "formats",
    "groups",
    "kernel_layouts",
    "layer",
    "padding_modes",
    "receptive_field",
    "scatter",
    "sequence",
    "sums",
    "windows",
    "zero_stuffing",
]
