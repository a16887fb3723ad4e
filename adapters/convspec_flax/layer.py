"""Build and run layers of ``flax.nnx``."""

from __future__ import annotations

from typing import Any

from convspec_jax.execution import configure, devices, structures
from flax import nnx

from convspec.contract import ConvParams, Plan
from convspec_flax.execution import Calls, place

__all__ = ["apply", "build", "configure", "devices", "gradients"]


@structures
def _structure(plan: Plan) -> tuple[Any, Any]:
    """The layer without weights: executed abstractly, so that no initialiser is compiled."""
    structure, state = nnx.split(nnx.eval_shape(plan.execute))
    return structure, state


def build(plan: Plan, params: ConvParams, device: str) -> Any:
    """The plan's layer with these weights on the device."""
    arrays = place(plan, params, device)
    structure, state = _structure(plan)
    flat = [(path, leaf.replace(arrays[path[-1]])) for path, leaf in nnx.to_flat_state(state)]
    return nnx.merge(structure, nnx.from_flat_state(flat))


def _inner(layer: Any) -> tuple[Any, Any]:
    conv = layer if isinstance(layer, nnx.Conv | nnx.ConvTranspose) else layer.conv
    return conv, conv.kernel.get_value()


def _leaves(of_state: Any) -> dict[str, Any]:
    return {path[-1]: leaf.get_value() for path, leaf in nnx.to_flat_state(of_state)}


_calls = Calls(lambda structure, state, x: nnx.merge(structure, state)(x), nnx.split, _inner, _leaves)
apply, gradients = _calls.apply, _calls.gradients
