"""A layer of ``flax.linen`` run by plain Flax, as text."""

from __future__ import annotations

from convspec.contract import Adapter, LayerRequest, Plan
from convspec_flax.script import jax_dtype, written

_RUN = """

def run(variables, x):
    return layer.apply(variables, x)

"""
CALL = """\
import jax.numpy as jnp


def call(model, arrays):
    module, variables = model if isinstance(model, tuple) else model.unbind()
    return module.apply(variables, *map(jnp.asarray, arrays))
"""


def script(plan: Plan, request: LayerRequest, adapter: Adapter) -> str:  # noqa: ARG001 – the contract's
    """Return code that builds the module, gives it ``kernel`` and ``bias``, and computes ``actual``."""
    params = f'"kernel": jnp.asarray(native, {jax_dtype(plan)})'
    if plan.spec.bias:
        params += f', "bias": jnp.asarray(bias, {jax_dtype(plan)})'
    params, path = f"{{{params}}}", '["params"]'
    for name in plan.convs:
        params, path = f'{{"{name}": {params}}}', f'{path}["{name}"]'
    weights = [f'variables = {{"params": {params}}}', _RUN]
    return written(plan, request, weights, "variables", f"of_variables{path}")
