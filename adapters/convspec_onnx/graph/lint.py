"""What can be said against a convolution without running it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from convspec.errors import ShapeError
from convspec.spec import format_of
from convspec_onnx.loading.inline_functions import bodies, uses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from convspec_onnx.graph.convolutions import Conv

_ENOUGH = 64  # weights from which on it is no chance that all of them have few digits


def examine(graph: onnx.GraphProto, convs: Sequence[Conv], *, consistent: bool = True) -> list[dict[str, str]]:
    """Add to each convolution what is to be said of it; return what is to be said of the model.

    ``consistent``: whether the declared shapes follow from one another; where not, they may be what is wrong.
    """
    shared = Counter(conv.weight for conv in convs)
    alive = _alive(graph)
    for conv in convs:
        _attributes(conv)
        _shapes(conv, consistent=consistent)
        _weights(conv)
        if shared[conv.weight] > 1:
            conv.note("shared-weights", f"{shared[conv.weight]} convolutions use the weight {conv.weight!r}")
        if not conv.owners and not alive & set(conv.node.output):
            conv.note("dead-node", "nothing that the model returns depends on this node", "warning")
    return _unused(graph) + _unjudged(graph, {id(conv.node) for conv in convs})


def _attributes(conv: Conv) -> None:
    given, op = conv.attributes, conv.node.op_type
    if conv.problem and not conv.problem.startswith("its weights"):
        conv.note(_kind(conv.problem), conv.problem, "error")
    if "kernel_shape" not in given:
        conv.note("missing-kernel-shape", "kernel_shape is left out: some runtimes need it")
    auto = given.get("auto_pad", "NOTSET")
    if auto != "NOTSET":
        _auto_pad(conv, auto, given)
    if given.get("output_shape"):
        conv.note("output-shape", "output_shape: which rows it crops differs between runtimes; write pads", "warning")
    spec = conv.spec
    if spec is None or isinstance(spec.padding, str):
        return
    if any(lo != hi for lo, hi in spec.padding) and not spec.transposed:
        conv.note("asymmetric-pads", f"pads {spec.padding} differ at the two ends: some runtimes refuse them")
    if not spec.transposed and any(max(p) >= ke for p, ke in zip(spec.padding, spec.effective_kernel, strict=True)):
        conv.note("pad-beyond-kernel", "some outputs see nothing but padding", "warning")
    if any(s > ke for s, ke in zip(spec.stride, spec.effective_kernel, strict=True)) and op != "ConvTranspose":
        conv.note("skipped-input", f"stride {spec.stride} beyond the kernel's reach: some inputs are never read")
    if any(k == 1 and d > 1 for k, d in zip(spec.kernel_size, spec.dilation, strict=True)):
        conv.note("idle-dilation", "a dilation along an axis of one tap does nothing")


def _kind(problem: str) -> str:
    for word, name in (("group", "group-does-not-divide"), ("kernel_shape", "kernel-shape-contradicts-weight")):
        if problem.startswith(word):
            return name
    return "bias-length" if problem.startswith("B of shape") else "no-layer"


def _auto_pad(conv: Conv, auto: str, given: dict[str, Any]) -> None:
    strides = given.get("strides") or (1,)
    dilations = given.get("dilations") or (1,)
    conv.note("auto-pad", f"auto_pad={auto!r} is a word that runtimes read differently: write pads")
    if any(given.get("pads") or ()):
        conv.note("auto-pad-and-pads", f"pads beside auto_pad={auto!r}: runtimes differ in which they heed", "error")
    if not auto.startswith("SAME"):
        return
    if any(d > 1 for d in dilations):
        conv.note("auto-pad-dilation", "auto_pad with a dilation: ONNX Runtime refuses to run it", "warning")
    if conv.node.op_type == "ConvTranspose" or any(s > 1 for s in strides):
        conv.note(
            "auto-pad-differs", f"auto_pad={auto!r} means different crops or pads to different runtimes", "warning"
        )


def _shapes(conv: Conv, *, consistent: bool) -> None:
    """The output's declared shape against the one that follows from the spec."""
    x, y = conv.scope.shape(conv.node.input[0]), conv.scope.shape(conv.node.output[0])
    spec = conv.spec
    if spec is None or x is None:
        return
    if len(x) != spec.ndim + 2 or (isinstance(x[1], int) and x[1] != spec.in_channels):
        conv.note("input-contradicts-weight", f"the input is {_text(x)}, the weight wants {spec.in_channels} channels "
                  f"and {spec.ndim} spatial axes", "error" if consistent else "warning")  # fmt: skip
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
        wanted = _text((x[0], *right))
        conv.note(
            "shape-contradicts-spec", f"the output is declared as {_text(y)}, the spec makes it {wanted}", "error"
        )


def _text(shape: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, shape))})"


def _weights(conv: Conv) -> None:
    if conv.params is None or conv.spec is None:
        return
    for what, values in (("kernel", conv.params.kernel), ("bias", conv.params.bias)):
        if values is not None and values.dtype.kind == "f" and values.size:
            _numbers(conv, what, values)
    kernel, bias = conv.params.kernel, conv.params.bias
    parts = kernel.reshape(conv.spec.groups, -1, *kernel.shape[1:]) if conv.spec.transposed else kernel
    axes = (1, *range(3, parts.ndim)) if conv.spec.transposed else tuple(range(1, parts.ndim))
    dead = ~parts.any(axis=axes).reshape(-1)
    if dead.any():
        spoken = "" if bias is None or not bias[dead].any() else ", but for the bias"
        conv.note("dead-output-channel", f"{_listed(np.flatnonzero(dead))}: all weights are zero{spoken}", "warning")


def _numbers(conv: Conv, what: str, values: NDArray[Any]) -> None:
    """NaN, Inf, subnormals, and numbers with fewer digits than their format has."""
    size = np.abs(values)
    tests = () if np.isfinite(size.max()) else (("nan", np.isnan(values)), ("inf", np.isinf(values)))
    for name, bad in tests:
        if bad.any():
            where = tuple(int(i) for i in np.argwhere(bad)[0])
            conv.note(
                f"{name}-weights", f"{int(bad.sum())} of the {what}'s numbers are {name}, first at {where}", "error"
            )
    form = format_of("float16" if values.dtype == np.float16 else str(values.dtype))
    small = size < form.smallest_normal
    denormal = int(np.count_nonzero(size[small])) if small.any() else 0
    if denormal:
        text = f"{denormal} of the {what}'s numbers are subnormal: some runtimes take them for 0"
        conv.note("denormal-weights", text, "warning")
    if what == "kernel" and values.dtype == np.float32 and _halved(values):
        text = "every number of the kernel fits float16: were they rounded to it on the way?"
        conv.note("half-precision-weights", text, "warning")


def _halved(values: NDArray[Any]) -> bool:
    """Whether float16 holds every one of the numbers, and that is no chance: they are many, and not all integers."""
    for some in (values.reshape(-1)[:_ENOUGH], values):  # mostly the first few tell
        with np.errstate(over="ignore", invalid="ignore"):
            if not np.array_equal(some.astype(np.float16).astype(np.float32), some):
                return False
    return np.unique(values).size >= _ENOUGH and not np.array_equal(values, np.round(values))


def _listed(places: NDArray[Any]) -> str:
    shown = ", ".join(map(str, places[:8].tolist()))
    more = f" and {len(places) - 8} more" if len(places) > 8 else ""
    return f"output channel{'s' * (len(places) > 1)} {shown}{more}"


def _alive(graph: onnx.GraphProto) -> set[str]:
    """Tensors that the graph's outputs depend on."""
    needed = {entry.name for entry in graph.output}
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= uses(node)
    return needed


def _unused(graph: onnx.GraphProto) -> list[dict[str, str]]:
    used = {entry.name for entry in graph.output}.union(*map(uses, graph.node))
    return [
        {"id": "unused-weights", "title": f"no node uses the weight {tensor.name!r}", "level": "warning"}
        for tensor in graph.initializer
        if tensor.name not in used
    ]


def _unjudged(graph: onnx.GraphProto, judged: set[int]) -> list[dict[str, str]]:
    """Operators that convolve, but are none of those that are judged."""
    found = []
    for node in graph.node:
        if "Conv" in node.op_type and id(node) not in judged:
            title = f"{node.name!r} is a {node.op_type}, which is not judged"
            found.append({"id": "not-judged", "title": title, "level": "warning"})
        for attribute in node.attribute:
            for body in bodies(attribute):
                found += _unjudged(body, judged)
    return found
