"""A TensorFlow graph, the values in it that do not depend on its inputs, and its convolutions.

A convolution is an operator with its dilation, an axis added for 1-D, and its bias. TensorFlow is not imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convspec.contract import ConvParams, ConvSpec, Part, Reading, known_dtype, layouts
from convspec.errors import ConvspecError, UnsupportedError
from convspec_keras import weights

PASSING = ("Identity", "Switch", "StopGradient", "Enter", "RefSwitch")
CALLS = ("PartitionedCall", "StatefulPartitionedCall")
TRANSPOSED = ("Conv2DBackpropInput", "Conv3DBackpropInputV2")
CONVOLUTIONS = ("Conv2D", "Conv3D", "DepthwiseConv2dNative", *TRANSPOSED)
_UNKNOWN = ("Placeholder", "PlaceholderWithDefault", "Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond")


@dataclass(frozen=True)
class SavedModel:
    """A signature's graph with the names of the tensors that go in and come out, by the signature's own names."""

    graph: Any
    inputs: dict[str, str]
    outputs: dict[str, str]


@dataclass(frozen=True)
class Site:
    """A layer of the graph: its part, its input tensor and its output tensor."""

    part: Part
    x: Any
    y: Any


@dataclass
class Graph:
    """The graph and the values in it that do not depend on its inputs."""

    model: SavedModel
    session: Any
    _known: dict[str, Any] = field(default_factory=dict)

    def constant(self, tensor: Any) -> Any:
        """The numbers of a tensor that does not depend on the inputs; None where it does."""
        while tensor.op.type in PASSING:
            tensor = tensor.op.inputs[0]
        if tensor.name not in self._known:
            self._known[tensor.name] = self.session.run(tensor) if self._is_free(tensor.op) else None
        return self._known[tensor.name]

    def _is_free(self, operation: Any) -> bool:
        """Whether nothing that it depends on is an input, a choice or chance."""
        left, seen = [operation], {operation.name}
        while left:
            one = left.pop()
            if one.type in _UNKNOWN or one.type.startswith(("Random", "Truncated")) or one.type in CALLS:
                return False
            for tensor in one.inputs:
                if tensor.op.name not in seen:
                    seen.add(tensor.op.name)
                    left.append(tensor.op)
        return True


def scope(name: str) -> str:
    """Return the path of a node's layer, without enclosing calls and the operator's own name."""
    words = name.split("/")
    while len(words) > 1 and words[0].startswith(("StatefulPartitionedCall", "PartitionedCall", "Func")):
        words.pop(0)
    return "/".join(words[:-1]) or words[-1]


def only_user(tensor: Any) -> Any:
    """The one operation that reads a tensor; None where several do."""
    users = tensor.consumers()
    return users[0] if len(users) == 1 else None


def sizes(graph: Graph, tensor: Any, rank: int) -> list[int | None]:
    """The elements of a shape as far as they are known."""
    while tensor.op.type in PASSING:
        tensor = tensor.op.inputs[0]
    found = graph.constant(tensor)
    if found is not None:
        return [int(n) for n in found]
    if tensor.op.type != "Pack":
        return [None] * rank
    single = [graph.constant(one) for one in tensor.op.inputs]
    return [None if n is None else int(n) for n in single]


def plain(array: Any) -> Any:
    """In the memory order of C; bfloat16 in float32."""
    found = np.asarray(array)
    return np.array(found.astype(np.float32) if found.dtype.kind not in "fiub" else found, order="C")


def short(number: Any) -> float:
    """A float32 as the decimal that it was written as."""
    return float(str(np.float32(number)))


# -- convolutions ------------------------------------------------------------------------------------------------------


def conv(graph: Graph, operation: Any, attributes: Mapping[str, Any], inputs: Any, kind: str) -> Site:
    """A convolution with its surroundings: dilation by rearranging its input, an axis added for 1-D, its bias."""
    transposed = kind in TRANSPOSED
    around = Around(inputs[2 if transposed else 0], operation.outputs[0])
    path = scope(operation.name)
    try:
        kernel = graph.constant(inputs[1])
        if kernel is None:
            raise UnsupportedError(f"its kernel is computed: by {inputs[1].op.type}")
        layer = Conv(kind, attributes, np.asarray(kernel))
        if not transposed:
            around.dilation(graph, layer)
            around.row(layer)
        bias = around.bias(graph, layer)
        spec = layer.transposed_spec(graph, inputs, around.x) if transposed else layer.spec(around.x)
        spec = ConvSpec.from_dict(spec.to_dict() | {"bias": bias is not None})
        params = ConvParams(plain(layer.canonical()), None if bias is None else plain(bias))
        params.check(spec)
        part = Part(path, "conv", kind, Reading(spec, params, layer.layout, known_dtype(str(layer.kernel.dtype))))
    except ConvspecError as error:
        part = Part(path, "conv", kind, problem=str(error))
    return Site(part, around.x, around.y)


@dataclass
class Around:
    """The tensor that a layer reads and the one that it writes, which move as more is found to belong to it."""

    x: Any
    y: Any

    def dilation(self, graph: Graph, layer: Conv) -> None:
        """Merge SpaceToBatchND before it and BatchToSpaceND after it, TensorFlow's dilation without an operator."""
        before, after = self.x.op, only_user(self.y)
        if before.type != "SpaceToBatchND" or after is None or after.type != "BatchToSpaceND":
            return
        numbers = [graph.constant(t) for t in (*before.inputs[1:], after.inputs[2])]
        if any(n is None for n in numbers) or layer.padding != "VALID" or numbers[2][:, 0].any():
            raise UnsupportedError("it is dilated by SpaceToBatchND, whose pads are computed from the input's size")
        block, pads, crops = numbers
        if layer.layout != layouts.CHANNELS_LAST or len(block) != layer.ndim:
            raise UnsupportedError("it is dilated by SpaceToBatchND along other axes than its own")
        layer.dilation = [int(n) for n in block]
        layer.pads = [(int(lo), int(hi - cut)) for (lo, hi), (_, cut) in zip(pads, crops, strict=True)]
        if min(hi for _, hi in layer.pads) < 0:
            raise UnsupportedError("it is dilated by SpaceToBatchND, and its output is cropped")
        layer.padding = "EXPLICIT"
        self.x, self.y = before.inputs[0], after.outputs[0]

    def row(self, layer: Conv) -> None:
        """A convolution along one axis, which TensorFlow computes as one over rows of height 1."""
        before, after = self.x.op, only_user(self.y)
        if before.type != "ExpandDims" or after is None or after.type != "Squeeze" or layer.ndim != 2:
            return
        if layer.kernel.shape[0] == 1 and layer.fits_row():
            layer.drop_row()
            self.x, self.y = before.inputs[0], after.outputs[0]

    def bias(self, graph: Graph, layer: Conv) -> Any:
        """Return the vector that is added to the output, one value per channel; None without one."""
        user = only_user(self.y)
        if user is None or user.type not in ("BiasAdd", "Add", "AddV2"):
            return None
        other = user.inputs[1] if user.inputs[0] is self.y else user.inputs[0]
        vector = graph.constant(other)
        channels = layer.channels_out()
        if vector is None or np.size(vector) != channels:
            return None
        axis = 1 if layer.layout == layouts.CHANNELS_FIRST else -1
        rank = layer.ndim + 2
        wanted = [channels if place == axis % rank else 1 for place in range(rank)]
        shape = list(np.shape(vector))
        if user.type != "BiasAdd" and shape != wanted[rank - len(shape) :]:
            return None
        self.y = user.outputs[0]
        return np.reshape(vector, -1)


class Conv:
    """The settings of a convolution's operator, spatial axes only, as they are understood step by step."""

    def __init__(self, kind: str, attributes: Mapping[str, Any], kernel: Any) -> None:
        self.kind, self.kernel = kind, kernel
        form = attributes["data_format"].s.decode("ascii", "replace")
        self.layout = layouts.CHANNELS_FIRST if form.startswith("NC") else layouts.CHANNELS_LAST
        self.ndim = kernel.ndim - 2
        self.padding = attributes["padding"].s.decode("ascii", "replace")
        self.stride = self._spatial(attributes["strides"].list.i)
        self.dilation = self._spatial(attributes["dilations"].list.i) if "dilations" in attributes else [1] * self.ndim
        given = list(attributes["explicit_paddings"].list.i) if "explicit_paddings" in attributes else []
        sides = self._spatial(list(zip(given[::2], given[1::2], strict=True))) if given else []
        self.pads = [(int(lo), int(hi)) for lo, hi in sides]

    def _spatial(self, values: Any) -> list[Any]:
        found = list(values)
        return found[2:] if self.layout == layouts.CHANNELS_FIRST else found[1:-1]

    def fits_row(self) -> bool:
        """Whether the first axis is nothing but a row."""
        return self.dilation[0] == 1 and (not self.pads or self.pads[0] == (0, 0))

    def drop_row(self) -> None:
        """Forget the first axis."""
        self.kernel, self.ndim = self.kernel[0], 1
        self.stride, self.dilation, self.pads = self.stride[1:], self.dilation[1:], self.pads[1:]

    def channels_out(self) -> int:
        shape = self.kernel.shape
        if self.kind == "DepthwiseConv2dNative":
            return int(shape[-2] * shape[-1])
        return int(shape[-2] if self.kind in TRANSPOSED else shape[-1])

    def canonical(self) -> Any:
        return weights.canonical([self.kernel], depthwise=self.kind == "DepthwiseConv2dNative")

    def channels_in(self, x: Any) -> int:
        """Channels of the input, which a grouped layer's kernel does not tell."""
        if self.kind == "DepthwiseConv2dNative" or x.shape.rank is None:
            return int(self.kernel.shape[-2])
        size = x.shape[1 if self.layout == layouts.CHANNELS_FIRST else -1]
        return int(self.kernel.shape[-2] if size is None else size)

    def spec(self, x: Any) -> ConvSpec:
        channels = self.channels_in(x)
        padding: Any = {"SAME": "same", "VALID": "valid"}.get(self.padding, tuple(self.pads))
        groups = channels if self.kind == "DepthwiseConv2dNative" else channels // int(self.kernel.shape[-2])
        size = self.kernel.shape[: self.ndim]
        out = self.channels_out()
        return ConvSpec(channels, out, size, self.stride, padding, self.dilation, groups, ndim=self.ndim)

    def transposed_spec(self, graph: Graph, inputs: Any, x: Any) -> ConvSpec:
        """A gradient of a convolution as a layer: its pads from the operator's output size.

        The full scatter has (L - 1)·s + k elements; SAME drops the first ⌊(full - O) / 2⌋.
        """
        wanted = self._spatial(sizes(graph, inputs[0], self.ndim + 2))
        given = self._spatial(x.shape.as_list()) if x.shape.rank is not None else [None] * self.ndim
        if None in wanted or None in given or self.padding not in ("SAME", "VALID") or set(self.dilation) != {1}:
            raise UnsupportedError("the size of its output is computed from its input's: not read from a graph")
        kernel = self.kernel.shape[: self.ndim]
        pads, extra = [], []
        for size, length, s, k in zip(wanted, given, self.stride, kernel, strict=True):
            full = (length - 1) * s + k
            lo = max(full - size, 0) // 2 if self.padding == "SAME" else 0
            pads.append((lo, max(full - lo - size, 0)))
            extra.append(max(size - (full - lo), 0))
        same = self.padding == "SAME" and all(n == m * s for n, m, s in zip(wanted, given, self.stride, strict=True))
        return ConvSpec(
            int(self.kernel.shape[-1]), self.channels_out(), kernel, self.stride, "same" if same else tuple(pads),
            transposed=True, output_padding=0 if same else tuple(extra), ndim=self.ndim,
        )  # fmt: skip
