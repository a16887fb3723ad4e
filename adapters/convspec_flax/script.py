"""A layer of ``flax.nnx`` run by plain Flax, as text; :mod:`convspec_flax.linen.script` writes the same for linen."""

from __future__ import annotations

from convspec.contract import Adapter, ConvSpec, LayerRequest, Plan

_RUN = """\
structure, state = nnx.split(layer)


def run(state, x):
    return nnx.merge(structure, state)(x)

"""
CALL = """\
import jax.numpy as jnp


def call(model, arrays):
    model.eval()
    return model(*map(jnp.asarray, arrays))
"""


def script(plan: Plan, request: LayerRequest, adapter: Adapter) -> str:  # noqa: ARG001 – the contract's
    """Return code that builds the layer, loads ``kernel`` and ``bias``, and computes ``actual``."""
    name = f"layer.{plan.convs[0]}" if plan.convs else "layer"
    weights = [f"{name}.kernel = nnx.Param(jnp.asarray(native, {jax_dtype(plan)}))"]
    if plan.spec.bias:
        weights.append(f"{name}.bias = nnx.Param(jnp.asarray(bias, {jax_dtype(plan)}))")
    path = "".join(f'["{part}"]' for part in plan.convs)
    return written(plan, request, [*weights, _RUN], "state", f"of_state{path}", ".get_value()")


def written(plan: Plan, request: LayerRequest, weights: list[str], state: str, gradients: str, value: str = "") -> str:
    """Return the script around the lines that define ``state`` and ``run(state, x)``.

    ``gradients`` is the expression of the gradients by name, ``value`` the suffix that turns one into an array.
    """
    direction = request.direction
    lines = [
        "import jax", "import jax.numpy as jnp", f'\njax.config.update("jax_platforms", "{request.device}")',
        *(['jax.config.update("jax_enable_x64", True)'] if plan.dtype == "float64" else []),
        plan.text.rstrip(), "", *_native(plan.spec), *weights, f"inputs = jnp.asarray(x, {jax_dtype(plan)})",
    ]  # fmt: skip
    if direction == "forward":
        lines.append(f"actual = jax.jit(run)({state}, inputs)")
    else:
        lines += [
            f"weight_of_y = jnp.asarray(dy, {jax_dtype(plan)})",
            f"pullback = jax.jit(lambda {state}, x, dy: jax.vjp(run, {state}, x)[1](dy))",
            f"of_{state}, of_input = pullback({state}, inputs, weight_of_y)",
            "actual = of_input" if direction == "input" else f'actual = {gradients}["{direction}"]{value}',
        ]
    lines.append(f"actual = np.array(actual{', np.float32' if plan.dtype == 'bfloat16' else ''})")
    return "\n".join([*lines, *(_canonical(plan.spec) if direction == "kernel" else []), ""])


def jax_dtype(plan: Plan) -> str:
    """Return the layer's dtype as JAX names it."""
    return f"jnp.{plan.dtype}"


def _native(spec: ConvSpec) -> list[str]:
    """Return the statements that define ``native``, the kernel in Flax's order."""
    if not spec.transposed or spec.groups == 1:
        return ["native = np.moveaxis(kernel, (0, 1), (-1, -2))"]
    parts = (spec.groups, spec.in_channels // spec.groups, spec.out_channels // spec.groups, *spec.kernel_size)
    size = (*spec.kernel_size, spec.in_channels // spec.groups, spec.out_channels)
    return [
        f"native = np.moveaxis(kernel.reshape{parts}, (1, 0, 2), (-3, -2, -1)).reshape{size}",
        f"native = np.flip(native, {tuple(range(spec.ndim))})",
    ]


def _canonical(spec: ConvSpec) -> list[str]:
    """Return the statements that bring ``actual``, a kernel in Flax's order, to that of ``kernel``."""
    if not spec.transposed or spec.groups == 1:
        return ["actual = np.moveaxis(actual, (-1, -2), (0, 1))"]
    parts = (*spec.kernel_size, spec.in_channels // spec.groups, spec.groups, spec.out_channels // spec.groups)
    return [
        f"actual = np.flip(actual, {tuple(range(spec.ndim))}).reshape{parts}",
        "actual = np.moveaxis(actual, (-3, -2, -1), (1, 0, 2)).reshape(kernel.shape)",
    ]
