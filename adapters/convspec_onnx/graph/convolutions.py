"""The convolutions of an ONNX graph: where each stands, what it is, and what is known of its tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper

from convspec.errors import RequestError, SpecError, UnsupportedError
from convspec.spec import ConvParams
from convspec_onnx.graph.constants import array_of, computed
from convspec_onnx.loading.inline_functions import bodies
from convspec_onnx.parse import spec_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec.spec import ConvSpec, Pads
    from convspec_onnx.loading.large_weights import Lean

OPERATORS = ("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "FusedConv")
_WEIGHT = {"QLinearConv": 3}  # place among the inputs; 1 for all others
_BIAS = {"QLinearConv": 8, "ConvInteger": None}  # 2 for all others
_ELEMENTS = frozenset(map(int, helper.get_all_tensor_dtypes()))
_POSITIVE = ("strides", "dilations", "kernel_shape", "group")


@dataclass
class Scope:
    """One graph: its constants, the maker of each tensor, the declared shapes, and the graph around it."""

    proto: onnx.GraphProto
    outer: Scope | None = None
    weights: Mapping[str, NDArray[Any]] = field(default_factory=dict)  # those that stand beside the graph
    known: dict[str, NDArray[Any] | None] = field(default_factory=dict)
    readers: dict[str, list[onnx.NodeProto]] | None = None  # made on first use

    def __post_init__(self) -> None:
        self.tensors = {tensor.name: tensor for tensor in self.proto.initializer}
        self.makers = {name: node for node in self.proto.node for name in node.output if name}
        entries = (*self.proto.input, *self.proto.value_info, *self.proto.output)
        self.declared = {e.name: e.type.tensor_type for e in entries if e.type.HasField("tensor_type")}

    def maker(self, name: str) -> onnx.NodeProto | None:
        return self.makers.get(name) or (self.outer.maker(name) if self.outer and name not in self.tensors else None)

    def constant(self, name: str) -> NDArray[Any] | None:
        """The value of a tensor that follows from the file alone; None where it depends on an input."""
        if name not in self.known:
            self.known[name] = None  # a circle of bodies ends here
            self.known[name] = self._constant(name)
        return self.known[name]

    def _constant(self, name: str) -> NDArray[Any] | None:
        if name in self.weights:
            return self.weights[name]
        if name in self.tensors:
            return array_of(self.tensors[name])
        node = self.makers.get(name)
        if node is None:
            return self.outer.constant(name) if self.outer else None
        element = self.element(node.input[1]) if node.op_type == "CastLike" else 0
        values = [self.constant(entry) if entry else None for entry in node.input]
        while values and values[-1] is None and not node.input[len(values) - 1]:
            values.pop()
        if node.op_type == "Reshape" and len(values) == 2 and values[1] is None:
            values[1] = self._open(node.input[1])
        return computed(node, values, element)

    def _open(self, name: str) -> NDArray[Any] | None:
        """A joined shape of which one size depends on an input, as -1: what is reshaped has so many numbers."""
        node = self.makers.get(name)
        if node is None or node.op_type != "Concat":
            return None
        parts = [(self.constant(entry), self.shape(entry)) for entry in node.input]
        if [shape for value, shape in parts if value is None] != [(1,)]:
            return None
        if any(value is not None and value.dtype.kind != "i" for value, _ in parts):
            return None  # no shape at all
        found = [np.array([-1]) if value is None else value.reshape(-1) for value, _ in parts]
        return np.concatenate(found)

    def element(self, name: str) -> int:
        """The type of a tensor's elements as ONNX numbers it; 0 where it is not known, or none of ONNX's."""
        if name in self.tensors:
            return _known(self.tensors[name].data_type)
        if name in self.declared:
            return _known(self.declared[name].elem_type)
        return self.outer.element(name) if self.outer else 0

    def shape(self, name: str) -> tuple[int | str, ...] | None:
        """The declared or inferred shape, symbols by their names; None where the rank is not known."""
        if name in self.tensors:
            return tuple(self.tensors[name].dims)
        found = self.declared.get(name)
        if found is None:
            return self.outer.shape(name) if self.outer else None
        if not found.HasField("shape"):
            return None
        return tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in found.shape.dim)


def _known(element: int) -> int:
    return element if element in _ELEMENTS else 0


@dataclass
class Conv:
    """One convolution node.

    Attributes:
        path: unique in the model; the nodes that its body belongs to stand before it.
        owners: for a node in bodies, (node, attribute) from the outermost one in.
        spec: None where the node describes no layer, or one that only a run can tell.
        params: None where the weights are computed.
        problem: why there is no spec.
        rows: for a product of matrices that stands for a convolution: which axes of what it reads and writes are the
            channels, and the name of what it reads.
        joined: of a part of a layer: where its channels go (:class:`~convspec_onnx.graph.epilogue.Behind`).
    """

    path: str
    node: onnx.NodeProto
    scope: Scope
    owners: tuple[tuple[str, str], ...]
    spec: ConvSpec | None = None
    params: ConvParams | None = None
    problem: str = ""
    notes: list[dict[str, str]] = field(default_factory=list)
    rows: tuple[str, int, int] | None = None
    joined: tuple[str, int, int] | None = None

    @property
    def attributes(self) -> dict[str, Any]:
        return {a.name: value_of(a) for a in self.node.attribute}

    @property
    def data(self) -> str:
        """The tensor that it convolves."""
        return self.rows[0] if self.rows else str(self.node.input[0])

    @property
    def weight(self) -> str:
        if self.rows:
            return str(self.node.input[1 if self.node.input[0] == self.rows[0] else 0])
        return str(self.node.input[_WEIGHT.get(self.node.op_type, 1)])

    @property
    def bias(self) -> str:
        place = _BIAS.get(self.node.op_type, 2)
        return str(self.node.input[place]) if place is not None and len(self.node.input) > place else ""

    def note(self, name: str, title: str, level: str = "info") -> None:
        self.notes.append({"id": name, "title": title, "level": level})


def convs(model: Lean) -> list[Conv]:
    """Every convolution of a model without functions, in the order of its nodes.

    Raises:
        RequestError: for strides, dilations, kernels or groups below 1 and for negative pads.
    """
    found = list(_walk(Scope(model.graph, weights=model.weights), "", ()))
    for conv in found:
        _describe(conv)
    return found


def _walk(scope: Scope, prefix: str, owners: tuple[tuple[str, str], ...]) -> Iterator[Conv]:
    for index, node in enumerate(scope.proto.node):
        path = f"{prefix}{node.name or f'{node.op_type}_{index}'}"
        if node.op_type in OPERATORS and node.domain in ("", "ai.onnx", "com.microsoft") and len(node.input) > 1:
            yield Conv(path, node, scope, owners)
        for attribute in node.attribute:
            for body in bodies(attribute):
                inside = (*owners, (node.name, attribute.name))
                yield from _walk(Scope(body, scope), f"{path}/{attribute.name}/", inside)


def _describe(conv: Conv) -> None:
    attributes = conv.attributes
    for name in _POSITIVE:
        given = attributes.get(name)
        values = (given,) if isinstance(given, int) else given or ()
        if any(not isinstance(n, int) or n < 1 for n in values):
            raise RequestError(f"node {conv.path!r}: {name}={list(values)} must be positive")
    if any(n < 0 for n in attributes.get("pads") or ()):
        raise RequestError(f"node {conv.path!r}: pads={list(attributes['pads'])} must not be negative")
    kernel = conv.scope.constant(conv.weight)
    bias = conv.scope.constant(conv.bias) if conv.bias else None
    if kernel is None or (conv.bias and bias is None):
        conv.problem = "its weights are computed, or given from outside"
        return
    try:
        fix(conv, kernel, bias, conv.scope.shape(conv.node.input[0]))
    except (SpecError, UnsupportedError) as error:
        conv.problem = str(error)


def fix(
    conv: Conv, kernel: NDArray[Any], bias: NDArray[Any] | None, shape: Sequence[int | str] | None
) -> tuple[ConvSpec, ConvParams]:
    """Give a node its spec and parameters, from its weights and the shape of its input.

    Raises:
        SpecError: where the attributes contradict one another or the weights.
        UnsupportedError: where ``output_shape`` needs sizes that are not known.
    """
    attributes = conv.attributes
    if kernel.ndim < 3:
        raise SpecError([f"W={list(kernel.shape)} must have at least one spatial axis"])
    if attributes.get("output_shape"):
        spatial = [n for n in (shape or ())[2:] if isinstance(n, int)]
        if len(spatial) != kernel.ndim - 2:
            raise UnsupportedError("output_shape leaves pads that depend on the input's size, which is not known")
        attributes = resolved(attributes, kernel.shape[2:], spatial)
    transposed = conv.node.op_type == "ConvTranspose"
    groups = attributes.get("group") or 1
    if kernel.shape[0] % groups:
        raise SpecError([f"group={groups} must divide W's first axis, {kernel.shape[0]}"])
    spec = spec_of(attributes, kernel.shape, bias=bias is not None, transposed=transposed)
    if bias is not None and bias.shape != (spec.out_channels,):
        raise SpecError([f"B of shape {list(bias.shape)} must hold {spec.out_channels} numbers"])
    params = ConvParams(as_float(kernel), None if bias is None else as_float(bias))
    conv.spec, conv.params, conv.problem = spec, params, ""
    return spec, params


def resolved(attributes: dict[str, Any], kernel: Sequence[int], spatial: Sequence[int]) -> dict[str, Any]:
    """``pads`` instead of ``output_shape``: the odd cell at the end for SAME_UPPER, else in front, as ONNX says."""
    ndim = len(kernel)
    ones, zeros = (1,) * ndim, (0,) * ndim
    strides, dilations = attributes.get("strides") or ones, attributes.get("dilations") or ones
    extra = list(attributes.get("output_padding") or zeros)
    lows, highs = [], []
    wanted = attributes["output_shape"][-ndim:]
    for axis, (n, s, k, d, out) in enumerate(zip(spatial, strides, kernel, dilations, wanted, strict=True)):
        total = (n - 1) * s + (k - 1) * d + 1 + extra[axis] - out
        if total < 0:
            extra[axis], total = extra[axis] - total, 0
        low = total // 2 if attributes.get("auto_pad") == "SAME_UPPER" else total - total // 2
        lows.append(low)
        highs.append(total - low)
    kept = {k: v for k, v in attributes.items() if k not in ("output_shape", "auto_pad")}
    return kept | {"pads": (*lows, *highs), "output_padding": tuple(extra)}


def as_float(values: NDArray[Any]) -> NDArray[Any]:
    """Integers as float64, which holds them all; what NumPy has no type for (bfloat16) as float32."""
    if values.dtype.kind in "iub":
        return values.astype(np.float64)
    return values if values.dtype.kind == "f" else values.astype(np.float32)


def pad_before(conv: Conv) -> Pads | None:
    """The cells that a Pad right before the node adds; zeros where there is none, None where they are not known."""
    ndim = conv.spec.ndim if conv.spec else 0
    none = ((0, 0),) * ndim
    node = conv.scope.maker(conv.node.input[0])
    if node is None or node.op_type != "Pad" or conv.spec is None:
        return none
    attributes = {a.name: value_of(a) for a in node.attribute}
    flat = conv.scope.constant(node.input[1]) if len(node.input) > 1 else attributes.get("pads")
    axes = conv.scope.constant(node.input[3]) if len(node.input) > 3 else np.arange(ndim + 2)
    value = conv.scope.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
    plain = attributes.get("mode", "constant") == "constant" and value is not None and not np.any(value)
    if flat is None or axes is None or not plain or len(flat) != 2 * len(axes) or conv.spec.transposed:
        return None
    half = len(axes)
    pairs = {int(a) % (ndim + 2): (int(flat[i]), int(flat[half + i])) for i, a in enumerate(axes)}
    if any(map(any, (pairs.get(i, (0, 0)) for i in (0, 1)))) or any(n < 0 for pair in pairs.values() for n in pair):
        return None
    return tuple(pairs.get(i + 2, (0, 0)) for i in range(ndim))


def value_of(attribute: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, int | float) or not hasattr(value, "__iter__") else tuple(value)
