"""Write the text of a LiteRT model of one layer from a spec: a flatbuffer by the schema classes of LiteRT's package."""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from convspec.contract import CHANNELS_LAST, ComputePrecision, ConvSpec, LayerRequest, Plan, resolve_padding
from convspec.errors import UnsupportedError
from convspec_litert.converted import converted

VERSIONS = {  # of operators: the lowest that the runtime knows with the arguments used here
    "CONV_2D": 1, "DEPTHWISE_CONV_2D": 2, "CONV_3D": 1, "TRANSPOSE_CONV": 3, "CONV_3D_TRANSPOSE": 1, "PAD": 1,
    "MIRROR_PAD": 1, "STRIDED_SLICE": 1, "SHAPE": 1, "MUL": 1, "ADD": 1, "EXPAND_DIMS": 1, "SQUEEZE": 1,
}  # fmt: skip
_GROUPED = 6  # the version of CONV_2D with groups
_TEXT = """\
import numpy as np
from ai_edge_litert import schema_py_generated as tfl

graph = tfl.SubGraphT(tensors=[], inputs=[0], operators=[])
layer = tfl.ModelT(version=3, operatorCodes=[], subgraphs=[graph], buffers=[tfl.BufferT()])


def tensor(name, array, signature=None):
    \"\"\"Add a constant, or a tensor of computed numbers with a signature of sizes; return its number.\"\"\"
    if signature is None:
        layer.buffers.append(tfl.BufferT(data=np.frombuffer(array.tobytes(), np.uint8)))
    kind = getattr(tfl.TensorType, array.dtype.name.upper())
    buffer = len(layer.buffers) - 1 if signature is None else 0
    graph.tensors.append(tfl.TensorT(array.shape, kind, buffer, name, shapeSignature=signature))
    return len(graph.tensors) - 1


def operator(name, version, inputs, rank, dtype, options, **settings):
    \"\"\"Add an operator; return the number of its result.\"\"\"
    code = getattr(tfl.BuiltinOperator, name)
    layer.operatorCodes.append(tfl.OperatorCodeT(min(code, 127), version=version, builtinCode=code))
    result = tensor(name, np.empty((1,) * rank, dtype), (-1,) * rank)
    kind, values = getattr(tfl.BuiltinOptions, options), getattr(tfl, options + "T")(**settings)
    graph.operators.append(tfl.OperatorT(len(graph.operators), inputs, [result], kind, values))
    return result


y = tensor("x", np.empty({shape}, np.{dtype}), {signature})
{statements}
graph.outputs = [y]
"""


def plan(spec: ConvSpec, layout: str, dtype: str) -> Plan:
    """The program: a model of one convolution for any input size, with what its operator lacks around it.

    Raises:
        UnsupportedError: with the reason, where LiteRT has no such layer.
    """
    if layout != CHANNELS_LAST:
        raise UnsupportedError("LiteRT's convolutions are channels-last only")
    program = _Program(spec, dtype)
    if spec.ndim == 1:
        program.reasons.append("LiteRT has no 1-D convolution: a height of one pixel is added")
        axis = program.constant("axis", "np.int32(1)")
        program.operator("EXPAND_DIMS", f"y, {axis}", "ExpandDimsOptions", rank=4)
    padding = program.transposed() if spec.transposed else program.regular()
    if spec.ndim == 1:
        program.operator("SQUEEZE", "y", "SqueezeOptions", {"squeezeDims": [1]}, rank=3)
    rank = spec.ndim + 2
    text = _TEXT.format(
        shape=(*(1,) * (rank - 1), spec.in_channels), signature=(*(-1,) * (rank - 1), spec.in_channels), dtype=dtype,
        statements="\n".join(program.lines),
    )  # fmt: skip
    convs = ("weight",) if program.reasons else ()
    usual = converted(spec, padding) if dtype == "float32" else ""
    return Plan(spec, layout, dtype, text, convs=convs, reasons=tuple(program.reasons), usual=usual)


@dataclass
class _Program:
    """The statements from the input ``y`` to the output ``y``; 1-D layers have a first spatial axis of one pixel."""

    spec: ConvSpec
    dtype: str
    lines: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def axes(self, values: Sequence[int], first: int = 1) -> tuple[int, ...]:
        """Values of the spatial axes; ``first`` is that of the additional axis of 1-D layers."""
        return (*(first,) * (self.spec.ndim == 1), *values)

    @property
    def rank(self) -> int:
        return max(self.spec.ndim, 2) + 2

    def constant(self, name: str, array: str) -> str:
        self.lines.append(f'{name} = tensor("{name}", {array})')
        return name

    def operator(
        self, name: str, inputs: str, options: str, settings: Mapping[str, object] | None = None, *, target: str = "y",
        rank: int = 0, dtype: str = "",
    ) -> None:  # fmt: skip
        """Add a call of ``operator``."""
        version = _GROUPED if name == "CONV_2D" and self.spec.groups > 1 else VERSIONS[name]
        call = f'{target} = operator("{name}", {version}, [{inputs}], {rank or self.rank}, '
        call += f'np.{dtype or self.dtype}, "{options}"'
        more = [f"{key}={value}" for key, value in (settings or {}).items()]
        line = f"{', '.join([call, *more])})"
        self.lines.append(line if len(line) <= 100 else f"{call},\n    {', '.join(more)})")

    def weights(self, shape: Sequence[int]) -> str:
        """Return the names of the constants for kernel and bias, without which 2-D operators are refused or crash."""
        names = [self.constant("weight", f"np.zeros({tuple(shape)}, np.{self.dtype})")]
        if self.spec.bias or not (self.spec.transposed or self.spec.ndim == 3):
            names.append(self.constant("bias", f"np.zeros({self.spec.out_channels}, np.{self.dtype})"))
        return ", ".join(names)

    def settings(self, padding: str, *, dilated: bool = True) -> dict[str, object]:
        letters = "DHW"[-max(self.spec.ndim, 2) :]
        found: dict[str, object] = {"padding": f"tfl.Padding.{padding}"}
        found |= {f"stride{a}": s for a, s in zip(letters, self.axes(self.spec.stride), strict=True)}
        dilation = zip(letters, self.axes(self.spec.dilation), strict=True) if dilated else ()
        return found | {f"dilation{a}Factor": d for a, d in dilation if d > 1}

    def regular(self) -> str:
        """Add a convolution, and return its word for the padding."""
        spec, depthwise = self.spec, is_depthwise(self.spec)
        if spec.ndim == 3 and spec.groups > 1:
            raise UnsupportedError("LiteRT's CONV_3D has no groups")
        if spec.ndim != 2:
            self._floats_only("EXPAND_DIMS" if spec.ndim == 1 else "CONV_3D")
        padding = self.pad()
        kernel = self.axes(spec.kernel_size)
        if spec.ndim == 3:
            weights = self.weights((*kernel, spec.in_channels, spec.out_channels))
            self.operator("CONV_3D", f"y, {weights}", "Conv3DOptions", self.settings(padding))
        elif depthwise:
            weights = self.weights((1, *kernel, spec.out_channels))
            settings = {"depthMultiplier": spec.out_channels // spec.groups, **self.settings(padding)}
            self.operator("DEPTHWISE_CONV_2D", f"y, {weights}", "DepthwiseConv2DOptions", settings)
        else:
            weights = self.weights((spec.out_channels, *kernel, spec.in_channels // spec.groups))
            self.operator("CONV_2D", f"y, {weights}", "Conv2DOptions", self.settings(padding))
        return padding

    def pad(self) -> str:
        """Return the operator's word for the padding, after a pad where it has none."""
        spec = self.spec
        if isinstance(spec.padding, str):
            if spec.padding != "same" or spec.padding_mode != "zeros":
                words = f"padding={spec.padding!r}, padding_mode={spec.padding_mode!r}"
                raise UnsupportedError(f"LiteRT computes pads from the input's size for SAME only, not for {words}")
            return "SAME"
        if spec.padding_mode not in ("zeros", "reflect"):
            raise UnsupportedError(f"LiteRT has no {spec.padding_mode} padding")
        if not any(map(any, spec.padding)):
            return "VALID"
        if spec.padding_mode == "zeros" and _is_same(spec):
            return "SAME"
        pairs = [(0, 0), *(((0, 0),) if spec.ndim == 1 else ()), *spec.padding, (0, 0)]
        self._floats_only("MIRROR_PAD" if spec.padding_mode == "reflect" else "PAD")
        pads = self.constant("pads", f"np.array({pairs}, np.int32)")
        if spec.padding_mode == "reflect":
            self.reasons.append("LiteRT's convolutions pad with zeros: a MIRROR_PAD is added first")
            self.operator("MIRROR_PAD", f"y, {pads}", "MirrorPadOptions", {"mode": "tfl.MirrorPadMode.REFLECT"})
        else:
            self.reasons.append("LiteRT has no numbers for pads: a PAD is added first")
            self.operator("PAD", f"y, {pads}", "PadOptions")
        return "VALID"

    def transposed(self) -> str:
        """Add a transposed convolution and the arithmetic of its output's shape; return its word for the padding."""
        spec = self.spec
        if spec.groups > 1 or max(spec.dilation) > 1:
            raise UnsupportedError("LiteRT's transposed convolutions have no groups and no dilation")
        same = isinstance(spec.padding, str)
        self._floats_only("transposed convolution")
        pads, extra = resolve_padding(spec, (1,) * spec.ndim)
        ends = [0 if same else e - hi for (_, hi), e in zip(pads, extra, strict=True)]
        more = [0 if same else k - s + max(e, 0) for k, s, e in zip(spec.kernel_size, spec.stride, ends, strict=True)]
        factors = np_int32((1, *self.axes(spec.stride), 0))
        terms = np_int32((0, *self.axes(more, 0), spec.out_channels))
        outputs = {"outType": "tfl.TensorType.INT32"}
        self.operator("SHAPE", "y", "ShapeOptions", outputs, target="size", rank=1, dtype="int32")
        for name, values, constant in (("MUL", factors, "factors"), ("ADD", terms, "terms")):
            inputs = f"size, {self.constant(constant, values)}"
            self.operator(name, inputs, f"{name.capitalize()}Options", target="size", rank=1, dtype="int32")
        kernel, padding = self.axes(spec.kernel_size), "SAME" if same else "VALID"
        if spec.ndim == 3:
            weights = self.weights((*kernel, spec.out_channels, spec.in_channels))
            name, options = "CONV_3D_TRANSPOSE", "Conv3DOptions"
        else:
            weights = self.weights((spec.out_channels, *kernel, spec.in_channels))
            name, options = "TRANSPOSE_CONV", "TransposeConvOptions"
        first, comma, bias = weights.partition(", ")
        self.operator(name, f"size, {first}, y{comma}{bias}", options, self.settings(padding, dilated=False))
        starts = [0 if same else lo for lo, _ in pads]
        if any(starts) or min(ends) < 0:
            self.crop(starts, ends)
        return padding

    def crop(self, starts: Sequence[int], ends: Sequence[int]) -> None:
        self.reasons.append("LiteRT has no numbers for the padding of a transposed convolution: its result is sliced")
        begin = self.constant("begin", np_int32((0, *self.axes(starts, 0), 0)))
        end = self.constant("end", np_int32((0, *self.axes([min(e, 0) for e in ends], 0), 0)))
        strides = self.constant("strides", np_int32((1,) * self.rank))
        whole = sum(1 << axis for axis, e in enumerate((0, *self.axes(ends, 0), 0)) if e >= 0)
        self.operator("STRIDED_SLICE", f"y, {begin}, {end}, {strides}", "StridedSliceOptions", {"endMask": whole})

    def _floats_only(self, operator: str) -> None:
        if self.dtype != "float32":
            raise UnsupportedError(f"LiteRT's {operator} has no {self.dtype}")


def np_int32(values: Sequence[int]) -> str:
    return f"np.array({list(values)}, np.int32)"


def is_depthwise(spec: ConvSpec) -> bool:
    """Return whether each input channel has filters of its own, which is an operator of its own in 2-D."""
    return spec.groups == spec.in_channels > 1 and spec.ndim < 3


def _is_same(spec: ConvSpec) -> bool:
    """Return whether SAME has these pads at every input size."""
    return set(spec.stride) == {1} and all(
        pair == ((ke - 1) // 2, ke // 2) for pair, ke in zip(spec.padding, spec.effective_kernel, strict=True)
    )


def compute_precision(spec: ConvSpec, request: LayerRequest) -> ComputePrecision:
    """Return float32 sums; float16 ones for float16 where the processor has its arithmetic, and in depthwise layers.

    XNNPACK has kernels for both kinds of processors.
    """
    half = request.dtype == "float16" and (is_depthwise(spec) or _has_half_arithmetic())
    return ComputePrecision("float16" if half else "float32")


@functools.cache
def _has_half_arithmetic() -> bool:
    """Return whether the processor computes in float16: ARM's do, x86 with AVX512-FP16."""
    if platform.machine() in ("arm64", "aarch64"):
        return True
    try:
        return "avx512_fp16" in Path("/proc/cpuinfo").read_text("ascii", "replace")
    except OSError:
        return False
