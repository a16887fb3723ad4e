"""How a step, and a network, is written as nodes of an ONNX graph.

A step's ``call`` is its nodes, a line each, in which ``{out}`` is the tensor that it writes; its ``layer`` is the
tensors that they read beside the data. A ``call`` without nodes is another name of a tensor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from math import prod
from typing import Any

from convspec.contract import ConvSpec
from convspec.contract.network_code import Code, Line, Program, Reads, Shape, Target, literal
from convspec.contract.network_words import NotKnown
from convspec.spec import steps
from convspec.spec.steps import Step
from convspec_onnx.graph_text import OPSET, make_node, model_text
from convspec_onnx.plan import PAD_MODES, LayerText

_SINCE = {"Gelu": 20, "GroupNormalization": 21, "RMSNormalization": 23}  # opsets; the others are older
_DATA = re.compile(r"x|y|r\d+|all|outs?")
_WEIGHTS = {"weight", "scale", "slope"}  # a node that reads one is named
_NEUTRAL = {"strides": {1}, "dilations": {1}, "pads": {0}, "output_padding": {0}}


def write(step: ConvSpec | Step, reads: Reads) -> Code | Sequence[Code]:
    """Return the nodes of a step. Raises NotKnown where ONNX has no counterpart."""
    if isinstance(step, ConvSpec):
        return _conv(step, reads)
    for kinds, make in _KINDS:
        if isinstance(step, kinds):
            return make(step, reads)
    raise NotKnown(f"ONNX has no counterpart of {step}")


def _code(*nodes: Any, **tensors: str) -> Code:
    """Return nodes ``(operator, what it reads, what it writes or nothing, attributes)`` and the tensors they read."""
    lines = []
    for op, read, *rest in nodes:
        attributes = dict(rest.pop()) if rest and isinstance(rest[-1], dict) else {}
        given, made = ([_name(one, tensors) for one in names.split()] for names in (read, *(rest or ["out"])))
        own = {"name": "{out}"} if _WEIGHTS & {*read.split()} else {}
        lines.append(make_node(op, given, made, **own, **_trimmed(attributes)))
    return Code("\n".join(lines), "\n".join(f'"{{layer}}.{name}": {text},' for name, text in tensors.items()))


def _name(name: str, tensors: Any) -> str:
    if _DATA.fullmatch(name):
        return f"{{{name}}}"
    return f"{{layer}}.{name}" if name in tensors else "" if name == "-" else f"{{out}}_{name}"


def _trimmed(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return attributes without those that are the operator's default."""
    return {key: value for key, value in attributes.items()
            if not (key in _NEUTRAL and set(value) == _NEUTRAL[key]) and (key, value) != ("group", 1)}  # fmt: skip


def _ints(values: Any) -> str:
    return f"np.array({values if isinstance(values, int) else list(values)}, np.int64)"


def _float(value: float) -> str:
    return f"np.array({literal(value)}, np.float32)"


def _full(shape: Sequence[int], value: int = 0) -> str:
    return f"np.{('zeros', 'ones')[value]}({shape[0] if len(shape) == 1 else tuple(shape)}, np.float32)"


# -- layers with weights ---------------------------------------------------------------------------------------------


def _conv(spec: ConvSpec, reads: Reads) -> Code:
    text = _Convolution(spec.explicit(reads.shapes[0], "NCHW"), "float32", "{layer}.")
    text.parameters()
    text.layer("{x}", "{out}")
    return Code("\n".join(text.nodes), "\n".join(text.tensors))


class _Convolution(LayerText):
    """A convolution in a network: settings that are the default are left out, and the node is named."""

    def node(self, op: str, inputs: list[str], output: str, **attributes: object) -> None:
        named = {"name": "{out}"} if "weight" in inputs else {}
        super().node(op, inputs, output, **named, **_trimmed(attributes))


def _linear(step: Any, reads: Reads) -> Code:
    rank = len(reads.shapes[0])
    bias = {"bias": _full([step.out_features])} if step.bias else {}
    if rank == 2:
        weight = _full((step.out_features, step.in_features))
        return _code(("Gemm", " ".join(["x", "weight", *bias]), {"transB": 1}), weight=weight, **bias)
    before, source, target, after = _to_last(step.axis, rank)
    tail = [("Add", "product bias", target)] if bias else []
    nodes = [*before, ("MatMul", f"{source} weight", "product" if bias else target), *tail, *after]
    return _code(*nodes, weight=_full((step.in_features, step.out_features)), **bias)


def _to_last(axis: int, rank: int) -> tuple[list[Any], str, str, list[Any]]:
    """Return the nodes that bring an axis to the end and back, and what stands between them reads and writes."""
    if axis % rank == rank - 1:
        return [], "x", "out", []
    perm = [i for i in range(rank) if i != axis % rank] + [axis % rank]
    back = [perm.index(i) for i in range(rank)]
    return [("Transpose", "x", "moved", {"perm": perm})], "moved", "last", [("Transpose", "last", {"perm": back})]


def _batch_norm(step: Any, _: Reads) -> Code:
    if step.batch_statistics:
        raise NotKnown("ONNX has no batch norm by the batch's statistics")
    _first(step)
    c = [step.channels]
    return _code(("BatchNormalization", "x scale bias mean variance", {"epsilon": step.epsilon}),
                 scale=_full(c, 1), bias=_full(c), mean=_full(c), variance=_full(c, 1))  # fmt: skip


def _first(step: Any) -> None:
    if step.axis != 1:
        raise NotKnown("ONNX has norms of channels on axis 1 only")


def _channel_norm(step: Any, _: Reads) -> Code:
    _first(step)
    group = isinstance(step, steps.GroupNorm)
    op, groups = ("GroupNormalization", {"num_groups": step.groups}) if group else ("InstanceNormalization", {})
    return _code((op, "x scale bias", {"epsilon": step.epsilon, **groups}),
                 scale=_full([step.channels], 1), bias=_full([step.channels]))  # fmt: skip


def _layer_norm(step: Any, reads: Reads) -> Code:
    rank = len(reads.shapes[0])
    axes = tuple(a % rank for a in step.axes)
    own = tuple(a % rank for a in step.parameter_axes or step.axes)
    before, source, target, after = _to_last(axes[-1], rank) if len(axes) == 1 else ([], "x", "out", [])
    if own != axes or (len(axes) > 1 and axes != tuple(range(rank - len(axes), rank))):
        raise NotKnown(f"ONNX's layer norm is over the last axes, not {step.axes}")
    arrays = {"scale": _full(step.shape, 1)} | ({"bias": _full(step.shape)} if step.bias else {})
    settings = {"axis": -len(axes), "epsilon": step.epsilon}
    nodes: list[Any] = [("LayerNormalization", " ".join([source, *arrays]), target, settings)]
    if isinstance(step, steps.RMSNorm):
        more = [("Add", "scaled bias", target)] if step.bias else []
        nodes = [("RMSNormalization", f"{source} scale", "scaled" if more else target, settings), *more]
    return _code(*before, *nodes, *after, **arrays)


def _prelu(step: Any, reads: Reads) -> Code:
    rank = len(reads.shapes[0])
    return _code(("PRelu", "x slope"), slope=_full((*step.shape, *[1] * (rank - 1 - len(step.shape)))))


def _embedding(step: Any, _: Reads) -> Code:
    return _code(("Cast", "x", "index", {"to": 7}), ("Gather", "weight index"),
                 weight=_full((step.num_embeddings, step.features)))  # fmt: skip


# -- pools and resizing ----------------------------------------------------------------------------------------------


def _pool(step: Any, reads: Reads) -> Code:
    sizes, mean = reads.sizes, isinstance(step, steps.AveragePool)
    pads = step.pads(sizes)
    settings: dict[str, Any] = {"kernel_shape": list(step.kernel_size), "strides": list(step.strides)}
    settings["dilations"] = list(step.dilation)
    if step.ceil_mode and mean and step.count_include_pad:
        settings["ceil_mode"] = 1
    elif step.ceil_mode:  # as pads, which count for nothing here
        axes = zip(sizes, step.output_spatial(sizes), step.spans, step.strides, pads, strict=True)
        pads = tuple((lo, max((out - 1) * s + span - n - lo, 0)) for n, out, span, s, (lo, _) in axes)
    nodes: list[Any] = []
    tensors: dict[str, str] = {}
    if isinstance(step, steps.LpPool):
        if step.signed or step.full_window or step.p % 1:
            raise NotKnown(f"ONNX's pool computes other numbers than {step}")
        settings["p"] = int(step.p)
    source = "x"
    if any(n >= k for pair, k in zip(pads, step.kernel_size, strict=True) for n in pair):
        if mean and not step.count_include_pad and step.divisor is None:
            raise NotKnown("ONNX Runtime's average pools have pads smaller than the window")
        value = float("-inf") if isinstance(step, steps.MaxPool) else 0.0
        tensors = {"pads": _ints(_both_ends(pads)), "value": _float(value), "axes": _ints(reads.spatial)}
        nodes, source, pads = [("Pad", "x pads value axes", "padded")], "padded", ((0, 0),) * len(pads)
    settings["pads"] = _both_ends(pads)
    op = "LpPool" if isinstance(step, steps.LpPool) else "AveragePool" if mean else "MaxPool"
    if mean and (step.count_include_pad or step.divisor is not None) and any(map(any, pads)):
        settings["count_include_pad"] = 1
    if not mean or step.divisor is None:
        return _code(*nodes, (op, source, settings), **tensors)
    factor = _float(prod(step.kernel_size) / step.divisor)
    return _code(*nodes, (op, source, "mean", settings), ("Mul", "mean factor"), **tensors, factor=factor)


def _both_ends(pads: Any) -> list[int]:
    """Return all pads before, then all after, as ONNX has them."""
    return [lo for lo, _ in pads] + [hi for _, hi in pads]


def _adaptive(step: Any, reads: Reads) -> Code:
    outs = step.output_spatial(reads.sizes)
    name = "MaxPool" if step.reduction == "max" else "AveragePool"
    if set(outs) == {1}:
        return _code((f"Global{name}", "x"))
    if any(out == 0 or n % out for n, out in zip(reads.sizes, outs, strict=True)):
        raise NotKnown(f"ONNX's pools have windows of one size: {reads.sizes} are no {outs}")
    kernel = [n // out for n, out in zip(reads.sizes, outs, strict=True)]
    return _code((name, "x", {"kernel_shape": kernel, "strides": kernel}))


def _global(step: Any, _: Reads) -> Code:
    op = {"max": "GlobalMaxPool", "lp": "GlobalLpPool"}.get(step.reduction, "GlobalAveragePool")
    setting = {"p": int(step.p)} if step.reduction == "lp" else {}
    if step.p % 1:
        raise NotKnown(f"ONNX's Lp pools have whole exponents, not {step.p}")
    if step.keepdims:
        return _code((op, "x", setting))
    return _code((op, "x", "pooled", setting), ("Flatten", "pooled"))


def _resize(step: Any, _: Reads) -> Code:
    if step.mode.startswith("lanczos") or step.table_steps or step.recompute_scale:
        raise NotKnown(f"ONNX has no {step}")
    settings = {"coordinate_transformation_mode": step.coordinates, "mode": step.mode}
    settings |= {"nearest_mode": step.rounding} if step.mode == "nearest" else {}
    settings |= {"cubic_coeff_a": step.cubic_coefficient} if step.mode == "cubic" else {}
    settings |= {name: 1 for name in ("exclude_outside", "antialias") if getattr(step, name)}
    if step.size is not None:
        spatial = [2 + i for i in range(len(step.size))]
        return _code(("Resize", "x - - sizes", settings | {"axes": spatial}), sizes=_ints(step.size))
    return _code(("Resize", "x - scales", settings), scales=f"np.array({[1.0, 1.0, *step.scale]}, np.float32)")


# -- moves -----------------------------------------------------------------------------------------------------------


def _pad(step: Any, reads: Reads) -> Code:
    modes = {**PAD_MODES, "constant": "constant"}
    if step.mode not in modes:
        raise NotKnown("ONNX has no pad that repeats the edge twice")
    rank = len(reads.shapes[0])
    axes = range(rank - len(step.padding), rank)
    used = [(axis, pair) for axis, pair in zip(axes, step.padding, strict=True) if any(pair)]
    tensors = {"pads": _ints(_both_ends([pair for _, pair in used])), "axes": _ints([axis for axis, _ in used])}
    value = {"value": _float(step.value)} if step.value else {}
    node = ("Pad", f"x pads {'value' if value else '-'} axes", {"mode": modes[step.mode]})
    return _code(node, **tensors, **value)


def _slice(step: Any, _: Reads) -> Code:
    used = [(axis, one) for axis, one in enumerate(step.ranges) if one != (None, None, 1)]
    ends = 2**31 - 1
    starts = [(ends if by < 0 else 0) if start is None else start for _, (start, _, by) in used]
    stops = [(-ends if by < 0 else ends) if stop is None else stop for _, (_, stop, by) in used]
    return _code(("Slice", "x starts ends axes steps"), starts=_ints(starts), ends=_ints(stops),
                 axes=_ints([axis for axis, _ in used]), steps=_ints([by for _, (_, _, by) in used]))  # fmt: skip


def _shuffle(step: Any, reads: Reads) -> Code:
    if len(reads.sizes) != 2:
        raise NotKnown("ONNX's pixel shuffle is in two dimensions")
    if isinstance(step, steps.PixelShuffle):
        return _code(("DepthToSpace", "x", {"blocksize": step.factor, "mode": step.order}))
    if step.order == "DCR":
        return _code(("SpaceToDepth", "x", {"blocksize": step.factor}))
    (_, c, h, w), r = reads.shapes[0], step.factor
    return _code(
        ("Reshape", "x blocks", "split"), ("Transpose", "split", "together", {"perm": [0, 1, 3, 5, 2, 4]}),
        ("Reshape", "together shape"),
        blocks=_ints((0, c, h // r, r, w // r, r)), shape=_ints((0, c * r * r, h // r, w // r)),
    )  # fmt: skip


def _channel_shuffle(step: Any, reads: Reads) -> Code:
    _, c, *sizes = reads.shapes[0]
    perm = [0, 2, 1, *range(3, len(sizes) + 3)]
    return _code(
        ("Reshape", "x groups", "split"), ("Transpose", "split", "mixed", {"perm": perm}), ("Reshape", "mixed shape"),
        groups=_ints((0, step.groups, c // step.groups, *sizes)), shape=_ints((0, c, *sizes)),
    )  # fmt: skip


def _to_shape(shape: Sequence[int], batch: int) -> Code:
    return _code(("Reshape", "x shape"), shape=_ints([0 if not i and n == batch else n for i, n in enumerate(shape)]))


def _reshape(step: Any, reads: Reads) -> Code:
    return _to_shape(step.shape, reads.shapes[0][0])


def _flatten(step: Any, reads: Reads) -> Code:
    shape = reads.shapes[0]
    perm = {"perm": [0, *range(2, len(shape)), 1]}
    before, source = ([("Transpose", "x", "last", perm)], "last") if step.order == "NHWC" else ([], "x")
    if step.bounds(shape) == (1, len(shape)):
        return _code(*before, ("Flatten", source))
    if before:
        raise NotKnown("a flatten of some axes, channels last")
    return _to_shape(step.output_shape(shape), shape[0])


def _squeeze(step: Any, reads: Reads) -> Code:
    axes = step.axes or [i for i, n in enumerate(reads.shapes[0]) if n == 1]
    return _code(("Squeeze", "x axes"), axes=_ints(axes))


def _expand(step: Any, reads: Reads) -> Code:
    old = reads.shapes[0]
    old = (*[1] * (len(step.shape) - len(old)), *old)
    sizes = [1 if n in (-1, m) else n for n, m in zip(step.shape, old, strict=True)]
    return _code(("Expand", "x shape"), shape=_ints(sizes))


# -- arithmetic and activations --------------------------------------------------------------------------------------


def _elementwise(step: Any, reads: Reads) -> Code | Sequence[Code]:
    names = {steps.Add: "Add", steps.Subtract: "Sub", steps.Multiply: "Mul", steps.Divide: "Div",
             steps.Maximum: "Max", steps.Minimum: "Min"}  # fmt: skip
    op = names[type(step)]
    if step.constant is not None:
        both = "constant x" if getattr(step, "reflected", False) else "x constant"
        return _code((op, both), constant=_float(step.constant))
    count = len(reads.shapes)
    if count > 2 and op == "Mul":
        last = [("Mul", f"product{count - 2} r{count - 1}")]
        between = [("Mul", f"product{i - 1} r{i}", f"product{i}") for i in range(2, count - 1)]
        return _code(("Mul", "x y", "product1"), *between, *last)
    return _code((op, "x y") if count == 2 else ("Sum" if op == "Add" else op, "all"))


def _reduce(step: Any, _: Reads) -> Code:
    axes = {"axes": _ints(step.axes)} if step.axes else {}
    op, keep = f"Reduce{step.reduction.capitalize()}", {} if step.keepdims else {"keepdims": 0}
    return _code((op, " ".join(["x", *axes]), keep), **axes)


def _lp_norm(step: Any, _: Reads) -> Code:
    if step.p not in (1, 2):
        raise NotKnown(f"ONNX has norms with p 1 and 2, not {step.p}")
    length = (f"ReduceL{int(step.p)}", "x axes", "length")
    return _code(length, ("Max", "length least", "divisor"), ("Div", "x divisor"),
                 axes=_ints(step.axes), least=_float(step.epsilon))  # fmt: skip


def _response_norm(step: Any, _: Reads) -> Code:
    if not step.size % 2:
        raise NotKnown("ONNX's local response norm is over an odd number of channels")
    return _code(("LRN", "x", {"alpha": step.alpha, "beta": step.beta, "bias": step.k, "size": step.size}))


def _clip(step: Any, _: Reads) -> Code:
    given = {name: _float(n) for name, n in (("minimum", step.minimum), ("maximum", step.maximum)) if n is not None}
    read = " ".join(name if name in given else "-" for name in ("minimum", "maximum"))
    return _code(("Clip", f"x {read}".removesuffix(" -")), **given)


def _threshold(step: Any, _: Reads) -> Code:
    if step.slope or step.maximum is not None:
        raise NotKnown(f"ONNX has no {step}")
    return _code(("ThresholdedRelu", "x", {"alpha": step.threshold}))


def _gelu(step: Any, _: Reads) -> Code:
    if step.approximation == "quick":
        return _gated(1.702)
    return _code(("Gelu", "x", {"approximate": step.approximation} if step.approximation != "none" else {}))


def _gated(beta: float) -> Code:
    """Return x times the sigmoid of β·x."""
    if beta == 1:
        return _code(("Sigmoid", "x", "gate"), ("Mul", "x gate"))
    return _code(("Mul", "x beta", "scaled"), ("Sigmoid", "scaled", "gate"), ("Mul", "x gate"), beta=_float(beta))


def _hard_swish(step: Any, _: Reads) -> Code:
    if abs(step.slope - 1 / 6) < 1e-9 and step.offset == 0.5:
        return _code(("HardSwish", "x"))
    return _code(("HardSigmoid", "x", "gate", {"alpha": step.slope, "beta": step.offset}), ("Mul", "x gate"))


def _softplus(step: Any, _: Reads) -> Code:
    if step.threshold is not None and step.threshold < 15:  # above it, both agree to float32's last bit
        raise NotKnown(f"ONNX has no {step}")
    if step.beta == 1:
        return _code(("Softplus", "x"))
    return _code(("Mul", "x beta", "scaled"), ("Softplus", "scaled", "soft"), ("Div", "soft beta"),
                 beta=_float(step.beta))  # fmt: skip


def _function(step: Any, _: Reads) -> Code:
    if step.function == "square":
        return _code(("Mul", "x x"))
    if step.function == "rsqrt":
        return _code(("Sqrt", "x", "root"), ("Reciprocal", "root"))
    return _code(({"negative": "Neg"}.get(step.function, step.function.capitalize()), "x"))


def _operator(name: str, **attributes: str) -> Callable[[Any, Reads], Code]:
    """Return the writer of a step that is one node; ``attributes``: the field that each is."""
    return lambda step, _: _code((name, "x", {key: getattr(step, field) for key, field in attributes.items()}))


_KINDS: tuple[tuple[Any, Callable[[Any, Reads], Code | Sequence[Code]]], ...] = (
    (steps.WindowPool, _pool), (steps.AdaptivePool, _adaptive), (steps.GlobalPool, _global), (steps.Resize, _resize),
    (steps.BatchNorm, _batch_norm), (steps.GroupNorm | steps.InstanceNorm, _channel_norm),
    (steps.LayerNorm, _layer_norm), (steps.Linear, _linear), (steps.PReLU, _prelu), (steps.Embedding, _embedding),
    (steps.Pad, _pad), (steps.Slice, _slice), (steps.Reshape, _reshape), (steps.Flatten, _flatten),
    (steps.PixelShuffle | steps.PixelUnshuffle, _shuffle), (steps.ChannelShuffle, _channel_shuffle),
    (steps.Squeeze, _squeeze), (steps.Unsqueeze, lambda s, _: _code(("Unsqueeze", "x axes"), axes=_ints(s.axes))),
    (steps.Expand, _expand), (steps.Permute, _operator("Transpose", perm="axes")),
    (steps.Concat, lambda s, _: _code(("Concat", "all", {"axis": s.axis}))),
    (steps.Split, lambda s, _: _code(("Split", "x sizes", "outs", {"axis": s.axis}), sizes=_ints(s.sizes))),
    (steps.Select, lambda s, _: _code(("Gather", "x index", {"axis": s.axis}), index=_ints(s.index))),
    (steps.Parameter, lambda s, _: Code("{layer}", f'"{{layer}}": {_full(s.shape)},')),
    (steps.Identity | steps.Dropout, lambda *_: Code("{x}")),
    (steps.Elementwise, _elementwise), (steps.MatMul, lambda *_: _code(("MatMul", "x y"))), (steps.Reduce, _reduce),
    (steps.LpNorm, _lp_norm), (steps.LocalResponseNorm, _response_norm),
    (steps.ReLU, _operator("Relu")), (steps.SELU, _operator("Selu")), (steps.Tanh, _operator("Tanh")),
    (steps.Mish, _operator("Mish")), (steps.Softsign, _operator("Softsign")),
    (steps.LeakyReLU, _operator("LeakyRelu", alpha="slope")), (steps.ELU, _operator("Elu", alpha="alpha")),
    (steps.CELU, _operator("Celu", alpha="alpha")), (steps.ThresholdedReLU, _threshold), (steps.GELU, _gelu),
    (steps.SiLU, lambda s, _: _gated(s.beta)), (steps.HardSwish, _hard_swish), (steps.Softplus, _softplus),
    (steps.HardSigmoid, _operator("HardSigmoid", alpha="slope", beta="offset")),
    (steps.Sigmoid, lambda s, _: _code(("Sigmoid", "x")) if not s.log else
        _code(("Neg", "x", "negative"), ("Softplus", "negative", "soft"), ("Neg", "soft"))),
    (steps.TanhShrink, lambda *_: _code(("Tanh", "x", "tanh"), ("Sub", "x tanh"))),
    (steps.HardShrink, _operator("Shrink", lambd="threshold")),
    (steps.SoftShrink, _operator("Shrink", lambd="threshold", bias="threshold")), (steps.Clip, _clip),
    (steps.Pointwise, _function), (steps.Power, lambda s, _: _code(("Pow", "x exponent"), exponent=_float(s.exponent))),
    (steps.Softmax, lambda s, _: _code(("LogSoftmax" if s.log else "Softmax", "x", {"axis": s.axis}))),
    (steps.GLU, lambda s, _: _code(("Split", "x", "half shut", {"axis": s.axis, "num_outputs": 2}),
                                   ("Sigmoid", "shut", "gate"), ("Mul", "half gate"))),
)  # fmt: skip


def assemble(program: Program) -> str:
    """Return the text of a program that makes the graph; every tensor has a name of its own."""
    names = {name: name for name, _ in program.inputs}
    layers = dict(program.layers)
    taken = {*names, *layers}
    nodes: list[str] = []
    for line in program.lines:
        made, outs = _written(line, names, taken)
        nodes += made
        names |= zip(line.writes, outs, strict=True)
        taken |= {*outs}
    tensors = [line.format(layer=layer) for layer, text in layers.items() for line in text.splitlines()]
    whole = {line.split('"')[1] for line in tensors} | {name for name, _ in program.inputs}
    results: dict[str, Shape] = {}
    for name, shape in zip(program.results, program.result_shapes, strict=True):
        own = names[name]
        if own in results or own in whole:
            nodes.append(make_node("Identity", [own], [own := _free(f"{own}_result", taken)]))
        results[own] = shape
    batch = program.inputs[0][1][0]
    inputs, outputs = ({name: ["N" if not i and n == batch else n for i, n in enumerate(shape)] for name, shape in own}
                       for own in (program.inputs, results.items()))  # fmt: skip
    opset = max((_SINCE.get(op, OPSET) for op in re.findall(r'make_node\("(\w+)"', "\n".join(nodes))), default=OPSET)
    return model_text("model", program.name, tensors, nodes, inputs, outputs, opset)


def _written(line: Line, names: Mapping[str, str], taken: set[str]) -> tuple[list[str], list[str]]:
    """Return the nodes of a line, and the tensors that they write."""
    reads, call = [names.get(name, name) for name in line.reads], line.code.call
    if call.startswith("raise "):
        return [call], [_free(name, taken) for name in line.writes]
    fills = {"x": "".join(reads[:1]), "y": "".join(reads[1:2]), "all": '", "'.join(reads), "layer": line.layer}
    fills |= {f"r{i}": name for i, name in enumerate(reads)}
    ops = re.findall(r'make_node\("(\w+)"', call)
    if not ops:
        return [], [call.format(**fills)]
    own = {line.layer} if line.layer and line.first else set()
    outs: list[str] = []
    for _ in line.writes:
        outs.append(_free(line.layer or ops[-1].lower(), taken - own | {*outs}))
    fills |= {"out": outs[0], "outs": '", "'.join(outs)}
    return [text.format(**fills) for text in call.splitlines()], outs


def _free(name: str, taken: Collection[str]) -> str:
    """Return a name that is not taken."""
    return next(one for one in (name, *(f"{name}_{i}" for i in range(1, 10_000))) if one not in taken)


TARGET = Target("ONNX", "NCHW", write, assemble)
