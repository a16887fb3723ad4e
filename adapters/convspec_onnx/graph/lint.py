"""Lint convolutions: faults and portability risks that show without running the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import onnx

from convspec.errors import ShapeError
from convspec.spec import format_of
from convspec_onnx.graph.convolutions import COMPUTED_WEIGHTS, Conv
from convspec_onnx.graph.scope import read_pad
from convspec_onnx.loading import Array, subgraphs, tensors_read

_MANY = 64  # different weights: so many are not all exact in float16 by chance
_TRANSPARENT = ("DequantizeLinear", "Identity", "Transpose")
_PROBLEMS = {  # note by the first words of a Conv's problem
    "group": "group-does-not-divide", "kernel_shape": "kernel-shape-contradicts-weight", "B of shape": "bias-length",
}  # fmt: skip


def lint_graph(graph: onnx.GraphProto, convs: Sequence[Conv], *, consistent: bool = True) -> list[dict[str, str]]:
    """Add notes to the convolutions and return the notes on the model.

    ``consistent``: whether shape inference succeeded; if not, the declared shapes may be what is wrong.
    """
    shared = Counter(conv.weight for conv in convs)
    needed = _needed(graph)
    for conv in convs:
        if not conv.judged:
            continue
        _check_attributes(conv)
        _check_auto_pad(conv)
        _check_shapes(conv, consistent=consistent)
        _check_weights(conv)
        _check_pad_value(conv)
        if shared[conv.weight] > 1:
            conv.note("shared-weights", f"{shared[conv.weight]} convolutions use the weight {conv.weight!r}")
        if not conv.owners and not needed & set(conv.node.output):
            conv.note("dead-node", "no output of the model depends on this node", "warning")
    return _unused_weights(graph) + _unjudged_nodes(graph, {id(conv.node) for conv in convs})


def _check_attributes(conv: Conv) -> None:
    spec = conv.spec
    if conv.problem and conv.problem != COMPUTED_WEIGHTS:
        name = next((note for words, note in _PROBLEMS.items() if conv.problem.startswith(words)), "no-layer")
        conv.note(name, conv.problem, "error")
    if "kernel_shape" not in conv.attributes:
        conv.note("missing-kernel-shape", "kernel_shape is missing: some runtimes require it")
    if conv.attributes.get("output_shape"):
        conv.note("output-shape", "output_shape: runtimes differ in the rows that they crop; write pads", "warning")
    if spec is None or isinstance(spec.padding, str):
        return
    if any(lo != hi for lo, hi in spec.padding) and not spec.transposed:
        conv.note("asymmetric-pads", f"pads {spec.padding} are asymmetric: some runtimes refuse them")
    if not spec.transposed and any(max(p) >= ke for p, ke in zip(spec.padding, spec.effective_kernel, strict=True)):
        conv.note("pad-beyond-kernel", "some output pixels depend on padding only", "warning")
    if not spec.transposed and any(s > ke for s, ke in zip(spec.stride, spec.effective_kernel, strict=True)):
        conv.note("skipped-input", f"stride {spec.stride} exceeds the effective kernel: some pixels are never read")
    if any(k == 1 and d > 1 for k, d in zip(spec.kernel_size, spec.dilation, strict=True)):
        conv.note("idle-dilation", "dilation has no effect along an axis of kernel size 1")


def _check_auto_pad(conv: Conv) -> None:
    given = conv.attributes
    auto = given.get("auto_pad", "NOTSET")
    if auto == "NOTSET":
        return
    conv.note("auto-pad", f"auto_pad={auto!r}: runtimes interpret it differently; write pads")
    if any(given.get("pads") or ()):
        conv.note("auto-pad-and-pads", f"both auto_pad={auto!r} and pads: runtimes differ in which they use", "error")
    if not auto.startswith("SAME"):
        return
    if any(d > 1 for d in given.get("dilations") or ()):
        conv.note("auto-pad-dilation", "auto_pad with a dilation: ONNX Runtime refuses to run it", "warning")
    if conv.node.op_type == "ConvTranspose" or any(s > 1 for s in given.get("strides") or ()):
        conv.note("auto-pad-differs", f"auto_pad={auto!r}: runtimes compute different pads or crops", "warning")


def _check_shapes(conv: Conv, *, consistent: bool) -> None:
    """Compare the declared output shape with the spec's."""
    x, y = conv.shape(conv.node.input[0]), conv.shape(conv.node.output[0])
    spec = conv.spec
    if spec is None or x is None:
        return
    if len(x) != spec.ndim + 2 or (isinstance(x[1], int) and x[1] != spec.in_channels):
        expected = f"expected {spec.in_channels} channels and {spec.ndim} spatial axes from the weight"
        title = f"{expected}, got input {_text(x)}"
        conv.note("input-contradicts-weight", title, "error" if consistent else "warning")
        return
    sizes = [n for n in x[2:] if isinstance(n, int)]
    if y is None or len(sizes) != spec.ndim:
        return
    try:
        right = spec.output_shape((1, spec.in_channels, *sizes))[1:]
    except ShapeError as error:
        conv.note("no-output", str(error), "error")
        return
    if len(y) != len(x) or any(isinstance(n, int) and n != m for n, m in zip(y[1:], right, strict=True)):
        title = f"the output is declared as {_text(y)}, but the spec gives {_text((x[0], *right))}"
        conv.note("shape-contradicts-spec", title, "error")


def _check_pad_value(conv: Conv) -> None:
    """Note a Pad of integers before the node whose value is not the zero point: it adds pixels that are not zero."""
    zero, name = None, conv.data
    if conv.node.op_type in ("ConvInteger", "QLinearConv"):
        zero = _zero_point(conv, conv.node, 2)
    while (node := conv.scope.producer(name)) is not None and node.op_type in _TRANSPARENT:
        if node.op_type == "DequantizeLinear":
            zero = _zero_point(conv, node, 2)
        name = node.input[0]
    if node is None or node.op_type != "Pad" or zero is None:
        return
    pad = read_pad(conv.scope, node, len(conv.scope.shape(name) or ()) or (conv.spec.ndim + 2 if conv.spec else 0))
    if pad is not None and pad.mode == "constant" and pad.value != zero and any(map(any, pad.pairs)):
        title = f"the Pad {node.name!r} before it adds {pad.value:.0f}, where the zero point {zero:.0f} belongs"
        conv.note("pad-is-not-zero-point", title, "error")


def _zero_point(conv: Conv, node: onnx.NodeProto, place: int) -> float | None:
    """Return the zero point of a node's input, 0 if there is none; None if it is computed, or not one number."""
    if len(node.input) <= place or not node.input[place]:
        return 0.0
    value = conv.scope.constant(node.input[place])
    return None if value is None or value.size != 1 else float(value.reshape(-1)[0])


def _text(shape: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, shape))})"


def _check_weights(conv: Conv) -> None:
    if conv.params is None or conv.spec is None:
        return
    kernel, bias = conv.params.kernel, conv.params.bias
    for name, values in (("kernel", kernel), ("bias", bias)):
        if values is not None and values.dtype.kind == "f" and values.size:
            _check_numbers(conv, name, values)
    parts = kernel.reshape(conv.spec.groups, -1, *kernel.shape[1:]) if conv.spec.transposed else kernel
    axes = (1, *range(3, parts.ndim)) if conv.spec.transposed else tuple(range(1, parts.ndim))
    dead = ~parts.any(axis=axes).reshape(-1)
    if dead.any():
        but = "" if bias is None or not bias[dead].any() else ", but not the bias"
        conv.note("dead-output-channel", f"{_channels(np.flatnonzero(dead))}: all weights are zero{but}", "warning")


def _check_numbers(conv: Conv, name: str, values: Array) -> None:
    """Note NaN, Inf, subnormals, and numbers with fewer digits than their format has."""
    size = np.abs(values)
    tests = () if np.isfinite(size.max()) else (("nan", np.isnan(values)), ("inf", np.isinf(values)))
    for kind, bad in tests:
        if bad.any():
            first = tuple(int(i) for i in np.argwhere(bad)[0])
            title = f"{int(bad.sum())} elements of the {name} are {kind}, the first at {first}"
            conv.note(f"{kind}-weights", title, "error")
    small = size < format_of("float16" if values.dtype == np.float16 else str(values.dtype)).smallest_normal
    subnormal = int(np.count_nonzero(size[small])) if small.any() else 0
    if subnormal:
        title = f"{subnormal} elements of the {name} are subnormal: some runtimes flush them to 0"
        conv.note("denormal-weights", title, "warning")
    single = values.dtype == np.float32 and conv.scope.element_type(conv.weight) != onnx.TensorProto.BFLOAT16
    if name == "kernel" and single and _exact_in_float16(values):
        title = "every element of the kernel is exact in float16: were the weights rounded to float16?"
        conv.note("half-precision-weights", title, "warning")


def _exact_in_float16(values: Array) -> bool:
    """Return whether every number is exact in float16 and not by chance: they are many, and not all integers."""
    for some in (values.reshape(-1)[:_MANY], values):  # mostly the first few are enough
        with np.errstate(over="ignore", invalid="ignore"):
            if not np.array_equal(some.astype(np.float16).astype(np.float32), some):
                return False
    return np.unique(values).size >= _MANY and not np.array_equal(values, np.round(values))


def _channels(indices: Array) -> str:
    more = f" and {len(indices) - 8} more" if len(indices) > 8 else ""
    return f"output channel{'s' * (len(indices) > 1)} {', '.join(map(str, indices[:8].tolist()))}{more}"


def _needed(graph: onnx.GraphProto) -> set[str]:
    """Return the tensors that the graph's outputs depend on."""
    needed = {entry.name for entry in graph.output}
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= tensors_read(node)
    return needed


def _unused_weights(graph: onnx.GraphProto) -> list[dict[str, str]]:
    used = {entry.name for entry in graph.output}.union(*map(tensors_read, graph.node))
    unused = [tensor.name for tensor in graph.initializer if tensor.name not in used]
    return [{"id": "unused-weights", "title": f"no node reads the weight {n!r}", "level": "warning"} for n in unused]


def _unjudged_nodes(graph: onnx.GraphProto, judged: set[int]) -> list[dict[str, str]]:
    """Return notes on operators that convolve but are not judged."""
    notes = []
    for node in graph.node:
        if "Conv" in node.op_type and id(node) not in judged:
            title = f"{node.name!r} is a {node.op_type}, which convspec does not judge"
            notes.append({"id": "not-judged", "title": title, "level": "warning"})
        for attribute in node.attribute:
            for body in subgraphs(attribute):
                notes += _unjudged_nodes(body, judged)
    return notes
