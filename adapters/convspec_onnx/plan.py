"""The ONNX model of a layer, as Python code that makes it with ``onnx.helper``.

Conv and ConvTranspose support channels-first data and zero padding only; the rest needs Transpose, Pad and Add.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from convspec.contract import LayerRequest, Plan
from convspec.spec import ComputePrecision, ConvSpec, layouts, resolve_padding
from convspec_onnx.graph_text import NUMPY_TYPES, OPSET, make_node, model_text

_OPSET_BFLOAT16 = 22  # the first whose Conv has bfloat16
_AUTO_PAD = "ONNX Runtime's auto_pad fails with a dilation, and errs where the stride exceeds the kernel"
PAD_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def plan(spec: ConvSpec, layout: str, dtype: str) -> Plan:
    """Return the layer's model: initialisers ``weight`` and ``bias`` in canonical order, input ``x``, output ``y``."""
    program = LayerText(spec, dtype)
    program.parameters()
    data, result = "x", "y"
    if layout == layouts.CHANNELS_LAST:
        program.reasons.append("ONNX convolutions are channels first: the data are transposed before and after")
        data, result = "x_first", "y_first"
        program.node("Transpose", ["x"], data, perm=list(layouts.permutation("N*C", "NC*", spec.ndim)))
    program.layer(data, result)
    if layout == layouts.CHANNELS_LAST:
        program.node("Transpose", [result], "y", perm=list(layouts.permutation("NC*", "N*C", spec.ndim)))
    return Plan(spec, layout, dtype, program.text(layout), reasons=tuple(program.reasons))


def compute_precision(spec: ConvSpec, request: LayerRequest) -> ComputePrecision:
    """Return float32 sums (float64 for float64), rounded once, or twice if an Add adds the bias.

    On the CPU, ONNX Runtime computes float16 convolutions in float32 between two casts.
    """
    roundings = 2 if spec.transposed and spec.bias and any(_beyond_crop(spec)) else 1
    tf32 = request.device.startswith("cuda") and (request.dtype, request.precision) == ("float32", "shipped")
    accumulator = "float64" if request.dtype == "float64" else "float32"
    return ComputePrecision(accumulator, roundings, inputs="tf32" if tf32 else None)


@dataclass
class LayerText:
    """The tensors and nodes of a layer, from input to output; ``prefix`` begins the names that are its own."""

    spec: ConvSpec
    dtype: str
    prefix: str = ""
    tensors: list[str] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def parameters(self) -> None:
        spec, numpy_type = self.spec, NUMPY_TYPES[self.dtype]
        first, second = ("in", "out") if spec.transposed else ("out", "in")
        order = f"({first}_channels, {second}_channels / group, {', '.join(layouts.spatial_letters(spec.ndim))})"
        comment = "" if self.prefix else f"  # {order}"
        self.tensors.append(f'"{self.prefix}weight": np.zeros({spec.kernel_shape}, {numpy_type}),{comment}')
        if spec.bias:
            self.tensors.append(f'"{self.prefix}bias": np.zeros({spec.out_channels}, {numpy_type}),')

    def integers(self, **named: list[int]) -> None:
        self.tensors += [f'"{self.prefix}{name}": np.array({values}, np.int64),' for name, values in named.items()]

    def node(self, op: str, inputs: list[str], output: str, **attributes: object) -> None:
        names = [name if name[:1] in ("", "{") else self.prefix + name for name in (*inputs, output)]
        self.nodes.append(make_node(op, names[:-1], names[-1:], **attributes))

    def layer(self, data: str, result: str) -> None:
        """Add the convolution."""
        (self.conv_transpose if self.spec.transposed else self.conv)(data, result)

    def conv(self, data: str, result: str) -> None:
        """Add a Conv, after a Pad if its own padding cannot express the spec's."""
        spec = self.spec
        attributes = self.attributes()
        if isinstance(spec.padding, str) and set(spec.kernel_size) == {1}:
            pass  # a 1×1 kernel needs no pads for any input size
        elif isinstance(spec.padding, str) and spec.padding_mode == "zeros" and _auto_pad_is_right(spec):
            attributes["auto_pad"] = {"same": "SAME_UPPER", "same_lower": "SAME_LOWER"}[spec.padding]
        elif isinstance(spec.padding, str):
            self.same_pads(data)
            why = _AUTO_PAD if spec.padding_mode == "zeros" else _mode(spec)
            data = self.pad(data, f"{why}: the pads are computed from the input's size, for a Pad before Conv")
        elif spec.padding_mode != "zeros":
            self.integers(pads=_begins_ends(spec.padding))
            data = self.pad(data, f"{_mode(spec)}: a Pad before Conv")
        else:
            attributes["pads"] = _begins_ends(spec.padding)
        self.node("Conv", self.weighted(data), result, **attributes)

    def pad(self, data: str, reason: str) -> str:
        """Add a Pad of the spatial axes of ``data`` by the tensor ``pads``."""
        self.reasons.append(reason)
        self.integers(axes=list(range(2, 2 + self.spec.ndim)))
        self.node("Pad", [data, "pads", "", "axes"], "padded", mode=PAD_MODES[self.spec.padding_mode])
        return "padded"

    def same_pads(self, data: str) -> None:
        """Add nodes that compute ``pads``: total = max(ke - 1 - (L - 1) mod s, 0), the odd pixel after or before."""
        spec = self.spec
        self.integers(one=[1], two=[2], zero=[0], strides=list(spec.stride))
        self.integers(reach=[ke - 1 for ke in spec.effective_kernel])
        self.node("Shape", [data], "size", start=2)
        self.node("Sub", ["size", "one"], "last")
        self.node("Mod", ["last", "strides"], "covered")
        self.node("Sub", ["reach", "covered"], "missing")
        self.node("Max", ["missing", "zero"], "total")
        self.node("Div", ["total", "two"], "less")
        self.node("Sub", ["total", "less"], "more")
        self.node("Concat", ["less", "more"] if spec.padding == "same" else ["more", "less"], "pads", axis=0)

    def conv_transpose(self, data: str, result: str) -> None:
        """Add a ConvTranspose, whose pads crop; a Pad appends output pixels that it cannot compute.

        ONNX Runtime requires output_padding < stride. Larger output padding reduces the crop at the end; the rest lies
        beyond the last product: zeros, to which an Add adds the bias.
        """
        spec, beyond = self.spec, _beyond_crop(self.spec)
        pads, extra = resolve_padding(spec, (1,) * spec.ndim)
        large = [e >= s for e, s in zip(extra, spec.stride, strict=True)]
        crops = tuple((lo, max(hi - e, 0) if big else hi) for (lo, hi), e, big in zip(pads, extra, large, strict=True))
        rest = [0 if big else e for e, big in zip(extra, large, strict=True)]
        attributes = self.attributes() | {"pads": _begins_ends(crops), "output_padding": rest}
        if any(large):
            self.reasons.append("ONNX Runtime refuses an output_padding that is not less than the stride")
        if not any(beyond):
            self.node("ConvTranspose", self.weighted(data), result, **attributes)
            return
        self.integers(pads=[0] * spec.ndim + beyond, axes=list(range(2, 2 + spec.ndim)))
        self.node("ConvTranspose", [data, "weight"], "scattered", **attributes)
        self.node("Pad", ["scattered", "pads", "", "axes"], "extended" if spec.bias else result, mode="constant")
        if spec.bias:
            self.integers(spatial=list(range(1, 1 + spec.ndim)))
            self.node("Unsqueeze", ["bias", "spatial"], "bias_column")
            self.node("Add", ["extended", "bias_column"], result)

    def weighted(self, data: str) -> list[str]:
        return [data, "weight", "bias"] if self.spec.bias else [data, "weight"]

    def attributes(self) -> dict[str, object]:
        spec = self.spec
        return {"kernel_shape": list(spec.kernel_size), "strides": list(spec.stride),
                "dilations": list(spec.dilation), "group": spec.groups}  # fmt: skip

    def text(self, layout: str) -> str:
        x, y = _symbolic_shapes(self.spec, layout)
        opset = _OPSET_BFLOAT16 if self.dtype == "bfloat16" else OPSET
        return model_text("layer", "conv", self.tensors, self.nodes, {"x": x}, {"y": y}, opset, self.dtype)


def _auto_pad_is_right(spec: ConvSpec) -> bool:
    """Return whether ONNX Runtime's auto_pad follows the standard for every input size.

    With a dilation it fails when run. With a stride larger than the kernel its total pads can be negative, and it then
    starts inside the input. Otherwise auto_pad is right: exported models have it, and only it lets a single node depend
    on the input's size.
    """
    return set(spec.dilation) == {1} and all(s <= k for s, k in zip(spec.stride, spec.kernel_size, strict=True))


def _mode(spec: ConvSpec) -> str:
    return f"Conv has no padding_mode {spec.padding_mode!r}"


def _beyond_crop(spec: ConvSpec) -> list[int]:
    """Return the output pixels per axis that lie beyond the last product, which ConvTranspose cannot compute."""
    pads, extra = resolve_padding(spec, (1,) * spec.ndim)
    return [max(e - hi, 0) if e >= s else 0 for (_, hi), e, s in zip(pads, extra, spec.stride, strict=True)]


def _begins_ends(pads: tuple[tuple[int, int], ...]) -> list[int]:
    """Return all begins, then all ends, the order of ONNX."""
    return [lo for lo, _ in pads] + [hi for _, hi in pads]


def _symbolic_shapes(spec: ConvSpec, layout: str) -> tuple[list[object], list[object]]:
    """Return the shapes of x and y in ``layout``: channels as numbers, other axes as names."""
    shapes: list[list[object]] = []
    for channels, suffix in ((spec.in_channels, ""), (spec.out_channels, "_out")):
        first = ["N", channels, *(f"{letter}{suffix}" for letter in layouts.spatial_letters(spec.ndim))]
        axes = layouts.permutation("NC*", layouts.order(layout, spec.ndim), spec.ndim)
        shapes.append([first[i] for i in axes])
    return shapes[0], shapes[1]
