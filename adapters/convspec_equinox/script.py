"""A layer run by plain Equinox, as text."""

from __future__ import annotations

from convspec.contract import Adapter, ConvSpec, LayerRequest, Plan

_RUN = """

@eqx.filter_jit
def run(layer, x):
    return jax.vmap(layer)(x)

"""
CALL = """\
import equinox as eqx
import jax
import jax.numpy as jnp


def call(model, arrays):
    module, state = model if isinstance(model, tuple) else (model, None)
    module = eqx.nn.inference_mode(module)
    if state is None:
        return jax.vmap(module)(*map(jnp.asarray, arrays))
    return jax.vmap(lambda *x: module(*x, state)[0], axis_name="batch")(*map(jnp.asarray, arrays))
"""


def script(plan: Plan, request: LayerRequest, adapter: Adapter) -> str:  # noqa: ARG001 – the contract's
    """Return code that builds the layer, loads ``kernel`` and ``bias``, and computes ``actual``."""
    spec, direction, dtype = plan.spec, request.direction, f"jnp.{plan.dtype}"
    path = "".join(f".{name}" for name in plan.convs)
    lines = [
        "import jax", "import jax.numpy as jnp", f'\njax.config.update("jax_platforms", "{request.device}")',
        *(['jax.config.update("jax_enable_x64", True)'] if plan.dtype == "float64" else []),
        plan.text.rstrip(), "", f"native = {_turned('kernel', spec) if spec.transposed else 'kernel'}",
        f"layer = eqx.tree_at(lambda layer: layer{path}.weight, layer, jnp.asarray(native, {dtype}))",
    ]  # fmt: skip
    if spec.bias:
        values = f"jnp.asarray(bias.reshape{(-1, *(1,) * spec.ndim)}, {dtype})"
        lines.append(f"layer = eqx.tree_at(lambda layer: layer{path}.bias, layer, {values})")
    lines += [_RUN, f"inputs = jnp.asarray(x, {dtype})"]
    if direction == "forward":
        lines.append("actual = run(layer, inputs)")
    else:
        source = {"input": "of_input", "kernel": f"of_layer{path}.weight", "bias": f"of_layer{path}.bias"}[direction]
        lines.append("y, pullback = eqx.filter_vjp(run, layer, inputs)")
        lines += [f"of_layer, of_input = pullback(jnp.asarray(dy, {dtype}))", f"actual = {source}"]
    lines.append(f"actual = np.array(actual{', np.float32' if plan.dtype == 'bfloat16' else ''})")
    if direction == "bias":
        lines.append("actual = actual.reshape(-1)")
    if direction == "kernel" and spec.transposed:
        lines.append(f"actual = {_turned('actual', spec, back=True)}")
    return "\n".join([*lines, ""])


def _turned(name: str, spec: ConvSpec, *, back: bool = False) -> str:
    """Return the expression of a transposed kernel in Equinox's order (a convolution of the dilated input), or back."""
    rows, columns = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    if back:
        rows, columns = columns, rows
    parts, whole = (spec.groups, rows, columns), (spec.groups * columns, rows)
    flipped = f"np.flip({name}, {tuple(range(2, 2 + spec.ndim))})"
    return f"{flipped}.reshape{(*parts, *spec.kernel_size)}.swapaxes(1, 2).reshape{(*whole, *spec.kernel_size)}"
