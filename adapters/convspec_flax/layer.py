"""Build and run layers of ``flax.nnx``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flax import nnx

from convspec_flax.cache import structures
from convspec_flax.execution import Calls, Conv, check_channels_last, configure, devices, placed, results

if TYPE_CHECKING:
    from convspec.contract import Array, ConvParams, Gradients, Plan

__all__ = ["apply", "build", "configure", "devices", "gradients"]

_calls = Calls(lambda structure, state, x: nnx.merge(structure, state)(x))


@structures
def _structure(plan: Plan) -> tuple[Any, Any]:
    """The layer without weights: executed abstractly, so that no initialiser is compiled."""
    structure, state = nnx.split(nnx.eval_shape(plan.execute))
    return structure, state


def build(plan: Plan, params: ConvParams, device: str) -> Any:
    """The plan's layer with these weights on the device."""
    arrays = placed(plan, params, device)
    structure, state = _structure(plan)
    flat = [(path, leaf.replace(arrays[path[-1]])) for path, leaf in nnx.to_flat_state(state)]
    return nnx.merge(structure, nnx.from_flat_state(flat))


def apply(layer: Any, x: Array, layout: str, device: str) -> Array:
    """The layer's output, in the layout of ``x``."""
    conv = _conv(layer, layout)
    return _calls.forward(nnx.split(layer), conv, x, layout, device)


def gradients(layer: Any, x: Array, dy: Array, layout: str, device: str) -> Gradients:
    """Gradients of ⟨layer(x), dy⟩."""
    conv = _conv(layer, layout)
    state, of_input = _calls.gradients(nnx.split(layer), conv, x, dy, layout, device)
    leaves = {path[-1]: leaf.get_value() for path, leaf in nnx.to_flat_state(state)}
    return results(conv, of_input, leaves["kernel"], leaves.get("bias"), device)


def _conv(layer: Any, layout: str) -> Conv:
    """The convolution of a layer: itself, or its ``conv``."""
    if isinstance(layer, nnx.Conv | nnx.ConvTranspose):
        check_channels_last(layout, len(layer.kernel_size))
        return Conv(layer, layer.kernel.get_value())
    return Conv(layer.conv, layer.conv.kernel.get_value())
