"""Build and run layers of ``flax.linen``: modules bound to their variables."""

from __future__ import annotations

from typing import Any

from convspec_jax.execution import configure, devices, structures
from flax import linen as nn

from convspec.contract import ConvParams, Plan
from convspec_flax.execution import Calls, place

__all__ = ["apply", "build", "configure", "devices", "gradients"]


@structures
def _module(plan: Plan) -> Any:
    """The module without weights."""
    return plan.execute()


def build(plan: Plan, params: ConvParams, device: str) -> Any:
    """The plan's module, bound to these weights on the device."""
    arrays = place(plan, params, device)
    return _module(plan).bind({"params": dict.fromkeys(plan.convs, arrays) or arrays})


def _inner(layer: Any) -> tuple[Any, Any]:
    plain = isinstance(layer, nn.Conv | nn.ConvTranspose)
    return layer if plain else layer.conv, _leaves(layer.variables)["kernel"]


def _leaves(variables: Any) -> Any:
    return variables["params"].get("conv", variables["params"])


_calls = Calls(lambda module, variables, x: module.apply(variables, x), nn.Module.unbind, _inner, _leaves)
apply, gradients = _calls.apply, _calls.gradients
