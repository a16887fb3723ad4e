"""A layer run by plain MLX, as text."""

from __future__ import annotations

from convspec.contract import Adapter, ConvSpec, LayerRequest, Plan


def script(plan: Plan, request: LayerRequest, adapter: Adapter) -> str:  # noqa: ARG001 – the contract's
    """Return code that builds the layer, loads ``kernel`` and ``bias``, and computes ``actual``."""
    spec, direction, dtype = plan.spec, request.direction, f"mx.{plan.dtype}"
    own = f"layer{''.join(f'.{name}' for name in plan.convs)}"
    head = "" if "import mlx.core as mx" in plan.text else "import mlx.core as mx\n"
    names = ["weight", "bias"] if spec.bias else ["weight"]
    lines = [
        f"{head}{plan.text.rstrip()}", "", "mx.set_default_device(mx.cpu)",
        f"{own}.weight = mx.array(np.ascontiguousarray({_native('kernel', spec)}), {dtype})",
        *([f"{own}.bias = mx.array(bias, {dtype})"] if spec.bias else []), f"inputs = mx.array(x, {dtype})",
    ]  # fmt: skip
    if direction == "forward":
        lines.append("actual = layer(inputs)")
    else:
        arguments = ", ".join(names)
        lines += [
            "", "", f"def run(inputs, {arguments}):", f"    {own}.update(dict({', '.join(f'{n}={n}' for n in names)}))",
            "    return [layer(inputs)]", "", "",
            f"primals = [inputs, {', '.join(f'{own}.{name}' for name in names)}]",
            f"found = mx.vjp(run, primals, [mx.array(dy, {dtype})])[1]",
            f"actual = found[{['input', 'kernel', 'bias'].index(direction)}]",
        ]  # fmt: skip
    lines.append(
        "actual = np.array(actual.astype(mx.float32))" if plan.dtype == "bfloat16" else "actual = np.array(actual)"
    )
    if direction == "kernel":
        lines.append(f"actual = {_canonical('actual', spec)}")
    return "\n".join([*lines, ""])


def _native(name: str, spec: ConvSpec) -> str:
    """Return the expression of a canonical kernel in MLX's order."""
    return f"np.moveaxis({_swapped(name, spec) if spec.transposed else name}, 1, -1)"


def _canonical(name: str, spec: ConvSpec) -> str:
    first = f"np.moveaxis({name}, -1, 1)"
    return _swapped(first, spec, back=True) if spec.transposed else first


def _swapped(name: str, spec: ConvSpec, *, back: bool = False) -> str:
    if spec.groups == 1:
        return f"{name}.swapaxes(0, 1)"
    rows, columns = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    if back:
        rows, columns = columns, rows
    parts, whole = (spec.groups, rows, columns), (spec.groups * columns, rows)
    size = spec.kernel_size
    return f"{name}.reshape{(*parts, *size)}.swapaxes(1, 2).reshape{(*whole, *size)}"
