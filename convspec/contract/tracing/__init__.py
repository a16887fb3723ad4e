"""Read a composed layer by running it: which input element each output element comes from.

It takes a function that runs a layer on an array, and returns the axes, pads and crops around its convolution.
"""

from typing import TYPE_CHECKING

from convspec.contract.tracing import layer_inference
from convspec.contract.tracing.cell_tracing import Answer, Run
from convspec.contract.tracing.layer_inference import pads_of
from convspec.contract.tracing.pad_folding import Pad, described, folded

if TYPE_CHECKING:
    from convspec.contract.tracing.cell_tracing import Array as Array

__all__ = ["Answer", "Pad", "Run", "described", "folded", "layer_inference", "pads_of"]
