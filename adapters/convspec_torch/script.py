"""A layer run by plain PyTorch, as text."""

from __future__ import annotations

from convspec.contract import Adapter, LayerRequest, Plan

CALL = """\
import torch


def call(model, arrays):
    like = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    model.eval()
    with torch.no_grad():
        return model(*(torch.from_numpy(x).to(like) if x.dtype.kind == "f" else torch.from_numpy(x) for x in arrays))
"""


def script(plan: Plan, request: LayerRequest, adapter: Adapter) -> str:
    """Return code that builds the layer, loads ``kernel`` and ``bias``, and computes ``actual``."""
    dtype, device = f"torch.{plan.dtype}", request.device
    order = {2: "torch.channels_last", 3: "torch.channels_last_3d"}.get(plan.spec.ndim)
    form = f".contiguous(memory_format={order})" if adapter.variant == "channels_last" and order else ""
    first = form if plan.layout == "NCHW" else ""
    lines = [
        "import torch", plan.text.rstrip(), "",
        f"conv = layer.{plan.convs[0]}" if plan.convs else "conv = layer",
        f'conv.weight = torch.nn.Parameter(torch.from_numpy(kernel).to("{device}", {dtype}){form})',
    ]  # fmt: skip
    if adapter.variant == "compile":
        lines.append("layer = torch.compile(layer, fullgraph=True, dynamic=False)")
    if plan.spec.bias:
        lines.append(f'conv.bias = torch.nn.Parameter(torch.from_numpy(bias).to("{device}", {dtype}))')
    lines.append(f'inputs = torch.from_numpy(x).to("{device}", {dtype}){first}')
    if request.direction == "forward":
        lines += ["with torch.no_grad():", "    actual = layer(inputs)"]
    else:
        source = {"input": "inputs", "kernel": "conv.weight", "bias": "conv.bias"}[request.direction]
        lines += ["inputs.requires_grad_()", f'weight_of_y = torch.from_numpy(dy).to("{device}", {dtype})']
        lines.append(f"(actual,) = torch.autograd.grad(layer(inputs), [{source}], weight_of_y)")
    carried = ".float()" if plan.dtype == "bfloat16" else ""
    return "\n".join([*lines, f"actual = actual.cpu(){carried}.numpy()", ""])
