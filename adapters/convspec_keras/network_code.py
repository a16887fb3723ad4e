"""How Keras' users write a step, and a network in the functional style."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

from convspec.contract import ConvSpec, same_pads
from convspec.contract.network_code import (
    Code,
    Line,
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
from convspec_keras.plan import plan
from convspec_keras.text import sides


def write(step: ConvSpec | Step, reads: Reads) -> Code | Sequence[Code]:
    """Return the code of a step. Raises NotKnown where Keras has no counterpart."""
    if isinstance(step, ConvSpec):
        return Code(layer=native_layer(plan(step, "NHWC", "float32")).removeprefix("keras."))
    for kinds, make in _KINDS:
        if isinstance(step, kinds):
            return make(step, reads)
    raise NotKnown(f"Keras has no counterpart of {step}")


def _ndim(reads: Reads) -> int:
    return len(reads.shapes[0]) - 2


def _pool(step: Any, reads: Reads) -> Code | Sequence[Code]:
    if isinstance(step, steps.LpPool) or set(step.dilation) != {1} or getattr(step, "divisor", None):
        raise NotKnown(f"Keras has no {step}")
    mean = isinstance(step, steps.AveragePool)
    ndim, sizes = len(step.kernel_size), reads.shapes[0][1:-1]
    pads = [list(pair) for pair in step.pads(sizes)]
    outs = step.output_spatial(sizes)
    name = f"{'Average' if mean else 'Max'}Pooling{ndim}D"
    axes = list(zip(sizes, step.kernel_size, step.strides, strict=True))
    same = [list(same_pads(n, k, s, 1, lower=False)) for n, k, s in axes]
    strides = (one(step.strides), one(step.kernel_size))
    fits = any(map(any, pads)) and pads == same and outs == tuple(-(-n // s) for n, _, s in axes)
    if fits and not (mean and step.count_include_pad):
        return Code(layer=call(f"layers.{name}", one(step.kernel_size), strides=strides, padding=("same", "valid")))
    overhang = [max((out - 1) * s + k - (n + lo + hi), 0)
                for out, (n, k, s), (lo, hi) in zip(outs, axes, pads, strict=True)]  # fmt: skip
    if mean and (any(overhang) or (any(map(any, pads)) and not step.count_include_pad)):
        raise NotKnown(f"Keras' average pools count otherwise than {step}")
    pads = [[lo, hi + over] for (lo, hi), over in zip(pads, overhang, strict=True)]
    pool = Code(layer=call(f"layers.{name}", one(step.kernel_size), strides=strides))
    if not any(map(any, pads)):
        return pool
    value = "0.0" if mean else 'float("-inf")'
    return [Code(f"ops.pad({{x}}, {[[0, 0], *pads, [0, 0]]}, constant_values={value})"), pool]


def _adaptive(step: Any, reads: Reads) -> Code:
    sizes = reads.shapes[0][1:-1]
    outs = step.output_spatial(sizes)
    name, ndim = "Max" if step.reduction == "max" else "Average", len(sizes)
    if set(outs) == {1}:
        return Code(layer=f"layers.Global{name}Pooling{ndim}D(keepdims=True)")
    if any(out == 0 or n % out for n, out in zip(sizes, outs, strict=True)):
        raise NotKnown(f"Keras has no {step} of {sizes}")
    return Code(layer=call(f"layers.{name}Pooling{ndim}D", one([n // out for n, out in zip(sizes, outs, strict=True)])))


def _global(step: Any, reads: Reads) -> Code:
    if step.reduction == "lp":
        raise NotKnown("Keras has no global Lp pool")
    name = "Max" if step.reduction == "max" else "Average"
    return Code(layer=call(f"layers.Global{name}Pooling{_ndim(reads)}D", keepdims=(step.keepdims, False)))


def _pad(step: Any, reads: Reads) -> Code:
    rank = len(reads.shapes[0])
    pads = [(0, 0)] * (rank - len(step.padding)) + [tuple(pair) for pair in step.padding]
    inner, outer = pads[1:-1], (pads[0], pads[-1])
    if any(n < 0 for pair in pads for n in pair):
        if any(n > 0 for pair in pads for n in pair):
            raise NotKnown("Keras pads and crops apart")
        if not any(map(any, outer)) and 1 <= rank - 2 <= 3:
            crops = [(-lo, -hi) for lo, hi in inner]
            return Code(layer=f"layers.Cropping{rank - 2}D({sides(crops)})")
        cuts = ", ".join(f"{-lo}:{n + hi}" for n, (lo, hi) in zip(reads.shapes[0][1:], pads[1:], strict=True))
        return Code(f"{{x}}[:, {cuts}]")
    if step.mode == "constant" and not step.value and not any(map(any, outer)) and 1 <= rank - 2 <= 3:
        return Code(layer=f"layers.ZeroPadding{rank - 2}D({sides(inner)})")
    if step.mode not in ("constant", "reflect", "symmetric"):
        raise NotKnown(f"Keras has no {step.mode} pad")
    value = f", constant_values={literal(step.value)}" if step.value else ""
    mode = "" if step.mode == "constant" else f", mode={step.mode!r}"
    return Code(f"ops.pad({{x}}, {[list(pair) for pair in pads]}{mode}{value})")


def _batch_norm(step: Any, _: Reads) -> Code:
    return Code(layer=call("layers.BatchNormalization", epsilon=(step.epsilon, 1e-3), center=(step.bias, True),
                            scale=(step.scale, True)))  # fmt: skip


def _group_norm(step: Any, _: Reads) -> Code:
    groups = step.channels if isinstance(step, steps.InstanceNorm) else step.groups
    return Code(layer=call("layers.GroupNormalization", groups, epsilon=(step.epsilon, 1e-3), center=(step.bias, True),
                            scale=(step.scale, True)))  # fmt: skip


def _layer_norm(step: Any, reads: Reads) -> Code:
    rank = len(reads.shapes[0])
    axes = [a % rank - rank for a in step.axes]
    if step.parameter_axes not in ((), tuple(step.axes)):
        raise NotKnown("Keras' layer norm has its scale on the axes that it normalises")
    if isinstance(step, steps.RMSNorm):
        if step.bias or not step.scale or len(axes) != 1:
            raise NotKnown("Keras' RMS norm has a scale, no bias, and one axis")
        return Code(layer=call("layers.RMSNormalization", axis=(axes[0], -1), epsilon=(step.epsilon, 1e-6)))
    more = {"center": (step.bias, True), "scale": (step.scale, True)}
    axis = (one(axes) if len(axes) == 1 else axes, -1)
    return Code(layer=call("layers.LayerNormalization", axis=axis, epsilon=(step.epsilon, 1e-3), **more))


def _linear(step: Any, reads: Reads) -> Code:
    layer = call("layers.Dense", step.out_features, use_bias=(step.bias, True))
    rank = len(reads.shapes[0])
    if step.axis % rank == rank - 1:
        return Code(layer=layer)
    return Code(f"ops.moveaxis({{layer}}(ops.moveaxis({{x}}, {step.axis}, -1)), -1, {step.axis})", layer)


_OPERATIONS = {
    steps.Add: ("+", "Add"), steps.Subtract: ("-", "Subtract"), steps.Multiply: ("*", "Multiply"),
    steps.Divide: ("/", ""),
    steps.Maximum: ("maximum", "Maximum"), steps.Minimum: ("minimum", "Minimum"),
}  # fmt: skip


def _elementwise(step: Any, reads: Reads) -> Code:
    sign, layer = _OPERATIONS[type(step)]
    if step.constant is None:
        equal = len(set(reads.shapes)) == 1
        if layer and (equal or len(reads.shapes) > 2):
            return Code(f"layers.{layer}()([{{all}}])")
        return Code(f"{{x}} {sign} {{y}}" if len(sign) == 1 else f"ops.{sign}({{all}})")
    if len(sign) > 1:
        return Code(f"ops.{sign}({{x}}, {step.constant!r})")
    sides = ("{x}", number(step.constant))
    return Code(f" {sign} ".join(sides[::-1] if getattr(step, "reflected", False) else sides))


def _resize(step: Any, reads: Reads) -> Code:
    sizes = reads.shapes[0][1:-1]
    outs = step.output_spatial(sizes)
    whole = all(out % n == 0 for n, out in zip(sizes, outs, strict=True))
    nearest = step.mode == "nearest" and (step.coordinates in ("half_pixel", "asymmetric"))
    alias = step.antialias and any(out < n for n, out in zip(sizes, outs, strict=True))
    smooth = step.mode == "linear" and step.coordinates == "half_pixel" and (step.exclude_outside or not alias)
    factors = [out // n for n, out in zip(sizes, outs, strict=True)]
    if whole and (nearest or (smooth and len(sizes) == 2)):
        if nearest and len(sizes) != 2:
            return Code(layer=f"layers.UpSampling{len(sizes)}D({one(factors)!r})")
        return Code(layer=call(f"layers.UpSampling{len(sizes)}D", one(factors),
                                interpolation=("nearest" if nearest else "bilinear", "nearest")))  # fmt: skip
    if len(sizes) == 2 and smooth:
        more = ", antialias=True" * alias
        return Code(layer=f"layers.Resizing({outs[0]}, {outs[1]}, interpolation='bilinear'{more})")
    raise NotKnown(f"Keras has no {step}")


def _reshape(step: Any, reads: Reads) -> Code:
    shape = reads.shapes[0]
    sizes = [shape[i] if n == 0 else n for i, n in enumerate(step.shape)]
    if sizes[:1] in ([shape[0]], [-1]) and -1 not in sizes[1:]:
        return Code(layer=f"layers.Reshape({tuple(sizes[1:])})")
    if sizes[:1] == [shape[0]]:
        return Code(layer=f"layers.Reshape({tuple(sizes[1:])})")
    return Code(f"ops.reshape({{x}}, {tuple(sizes)})")


def _split(step: Any, _: Reads) -> Code:
    ends = [sum(step.sizes[: i + 1]) for i in range(len(step.sizes) - 1)]
    return Code(f"ops.split({{x}}, {ends}, axis={step.axis})")


def _shuffle(step: Any, reads: Reads) -> Code:
    """Return a pixel shuffle as its reshape and transpose, in either order of channels, in two dimensions."""
    if _ndim(reads) != 2:
        raise NotKnown("Keras has no pixel shuffle but in two dimensions")
    _, h, w, c = reads.shapes[0]
    r = step.factor
    if isinstance(step, steps.PixelShuffle):
        out, parts = c // r**2, [("r", r), ("s", r)]
        inner = (out, r, r) if step.order == "CRD" else (r, r, out)
        axes = (0, 1, 4, 2, 5, 3) if step.order == "CRD" else (0, 1, 3, 2, 4, 5)
        del parts
        return Code(f"ops.reshape(ops.transpose(ops.reshape({{x}}, {(-1, h, w, *inner)}), {axes}), "
                    f"{(-1, h * r, w * r, out)})")  # fmt: skip
    axes = (0, 1, 3, 5, 2, 4) if step.order == "CRD" else (0, 1, 3, 2, 4, 5)
    return Code(f"ops.reshape(ops.transpose(ops.reshape({{x}}, {(-1, h // r, r, w // r, r, c)}), {axes}), "
                f"{(-1, h // r, w // r, c * r * r)})")  # fmt: skip


def _channel_shuffle(step: Any, reads: Reads) -> Code:
    *outer, c = reads.shapes[0][1:]
    split, n = (-1, *outer, step.groups, c // step.groups), len(outer)
    axes = (*range(n + 1), n + 2, n + 1)
    return Code(
        f"ops.reshape(ops.swapaxes(ops.reshape({{x}}, {split}), {axes[-2] - 1}, {axes[-2]}), {(-1, *outer, c)})"
    )


_GELUS = {
    "none": 'layers.Activation("gelu")', "tanh": "keras.activations.gelu({x}, approximate=True)",
    "quick": "{x} * ops.sigmoid(1.702 * {x})",
}  # fmt: skip
_ACTIVATIONS: dict[type, Callable[[Any], str | None]] = {
    steps.ReLU: lambda _: 'layers.Activation("relu")', steps.SELU: lambda _: 'layers.Activation("selu")',
    steps.Tanh: lambda _: 'layers.Activation("tanh")', steps.Mish: lambda _: 'layers.Activation("mish")',
    steps.SiLU: lambda s: 'layers.Activation("silu")' if s.beta == 1 else None,
    steps.Sigmoid: lambda s: f'layers.Activation("{"log_" if s.log else ""}sigmoid")',
    steps.Softsign: lambda _: 'layers.Activation("softsign")',
    steps.TanhShrink: lambda _: 'layers.Activation("tanh_shrink")',
    steps.LeakyReLU: lambda s: f"layers.LeakyReLU(negative_slope={s.slope!r})",
    steps.ELU: lambda s: f"layers.ELU(alpha={s.alpha!r})",
    steps.CELU: lambda s: f"keras.activations.celu({{x}}, alpha={s.alpha!r})",
    steps.GELU: lambda s: _GELUS[s.approximation],
    steps.HardSigmoid: lambda s: 'layers.Activation("hard_sigmoid")' if _sixth(s) else
        f"ops.clip({s.slope!r} * {{x}} + {s.offset!r}, 0.0, 1.0)",
    steps.HardSwish: lambda s: 'layers.Activation("hard_silu")' if _sixth(s) else
        f"{{x}} * ops.clip({s.slope!r} * {{x}} + {s.offset!r}, 0.0, 1.0)",
    steps.Softplus: lambda s: 'layers.Activation("softplus")' if s.beta == 1 else
        f"ops.softplus({s.beta!r} * {{x}}) / {s.beta!r}",
    steps.HardShrink: lambda s: f"keras.activations.hard_shrink({{x}}, threshold={s.threshold!r})",
    steps.SoftShrink: lambda s: f"keras.activations.soft_shrink({{x}}, threshold={s.threshold!r})",
    steps.Squareplus: lambda s: f"keras.activations.squareplus({{x}}, b={s.b!r})",
    steps.Power: lambda s: f"{{x}} ** {number(s.exponent)}",
}  # fmt: skip


def _sixth(step: Any) -> bool:
    return bool(abs(step.slope - 1 / 6) < 1e-9 and step.offset == 0.5)


def _activation(step: Any, _: Reads) -> Code:
    if isinstance(step, steps.Clip):
        if step.minimum == 0 and step.maximum is not None:
            return Code(layer=f"layers.ReLU(max_value={step.maximum!r})")
        low, high = ('float("-inf")' if step.minimum is None else repr(step.minimum),
                     'float("inf")' if step.maximum is None else repr(step.maximum))  # fmt: skip
        return Code(f"ops.clip({{x}}, {low}, {high})")
    if isinstance(step, steps.ThresholdedReLU):
        return Code(layer=call("layers.ReLU", max_value=(step.maximum, None), negative_slope=(step.slope, 0.0),
                                threshold=(step.threshold, 0.0)))  # fmt: skip
    if isinstance(step, steps.Pointwise):
        return Code(f"ops.{step.function}({{x}})")
    text = _ACTIVATIONS[type(step)](step) if type(step) in _ACTIVATIONS else None
    if text is None:
        raise NotKnown(f"Keras has no {step}")
    return Code(layer=text) if text.startswith("layers.") else Code(text)


def _prelu(step: Any, reads: Reads) -> Code:
    slopes = (*step.shape, *[1] * (len(reads.shapes[0]) - 1 - len(step.shape)))
    shared = [axis for axis, n in enumerate(slopes, 1) if n == 1]
    return Code(layer=call("layers.PReLU", shared_axes=(shared, [])))


def _axes(step: Any) -> str:
    return f"axis={tuple(step.axes)}" if step.axes else "axis=None"


_KINDS: tuple[tuple[Any, Callable[[Any, Reads], Code | Sequence[Code]]], ...] = (
    (steps.WindowPool, _pool), (steps.AdaptivePool, _adaptive), (steps.GlobalPool, _global), (steps.Pad, _pad),
    (steps.BatchNorm, _batch_norm), (steps.GroupNorm | steps.InstanceNorm, _group_norm),
    (steps.LayerNorm, _layer_norm), (steps.Linear, _linear), (steps.Elementwise, _elementwise),
    (steps.Resize, _resize), (steps.Reshape, _reshape), (steps.Slice, write_slice), (steps.Split, _split),
    (steps.PixelShuffle | steps.PixelUnshuffle, _shuffle), (steps.ChannelShuffle, _channel_shuffle),
    (steps.PReLU, _prelu), (steps.Activation, _activation),
    (steps.Dropout, lambda s, _: Code(layer=f"layers.{'Spatial' if s.unit == 'channel' else ''}Dropout"
                                      f"{f'{len(_.shapes[0]) - 2}D' if s.unit == 'channel' else ''}({s.rate!r})")),
    (steps.Softmax, lambda s, _: Code(layer=f"layers.Softmax(axis={s.axis})") if not s.log
     else Code(f"ops.log_softmax({{x}}, axis={s.axis})")),
    (steps.Identity, lambda *_: Code("{x}")),
    (steps.Embedding, lambda s, _: Code(layer=f"layers.Embedding({s.num_embeddings}, {s.features})")),
    (steps.Flatten, lambda s, r: Code(layer="layers.Flatten()") if s.start == 1 and s.end in (-1, len(r.shapes[0]) - 1)
     else Code(f"ops.reshape({{x}}, {s.output_shape(r.shapes[0])})")),
    (steps.Permute, lambda s, _: Code(f"ops.transpose({{x}}, {tuple(s.axes)})")),
    (steps.Concat, lambda s, _: Code(f"layers.Concatenate(axis={s.axis})([{{all}}])")),
    (steps.MatMul, lambda *_: Code("ops.matmul({x}, {y})")),
    (steps.Reduce, lambda s, _: Code(f"ops.{s.reduction}({{x}}, {_axes(s)}{', keepdims=True' if s.keepdims else ''})")),
    (steps.Squeeze, lambda s, _: Code(f"ops.squeeze({{x}}, {_axes(s)})")),
    (steps.Unsqueeze, lambda s, _: Code(f"ops.expand_dims({{x}}, {_axes(s)})")),
    (steps.Select, lambda s, _: Code(f"ops.take({{x}}, {s.index}, axis={s.axis})")),
    (steps.Parameter, lambda s, _: Code(_PARAMETER, f"Parameter({tuple(s.shape)})")),
    (steps.LpNorm, lambda s, _: Code(
        f"ops.normalize({{x}}, axis={s.axes[0]}, order={number(s.p)}, epsilon={s.epsilon!r})")),
)  # fmt: skip


_PARAMETER = "{layer}(input_x)"  # of the network's first input, which tells a layer that it is called
_PARAMETER_LAYER = '''
class Parameter(layers.Layer):
    """A weight by itself."""

    def __init__(self, sizes, **kwargs):
        super().__init__(**kwargs)
        self.sizes = sizes
        self.value = self.add_weight(shape=sizes, initializer="zeros", name="value")

    def call(self, _):
        return ops.convert_to_tensor(self.value)

    def get_config(self):
        return {**super().get_config(), "sizes": self.sizes}

'''


def assemble(program: Program) -> str:
    """Return the text of a program: ``keras.Sequential`` where it is one, else the functional style."""
    head = "import keras\nfrom keras import layers, ops\n\n"
    if program.sequence and all(line.layer for line in program.lines):
        items = "".join(
            f"    {text},\n" for text in (f"keras.Input({program.inputs[0][1][1:]})", *map(_named, program.lines))
        )
        return f"import keras\nfrom keras import layers\n\nmodel = keras.Sequential([\n{items}])\n"
    uses = Counter(line.layer for line in program.lines if line.layer)
    names = [name for name, _ in program.inputs]
    own = any(line.code.call == _PARAMETER for line in program.lines)
    called = {name for line in program.lines for name in re.findall(r"\.(\w+)\(", line.code.call)}
    text = f"{_PARAMETER_LAYER}\n" if own else ""
    text += "".join(f"{name} = keras.Input({shape[1:]})\n" for name, shape in program.inputs)
    text += "".join(f"input_{name} = {name}\n" for name in names)
    for line in program.lines:
        layer = f"layer_{line.layer}" if uses[line.layer] > 1 else _named(line, called)
        if uses[line.layer] > 1 and line.first:
            text += f"{layer} = {_named(line, called)}\n"
        text += f"{line.statement(layer)}\n".replace("input_x)", f"input_{names[0]})")
    inputs = [f"input_{name}" for name in names]
    given = [inputs[0] if len(inputs) == 1 else f"[{', '.join(inputs)}]",
             program.results[0] if len(program.results) == 1 else f"[{', '.join(program.results)}]"]  # fmt: skip
    return f"{head}{text}model = keras.Model({', '.join(given)})\n"


def _named(line: Line, called: Collection[str] = ()) -> str:
    """Return the constructor of a layer with its name, which may not be one that Keras gives a function's operation."""
    text, name = line.code.layer.removesuffix(")"), f"{line.layer}{'_layer' if line.layer in called else ''}"
    return f"{text}{'' if text.endswith('(') else ', '}name={name!r})"


TARGET = Target("Keras", "NHWC", write, assemble)
