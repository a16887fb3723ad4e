"""How PyTorch's users write a step, and a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from convspec.contract import ConvSpec
from convspec.contract.network_code import (
    Code,
    Program,
    Reads,
    Target,
    call,
    literal,
    native_layer,
    number,
    one,
    write_slice,
)
from convspec.contract.network_words import NotKnown
from convspec.spec import steps
from convspec.spec.steps import Step
from convspec_torch.plan import plan


def write(step: ConvSpec | Step, reads: Reads) -> Code | Sequence[Code]:
    """Return the code of a step. Raises NotKnown where PyTorch has no counterpart."""
    if isinstance(step, ConvSpec):
        return Code(layer=native_layer(plan(step, "NCHW", "float32")))
    for kinds, make in _KINDS:
        if isinstance(step, kinds):
            return make(step, reads)
    raise NotKnown(f"PyTorch has no counterpart of {step}")


def _ndim(reads: Reads) -> int:
    return len(reads.shapes[0]) - 2


def _pool(step: Any, reads: Reads) -> Code | Sequence[Code]:
    sizes = reads.shapes[0][2:]
    pads = step.pads(sizes)
    ndim, name = len(step.kernel_size), "Max" if isinstance(step, steps.MaxPool) else "Avg"
    mean = isinstance(step, steps.AveragePool)
    if isinstance(step, steps.LpPool):
        raise NotKnown(f"PyTorch's pool computes other numbers than {step}")
    if mean and set(step.dilation) != {1}:
        raise NotKnown("PyTorch's average pools have no dilation")
    uneven = any(lo != hi for lo, hi in pads) or any(
        2 * lo > k for (lo, _), k in zip(pads, step.kernel_size, strict=True)
    )
    before: list[Code] = []
    if uneven:
        if mean and not step.count_include_pad and step.divisor is None:
            raise NotKnown("PyTorch's average pools have the same pads on both sides")
        value = "0.0" if mean else "float('-inf')"
        before, pads = [Code(f"F.pad({{x}}, {_torch_pads(pads)}, value={value})")], ((0, 0),) * ndim
    plain = not any(map(any, pads))
    more: dict[str, tuple[Any, Any]] = {"ceil_mode": (step.ceil_mode, False)}
    if mean:
        counted = step.count_include_pad or uneven
        more |= {"count_include_pad": (counted or plain, True), "divisor_override": (step.divisor, None)}
    else:
        more = {"dilation": (one(step.dilation), 1), **more}
    stride = (one(step.strides), one(step.kernel_size))
    layer = call(f"nn.{name}Pool{ndim}d", one(step.kernel_size), stride=stride,
                  padding=(one([lo for lo, _ in pads]), 0), **more)  # fmt: skip
    return [*before, Code(layer=layer)]


def _torch_pads(pads: Sequence[Sequence[int]]) -> str:
    """Return pads as ``F.pad`` has them: from the last axis to the first."""
    return str([n for pair in reversed(pads) for n in pair])


def _pad(step: Any, reads: Reads) -> Code:
    mode = {"replicate": "replicate", "reflect": "reflect", "circular": "circular", "constant": "constant"}.get(
        step.mode
    )
    if mode is None:
        raise NotKnown("PyTorch has no pad that repeats the edge twice")
    value = f", value={literal(step.value)}" if step.value else ""
    word = "" if mode == "constant" else f", mode={mode!r}"
    crops = any(n < 0 for pair in step.padding for n in pair)
    item = ""
    if mode == "constant" and not crops and len(step.padding) == _ndim(reads):
        pads = tuple(n for p in reversed(step.padding) for n in p)
        item = f"nn.ConstantPad{_ndim(reads)}d({pads}, {literal(step.value)})"
    return Code(f"F.pad({{x}}, {_torch_pads(step.padding)}{word}{value})", item=item)


def _adaptive(step: Any, reads: Reads) -> Code:
    if step.bins != "overlapping":
        raise NotKnown("PyTorch's adaptive pools have overlapping bins")
    name = "Max" if step.reduction == "max" else "Avg"
    return Code(layer=f"nn.Adaptive{name}Pool{_ndim(reads)}d({step.output_size!r})")


def _global(step: Any, reads: Reads) -> Code | Sequence[Code]:
    if step.reduction == "lp":
        raise NotKnown("PyTorch has no global Lp pool")
    name = "Max" if step.reduction == "max" else "Avg"
    pool = Code(layer=f"nn.Adaptive{name}Pool{_ndim(reads)}d(1)")
    return pool if step.keepdims else [pool, Code("torch.flatten({x}, 1)", item="nn.Flatten()")]


def _batch_norm(step: Any, reads: Reads) -> Code:
    ndim = max(_ndim(reads), 1)
    more = {"eps": (step.epsilon, 1e-5), "affine": (step.scale or step.bias, True)}
    return Code(layer=call(f"nn.BatchNorm{ndim}d", step.channels, **more), remarks=_more_arrays(step))


def _group_norm(step: Any, _: Reads) -> Code:
    more = {"eps": (step.epsilon, 1e-5), "affine": (step.scale or step.bias, True)}
    return Code(layer=call("nn.GroupNorm", step.groups, step.channels, **more), remarks=_more_arrays(step))


def _instance_norm(step: Any, reads: Reads) -> Code:
    more = {"eps": (step.epsilon, 1e-5), "affine": (step.scale or step.bias, False)}
    return Code(layer=call(f"nn.InstanceNorm{_ndim(reads)}d", step.channels, **more), remarks=_more_arrays(step))


def _more_arrays(step: Any) -> tuple[str, ...]:
    """Return the remark that a norm of PyTorch has an array that the source lacks."""
    if step.scale == step.bias:
        return ()
    name, value = ("bias", "zeros") if step.scale else ("weight", "ones")
    return (f"PyTorch's norms have a weight and a bias, or none: keep {name} at {value} where the source has none.",)


def _layer_norm(step: Any, reads: Reads) -> Code | Sequence[Code]:
    rank = len(reads.shapes[0])
    axes = tuple(a % rank for a in step.axes)
    rms = isinstance(step, steps.RMSNorm)
    learnt = step.scale or step.bias
    more = {"eps": (step.epsilon, None if rms else 1e-5), "elementwise_affine": (learnt, True)}
    more |= {} if rms else {"bias": (step.bias or not learnt, True)}
    layer = call(f"nn.{'RMS' if rms else 'Layer'}Norm", tuple(step.shape), **more)
    if axes == tuple(range(rank - len(axes), rank)) and not step.parameter_axes:
        return Code(layer=layer)
    if len(axes) == 1 and step.parameter_axes in ((), step.axes):
        moved = [i for i in range(rank) if i != axes[0]] + [axes[0]]
        back = [moved.index(i) for i in range(rank)]
        return Code(f"{{layer}}({{x}}.permute({_list(moved)})).permute({_list(back)})", layer=layer)
    raise NotKnown(f"PyTorch's layer norm is over the last axes, not {step.axes}")


def _list(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def _linear(step: Any, reads: Reads) -> Code:
    layer = call("nn.Linear", step.in_features, step.out_features, bias=(step.bias, True))
    rank = len(reads.shapes[0])
    if step.axis % rank == rank - 1:
        return Code(layer=layer)
    return Code(f"{{layer}}({{x}}.movedim({step.axis}, -1)).movedim(-1, {step.axis})", layer=layer)


def _elementwise(step: Any, reads: Reads) -> Code:
    if isinstance(step, steps.Maximum | steps.Minimum):
        name = "maximum" if isinstance(step, steps.Maximum) else "minimum"
        if step.constant is not None:
            return Code(f"{{x}}.clamp({'min' if name == 'maximum' else 'max'}={step.constant!r})")
        return Code(f"torch.{name}({{all}})")
    sign = {steps.Add: "+", steps.Subtract: "-", steps.Multiply: "*", steps.Divide: "/"}[type(step)]
    if step.constant is not None:
        sides = [number(step.constant), "{x}"] if getattr(step, "reflected", False) else ["{x}", number(step.constant)]
        return Code(f" {sign} ".join(sides))
    if len(reads.shapes) > 2:
        return Code("{sum}" if sign == "+" else "{product}")
    return Code(f"{{x}} {sign} {{y}}")


def _resize(step: Any, reads: Reads) -> Code:
    modes = {("nearest", 1): "nearest", ("linear", 1): "linear", ("linear", 2): "bilinear", ("linear", 3): "trilinear",
             ("nearest", 2): "nearest", ("nearest", 3): "nearest", ("cubic", 2): "bicubic"}  # fmt: skip
    mode = modes.get((step.mode, _ndim(reads)))
    half = step.coordinates == "half_pixel"
    exact = step.mode == "nearest" and half
    fits = step.mode != "nearest" or step.coordinates in ("asymmetric", "half_pixel")
    if mode is None or not fits or step.coordinates not in ("asymmetric", "half_pixel", "align_corners"):
        raise NotKnown(f"PyTorch has no {step}")
    size = f"size={tuple(step.size)!r}" if step.size else f"scale_factor={one(step.scale)!r}"
    word = "nearest-exact" if exact else mode
    corners = ", align_corners=True" if step.coordinates == "align_corners" else ""
    if step.mode != "nearest" and step.coordinates == "asymmetric":
        raise NotKnown(f"PyTorch has no {step}")
    alias = ", antialias=True" if step.antialias else ""
    item = f"nn.Upsample({size}, mode={word!r}{corners})" if not alias else ""
    return Code(f"F.interpolate({{x}}, {size}, mode={word!r}{corners}{alias})", item=item)


def _reshape(step: Any, reads: Reads) -> Code:
    shape, sizes = reads.shapes[0], list(step.shape)
    sizes = [shape[i] if n == 0 and i else n for i, n in enumerate(sizes)]
    batch = sizes[:1] in ([0], [shape[0]])
    rest = ", ".join(map(str, sizes[1:] if batch else sizes))
    item = f"nn.Unflatten(1, ({rest},))" if batch and len(shape) == 2 and len(sizes) > 2 and -1 not in sizes else ""
    return Code(f"{{x}}.reshape({f'{{x}}.shape[0], {rest}' if batch else rest})", item=item)


def _reduce(step: Any, _: Reads) -> Code:
    name = {"max": "amax", "min": "amin"}.get(step.reduction, step.reduction)
    return Code(
        f"{{x}}.{name}({f'{tuple(step.axes)}' if step.axes else ''}{', keepdim=True' if step.keepdims else ''})"
    )


_NAMES = {
    "Tanh": ("torch", "tanh"), "Sigmoid": ("torch", "sigmoid"), "LeakyReLU": ("F", "leaky_relu"),
    "PixelShuffle": ("F", "pixel_shuffle"), "PixelUnshuffle": ("F", "pixel_unshuffle"),
    "ChannelShuffle": ("F", "channel_shuffle"), "LocalResponseNorm": ("F", "local_response_norm"),
}  # fmt: skip
_FUNCTIONS = {
    steps.ReLU: "ReLU()", steps.SELU: "SELU()", steps.SiLU: "SiLU()", steps.Mish: "Mish()", steps.Tanh: "Tanh()",
    steps.Softsign: "Softsign()", steps.TanhShrink: "Tanhshrink()",
}  # fmt: skip


def _activation(step: Any, _: Reads) -> Code:
    """Return an activation as a layer without weights, which a sequence takes, too."""
    text = _FUNCTIONS.get(type(step))
    if isinstance(step, steps.SiLU) and step.beta != 1:
        return Code(f"{{x}} * torch.sigmoid({step.beta!r} * {{x}})")
    if text is None:
        make = _ACTIVATIONS.get(type(step))
        text = make(step) if make else None
    if text is None:
        raise NotKnown(f"PyTorch has no {step}")
    return Code(_functional(text), item=f"nn.{text}") if text[0].isupper() else Code(text)


def _functional(text: str) -> str:
    """Return the function of a class without weights, with its arguments: ``LeakyReLU(0.1)`` as ``F.leaky_relu``."""
    name, _, arguments = text.removesuffix(")").partition("(")
    module, function = _NAMES.get(name, ("F", name.lower()))
    return f"{module}.{function}({{x}}{f', {arguments}' if arguments else ''})"


def _hard(step: Any, name: str) -> str:
    if abs(step.slope - 1 / 6) < 1e-9 and step.offset == 0.5:
        return f"{name}()"
    gate = f"torch.clamp({step.slope!r} * {{x}} + {step.offset!r}, 0, 1)"
    return f"{{x}} * {gate}" if name == "Hardswish" else gate.lower() if gate[0].isupper() else gate


def _clip(step: Any) -> str:
    if (step.minimum, step.maximum) == (0, 6):
        return "ReLU6()"
    return f"{{x}}.clamp({step.minimum!r}, {step.maximum!r})"


def _threshold(step: Any) -> str:
    if step.slope == 0 and step.maximum is None:
        return f"Threshold({step.threshold!r}, 0.0)"
    low = f"{step.slope!r} * ({{x}} - {step.threshold!r})"
    top = f"{{x}}.clamp(max={step.maximum!r})" if step.maximum is not None else "{x}"
    return f"torch.where({{x}} >= {step.threshold!r}, {top}, {low})"


def _function(step: Any) -> str:
    names = {"negative": "neg", "reciprocal": "reciprocal"}
    return f"torch.{names.get(step.function, step.function)}({{x}})"


_ACTIVATIONS: dict[type, Callable[[Any], str]] = {
    steps.LeakyReLU: lambda s: f"LeakyReLU({s.slope!r})",
    steps.ELU: lambda s: call("ELU", alpha=(s.alpha, 1.0)),
    steps.CELU: lambda s: call("CELU", alpha=(s.alpha, 1.0)),
    steps.GELU: lambda s: {"none": "GELU()", "tanh": "GELU(approximate='tanh')"}.get(
        s.approximation, "{x} * torch.sigmoid(1.702 * {x})"
    ),
    steps.Sigmoid: lambda s: "LogSigmoid()" if s.log else "Sigmoid()",
    steps.HardSigmoid: lambda s: _hard(s, "Hardsigmoid"),
    steps.HardSwish: lambda s: _hard(s, "Hardswish"),
    steps.Softplus: lambda s: call("Softplus", beta=(s.beta, 1.0), threshold=(s.threshold or 1e9, 20.0)),
    steps.HardShrink: lambda s: f"Hardshrink({s.threshold!r})",
    steps.SoftShrink: lambda s: f"Softshrink({s.threshold!r})",
    steps.Clip: _clip,
    steps.ThresholdedReLU: _threshold,
    steps.Pointwise: _function,
    steps.Power: lambda s: f"{{x}} ** {number(s.exponent)}",
}


def _layer_without_weights(name: str) -> Callable[[Any, Reads], Code]:
    """Return the writer of a step as a call of a module of that name; braces stand for its fields."""

    def make(step: Any, reads: Reads) -> Code:
        text = name.format(s=step, d=_ndim(reads))
        return Code(_functional(text.removeprefix("nn.")), item=text)

    return make


def _dropout(step: Any, reads: Reads) -> Code:
    name = {"element": "Dropout", "alpha": "AlphaDropout"}.get(step.unit, f"Dropout{max(_ndim(reads), 1)}d")
    return Code(layer=f"nn.{name}({step.rate!r})")


def _split(step: Any, _: Reads) -> Code:
    return Code(f"torch.split({{x}}, {list(step.sizes)}, {step.axis})")


def _prelu(step: Any, reads: Reads) -> Code:
    count = max(step.shape)
    if count != 1 and (len(reads.shapes[0]) < 2 or reads.shapes[0][1] != count):
        raise NotKnown("PyTorch's PReLU has one slope, or one for each channel")
    return Code(layer=call("nn.PReLU", num_parameters=(count, 1)))


def _flatten(step: Any, _: Reads) -> Code:
    moved = ".movedim(1, -1)" if step.order == "NHWC" else ""
    item = "nn.Flatten()" if (step.start, step.end, moved) == (1, -1, "") else ""
    return Code(f"torch.flatten({{x}}{moved}, {step.start}{'' if step.end == -1 else f', {step.end}'})", item=item)


def _lp_norm(step: Any, _: Reads) -> Code:
    axes = one(step.axes)
    return Code(f"F.normalize({{x}}, p={step.p!r}, dim={axes!r}, eps={step.epsilon!r})")


def _shuffle(step: Any, reads: Reads) -> Code:
    if step.order != "CRD" or _ndim(reads) != 2:
        raise NotKnown("PyTorch's pixel shuffle has the channels of a block together (CRD), in two dimensions")
    return _layer_without_weights("nn.PixelUnshuffle({s.factor})" if isinstance(step, steps.PixelUnshuffle)
                                  else "nn.PixelShuffle({s.factor})")(step, reads)  # fmt: skip


_KINDS: tuple[tuple[Any, Callable[[Any, Reads], Code | Sequence[Code]]], ...] = (
    (steps.LpPool, _pool), (steps.WindowPool, _pool), (steps.AdaptivePool, _adaptive), (steps.GlobalPool, _global),
    (steps.Pad, _pad), (steps.BatchNorm, _batch_norm), (steps.GroupNorm, _group_norm),
    (steps.InstanceNorm, _instance_norm), (steps.LayerNorm, _layer_norm), (steps.Linear, _linear),
    (steps.Elementwise, _elementwise), (steps.Resize, _resize), (steps.Reshape, _reshape), (steps.Slice, write_slice),
    (steps.Reduce, _reduce), (steps.Dropout, _dropout), (steps.PReLU, _prelu), (steps.Activation, _activation),
    (steps.Softmax, _layer_without_weights("nn.Softmax({s.axis})")), (steps.Split, _split), (steps.LpNorm, _lp_norm),
    (steps.GLU, _layer_without_weights("nn.GLU({s.axis})")),
    (steps.LocalResponseNorm, _layer_without_weights("nn.LocalResponseNorm({s.size}, {s.alpha}, {s.beta}, {s.k})")),
    (steps.PixelShuffle | steps.PixelUnshuffle, _shuffle),
    (steps.ChannelShuffle, _layer_without_weights("nn.ChannelShuffle({s.groups})")),
    (steps.Identity, lambda *_: Code("{x}", item="nn.Identity()")),
    (steps.Embedding, lambda s, _: Code(layer=f"nn.Embedding({s.num_embeddings}, {s.features})")),
    (steps.Flatten, _flatten),
    (steps.Parameter, lambda s, _: Code("{layer}", f"nn.Parameter(torch.zeros({tuple(s.shape)}))")),
    (steps.Permute, lambda s, _: Code(f"{{x}}.permute({_list(s.axes)})")),
    (steps.Concat, lambda s, _: Code(f"torch.cat([{{all}}], {s.axis})")),
    (steps.MatMul, lambda *_: Code("{x} @ {y}")),
    (steps.Squeeze, lambda s, _: Code(f"{{x}}.squeeze({f'{tuple(s.axes)}' if s.axes else ''})")),
    (steps.Unsqueeze, lambda s, _: Code("{x}" + "".join(f".unsqueeze({a})" for a in s.axes))),
    (steps.Select, lambda s, _: Code(f"{{x}}.select({s.axis}, {s.index})")),
    (steps.Expand, lambda s, _: Code(f"{{x}}.expand({_list(s.shape)})")),
)  # fmt: skip


def assemble(program: Program) -> str:
    """Return the text of a program: an ``nn.Sequential`` where it is one, else a module."""
    if program.sequence:
        items = "".join(f"    {line.code.item or line.code.layer},\n" for line in program.lines)
        return f"from torch import nn\n\nmodel = nn.Sequential(\n{items}).eval()\n"
    init = "".join(f"        self.{name} = {text}\n" for name, text in program.layers)
    body = "".join(f"        {line.statement(f'self.{line.layer}')}\n" for line in program.lines)
    names = ", ".join(name for name, _ in program.inputs)
    head = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n"
    text = (
        f"class {program.name}(nn.Module):\n    def __init__(self):\n        super().__init__()\n{init}\n"
        f"    def forward(self, {names}):\n{body}        return {', '.join(program.results)}\n"
    )
    return f"{head}\n\n{text}\n\nmodel = {program.name}().eval()\n"


TARGET = Target("PyTorch", "NCHW", write, assemble)
