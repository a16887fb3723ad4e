"""Build and run layers of ``flax.linen``: modules bound to their variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flax import linen as nn

from convspec_flax.cache import structures
from convspec_flax.execution import Calls, Conv, check_channels_last, configure, devices, placed, results

if TYPE_CHECKING:
    from convspec.contract import Array, ConvParams, Gradients, Plan

__all__ = ["apply", "build", "configure", "devices", "gradients"]

_calls = Calls(lambda module, variables, x: module.apply(variables, x))


@structures
def _module(plan: Plan) -> Any:
    """The module without weights."""
    return plan.execute()


def build(plan: Plan, params: ConvParams, device: str) -> Any:
    """The plan's module, bound to these weights on the device."""
    arrays = placed(plan, params, device)
    return _module(plan).bind({"params": dict.fromkeys(plan.convs, arrays) or arrays})


def apply(layer: Any, x: Array, layout: str, device: str) -> Array:
    """The layer's output, in the layout of ``x``."""
    conv, _ = _conv(layer, layout)
    return _calls.forward(layer.unbind(), conv, x, layout, device)


def gradients(layer: Any, x: Array, dy: Array, layout: str, device: str) -> Gradients:
    """Gradients of ⟨layer(x), dy⟩."""
    conv, path = _conv(layer, layout)
    variables, of_input = _calls.gradients(layer.unbind(), conv, x, dy, layout, device)
    leaves = variables["params"]
    for name in path:
        leaves = leaves[name]
    return results(conv, of_input, leaves["kernel"], leaves.get("bias"), device)


def _conv(layer: Any, layout: str) -> tuple[Conv, tuple[str, ...]]:
    """The convolution of a bound module – itself, or its ``conv`` – and the path to its variables."""
    if isinstance(layer, nn.Conv | nn.ConvTranspose):
        check_channels_last(layout, len(layer.kernel_size))
        return Conv(layer, layer.variables["params"]["kernel"]), ()
    return Conv(layer.conv, layer.variables["params"]["conv"]["kernel"]), ("conv",)
