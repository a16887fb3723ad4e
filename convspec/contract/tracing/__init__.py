"""Read layers and models by running them.

``pads_of`` and ``layer_inference`` take a function that runs a layer on an array, and find which input element each
output element comes from: the axes, pads and crops around its convolution. The others list the steps of a run.
"""

from convspec.contract.tracing import layer_inference
from convspec.contract.tracing.cell_tracing import Answer, Array, Run
from convspec.contract.tracing.layer_inference import pads_of
from convspec.contract.tracing.pad_folding import VARIES, Pad, described, folded, pads_met
from convspec.contract.tracing.step_links import (
    Frame,
    Link,
    NoWord,
    OperatorStep,
    Whole,
    einsum_product,
    index_links,
    paths_of_links,
    repeat_links,
    slice_range,
    stack_links,
    tile_links,
    unstack_links,
)

__all__ = [
    "VARIES", "Answer", "Array", "Frame", "Link", "NoWord", "OperatorStep", "Pad", "Run", "Whole", "described",
    "einsum_product", "folded", "index_links", "layer_inference", "pads_met", "pads_of", "paths_of_links",
    "repeat_links", "slice_range", "stack_links", "tile_links", "unstack_links",
]  # fmt: skip
