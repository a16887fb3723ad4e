"""Judge the output of one convolution node by the oracle, computed from what the node read.

A user may expect an accuracy class of a provider: it decides what the bounds allow, and probes must measure it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
from onnx import numpy_helper

from convspec import reference
from convspec.contract import LayerRequest
from convspec.corpora import test_data
from convspec.errors import ParamsError, RequestError, ShapeError, SpecError, UnsupportedError
from convspec.reference import Verdict, accuracy_probes, bounds, judge, products
from convspec.spec import DTYPES, ComputePrecision, ConvParams, ConvSpec, format_of, steps
from convspec_onnx import ADAPTER, REFERENCE
from convspec_onnx.graph import Conv, as_float, resolve_layer, to_rows
from convspec_onnx.loading import Array, Arrays, DetachedModel
from convspec_onnx.verify import runtimes
from convspec_onnx.verify.capture import Capture, Segment, extract_segment
from convspec_onnx.verify.quantized import QUANTIZED, judge_quantized
from convspec_onnx.verify.runtimes import EVALUATOR, RunConfig

PrecisionOf = Callable[[ConvSpec, str], ComputePrecision]  # of a layer in a dtype
Judged = tuple[Verdict, Arrays]  # the verdict on a node, and what it read and wrote as ``x`` and ``y``
Expected = tuple[Array, Array, Array | None]  # output, magnitude, elements to ignore

_CLASS_DTYPE = "float32"  # of the layers that a class is about: a provider may compute them more coarsely
_ACTIVATIONS: dict[str, Callable[..., steps.Step]] = {  # of FusedConv, from its parameters in their order
    "LeakyRelu": steps.LeakyReLU, "Tanh": steps.Tanh, "Sigmoid": steps.Sigmoid, "Clip": steps.Clip,
    "HardSigmoid": steps.HardSigmoid,
}  # fmt: skip
_STORED = ("float16", "bfloat16")  # formats that a provider also stores tensors in; tf32 rounds inputs only
_MAX_OUTPUT = 1 << 48  # elements: beyond, allocation fails with other errors than MemoryError
NOT_RUN = "not run: with these inputs the node is in a branch that is not taken, or in a loop with no iteration"


@dataclass
class ExpectedCache:
    """The oracle's result for one input; the next optimisation level mostly has the same input."""

    x: Array | None = None
    params: ConvParams | None = None
    expected: Expected | None = None


def judge_node(
    conv: Conv, values: Arrays, precision: PrecisionOf, cache: ExpectedCache | None = None, *, unrounded: bool = False
) -> Judged:
    """Return the verdict on a node, and its input and output as ``x`` and ``y``, iterations of a loop as samples.

    ``unrounded``: the runtime may have kept the input in a finer format than the captured one.
    """
    if not conv.judged:
        return Verdict("unsupported", conv.problem), {}
    try:
        inputs = [_value(conv, name, values) for name in conv.node.input]
        y = values[conv.node.output[0]]
    except KeyError as error:
        return Verdict("error", f"tensor {error} was not captured"), {}
    if any(v is not None and v.ndim == 1 and not v.size for v in (inputs[0], y)):
        return Verdict("unsupported", NOT_RUN), {}
    try:
        if conv.rows:
            x, y = to_rows(values[conv.data], conv.rows[1]), to_rows(y, conv.rows[2])
            return _judge_floating(conv, x, y, precision, cache or ExpectedCache()), {"x": x, "y": y}
        return _judge_operator(conv, inputs, y, precision, cache or ExpectedCache(), unrounded=unrounded)
    except (SpecError, ParamsError, ShapeError) as error:
        return Verdict("error", f"not a valid layer: {error}"), {}
    except (UnsupportedError, RequestError) as error:
        return Verdict("unsupported", str(error)), {}


def run_node(model: onnx.ModelProto, node: onnx.NodeProto, values: Arrays, element: int, config: RunConfig) -> Arrays:
    """Run one node of ``model`` by itself on ``values``; ``element``: the element type of its output."""
    small = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    for name, value in values.items():
        if name != node.input[0]:  # some runtimes take no weights as inputs
            small.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    feeds = {node.input[0]: values[node.input[0]]}
    output = [Capture(node.output[0], node.output[0], element, ())]
    built, names = extract_segment(small, Segment([node], []), feeds, set(), output)
    return runtimes.run(DetachedModel(built), feeds, names, config)


def node_arrays(conv: Conv, values: Arrays) -> Arrays:
    """Return a node's input and output as ``x`` and ``y``, not judged; nothing if it did not run."""
    x, y = values.get(conv.data), values.get(conv.node.output[0])
    if x is None or y is None:
        return {}
    if conv.rows:
        return {"x": to_rows(x, conv.rows[1]), "y": to_rows(y, conv.rows[2])}
    ndim = conv.spec.ndim + 2 if conv.spec else 0
    if min(x.ndim, y.ndim) < max(ndim, 2):
        return {}
    return {name: conv.canonical(_stack(a, ndim) if ndim else a) for name, a in (("x", x), ("y", y))}


def _value(conv: Conv, name: str, values: Arrays) -> Array | None:
    if not name:
        return None
    constant = conv.scope.constant(name)
    return constant if constant is not None else values[name]


def _judge_operator(
    conv: Conv, inputs: list[Array | None], y: Array, precision: PrecisionOf, cache: ExpectedCache, *, unrounded: bool
) -> Judged:
    x, weight = inputs[0], inputs[3 if conv.node.op_type == "QLinearConv" else 1]
    if x is None or weight is None:
        raise SpecError(["the node must have an input and a weight"])
    x, y = (conv.canonical(_stack(a, weight.ndim)) for a in (x, y))
    arrays = {"x": x, "y": y}
    if conv.node.op_type in QUANTIZED:
        return judge_quantized(conv, x, weight, inputs, y), arrays
    computed = any(conv.scope.constant(name) is None for name in (conv.weight, conv.bias) if name)
    if conv.params is None or computed or conv.attributes.get("output_shape"):
        resolve_layer(conv, weight, inputs[2] if len(inputs) > 2 else None, x.shape)
    addend = inputs[3] if len(inputs) > 3 else None
    addend = None if addend is None else conv.canonical(_stack(addend, weight.ndim))
    return _judge_floating(conv, x, y, precision, cache, addend, unrounded=unrounded), arrays


def _judge_floating(
    conv: Conv, x: Array, y: Array, precision: PrecisionOf, cache: ExpectedCache, addend: Array | None = None, *,
    unrounded: bool = False,
) -> Verdict:  # fmt: skip
    spec, params = conv.spec, conv.params
    assert spec is not None
    assert params is not None
    dtype = str(y.dtype)
    if dtype not in DTYPES:
        raise UnsupportedError(f"convspec does not judge a convolution of {dtype}")
    expected, size, ignore = expected_output(spec, params, as_float(x), cache)
    arithmetic = precision(spec, dtype)
    if arithmetic.inputs and format_of(arithmetic.inputs).emin > format_of(dtype).emin:
        size = _lifted_magnitude(spec, params, as_float(x), format_of(arithmetic.inputs).smallest_normal)
    if unrounded:  # each number of x is off by half a unit in the last place of its format
        form = format_of(str(x.dtype))
        moved = _lifted_magnitude(spec, replace(params, bias=None), as_float(x), form.smallest_normal)
        size = size + moved * (form.unit_roundoff / bounds(dtype, products(spec), arithmetic).relative)
    expected, size, terms = _fuse(conv, expected, size, addend, dtype, arithmetic)
    return judge(as_float(y), expected, size, dtype=dtype, data="captured", products=terms,
                 arithmetic=arithmetic, ignore=ignore)  # fmt: skip


def _fuse(
    conv: Conv, expected: Array, size: Array, addend: Array | None, dtype: str, arithmetic: ComputePrecision
) -> tuple[Array, Array, int]:
    """Return output, magnitude and number of products with the addend and the activation that the node contains.

    The magnitude is enlarged so that the bound of a sum of products covers the activation, too.
    """
    assert conv.spec is not None
    terms, activation = products(conv.spec), conv.attributes.get("activation", "")
    if addend is not None:
        if addend.shape != expected.shape:
            raise SpecError([f"Z of shape {addend.shape} must have the output's shape {expected.shape}"])
        expected, size, terms = expected + as_float(addend), size + np.abs(as_float(addend)), terms + 1
    if activation == "Relu":
        return np.maximum(expected, 0), size, terms  # moves no two numbers further apart: the bound holds
    if not activation:
        return expected, size, terms
    if activation not in _ACTIVATIONS:
        raise UnsupportedError(f"convspec does not judge a convolution fused with {activation}")
    step = _ACTIVATIONS[activation](*conv.attributes.get("activation_params", ()))
    limits = bounds(dtype, terms, arithmetic)
    errors = [limits.relative * size + limits.absolute]
    ((expected, error),) = reference.steps.evaluate_bounded(step, [expected], dtype=dtype, errors=errors)
    return expected, np.maximum(error - limits.absolute, 0) / limits.relative, terms


def replacement(conv: Conv, values: Arrays) -> Array:
    """Return the oracle's output of a node that did not run, in the dtype of its input.

    Raises:
        RequestError: for computed weights, and for quantised layers.
    """
    if conv.spec is None or conv.params is None or not conv.judged or conv.node.op_type in QUANTIZED:
        raise RequestError("the oracle cannot compute its output")
    x = values[conv.data]
    expected, size, _ = expected_output(conv.spec, conv.params, as_float(conv.canonical(x)))
    name = conv.node.input[3] if len(conv.node.input) > 3 else ""
    addend = conv.canonical(values[name]) if name else None
    expected, _, _ = _fuse(conv, expected, size, addend, str(x.dtype), ComputePrecision("float32"))
    return (np.moveaxis(expected, 1, -1) if conv.channels_last else expected).astype(x.dtype)


def _lifted_magnitude(spec: ConvSpec, params: ConvParams, x: Array, least: float) -> Array:
    """Return G with every number but 0 at least ``least``, the smallest normal one of the format of rounded inputs.

    Rounding to that format costs at most u·max(|x|, least), so the bound of rounded inputs holds with this G.
    """

    def lift(a: Array) -> Array:
        return np.where(a == 0, 0, np.maximum(np.abs(a), least)).astype(a.dtype)

    return reference.magnitude(spec, ConvParams(lift(params.kernel), params.bias), lift(x))


def expected_output(spec: ConvSpec, params: ConvParams, x: Array, cache: ExpectedCache | None = None) -> Expected:
    """Return the oracle's output, its magnitude, and the elements to ignore: those of an infinite weight on a pad."""
    cache = cache or ExpectedCache()
    old = cache.params
    if cache.expected and old and old.kernel is params.kernel and old.bias is params.bias and (
        cache.x is not None and np.array_equal(cache.x, x, equal_nan=True)
    ):  # fmt: skip
        return cache.expected
    with np.errstate(invalid="ignore", over="ignore"):
        output, magnitude = _oracle(spec, params, x), reference.magnitude(spec, params, x)
    ignore = None if np.isfinite(params.kernel).all() else test_data.uncompared(spec, params, x.shape)
    cache.x, cache.params, cache.expected = x, params, (output, magnitude, ignore)
    return cache.expected


def _oracle(spec: ConvSpec, params: ConvParams, x: Array) -> Array:
    """Return the oracle's output; raise MemoryError for one that no machine holds (NumPy raises ValueError)."""
    if math.prod(spec.output_shape(x.shape)) > _MAX_OUTPUT:
        raise MemoryError
    return reference.conv(spec, params, x)


def _stack(array: Array, ndim: int) -> Array:
    """Return the iterations of a loop as samples: a convolution treats every sample alike."""
    return array.reshape(-1, *array.shape[1 - ndim :]) if array.ndim > ndim else array


# -- accuracy classes ---


@dataclass
class AccuracyClasses:
    """The expected class by provider; the class of each layer is measured once per run configuration.

    Attributes:
        model: defines the opsets of the measured nodes; None without expectations.
    """

    expected: Mapping[str, str] = field(default_factory=dict)
    model: onnx.ModelProto | None = None
    measured: dict[tuple[ConvSpec, tuple[int, ...], RunConfig], Verdict] = field(default_factory=dict)

    def judge(self, conv: Conv, values: Arrays, config: RunConfig, cache: ExpectedCache | None = None) -> Judged:
        """Return the verdict on a node as :func:`judge_node` does; a layer of another class disagrees."""
        name = self.expected.get(config.provider) if config.level != EVALUATOR else None

        def precision(spec: ConvSpec, dtype: str) -> ComputePrecision:
            adapter = REFERENCE if config.level == EVALUATOR else ADAPTER
            own = adapter.compute_precision(spec, LayerRequest(dtype=dtype))
            return own if name is None or dtype != _CLASS_DTYPE else precision_of_class(name, own)

        verdict, arrays = judge_node(conv, values, precision, cache)
        if verdict.verdict == "disagree" and config.level != EVALUATOR:
            verdict = self.judge_unrounded(conv, values, config, precision, verdict)
        if name is None or verdict.verdict != "agree" or not arrays:
            return verdict, arrays
        measured = self.measure(conv, arrays, config, name)
        if measured is None:
            return verdict, arrays
        if measured.verdict != "agree":
            return replace(measured, evidence={**verdict.evidence, **measured.evidence}), arrays
        return replace(verdict, accuracy_class=measured.accuracy_class), arrays

    def judge_unrounded(
        self, conv: Conv, values: Arrays, config: RunConfig, precision: PrecisionOf, verdict: Verdict
    ) -> Verdict:
        """Return a legal verdict where the runtime keeps float32 between two nodes of float16, else ``verdict``.

        The result must be within the bound of an input that was not rounded, and the node by itself, which reads the
        rounded input, must agree.
        """
        y = values[conv.node.output[0]]
        if self.model is None or conv.rows or y.dtype != np.float16 or conv.scope.producer(conv.data) is None:
            return verdict
        wide, _ = judge_node(conv, values, precision, unrounded=True)
        if wide.verdict != "agree":
            return verdict
        inputs = {name: array for name in conv.node.input if (array := _value(conv, name, values)) is not None}
        try:
            alone = run_node(self.model, conv.node, inputs, onnx.TensorProto.FLOAT16, config)
        except runtimes.RunError:
            return verdict
        if judge_node(conv, values | alone, precision)[0].verdict != "agree":
            return verdict
        title = (f"the runtime keeps {conv.data!r} in float32: the result is right for an input that is not rounded to "
                 f"float16, and {verdict.evidence.get('wrong')} of {y.size} elements are not for the rounded one; both "
                 f"are legal")  # fmt: skip
        note = {"id": "kept-in-float32", "title": title, "level": "info"}
        return replace(wide, evidence={**wide.evidence, "notes": [note]})

    def measure(self, conv: Conv, arrays: Arrays, config: RunConfig, name: str) -> Verdict | None:
        """Return whether probes of a node's layer measure the class ``name``; None for a layer without a class."""
        spec = conv.spec
        if spec is None or str(arrays["y"].dtype) != _CLASS_DTYPE or conv.node.op_type not in ("Conv", "ConvTranspose"):
            return None
        shape = (1, *arrays["x"].shape[1:])
        if (spec, shape, config) not in self.measured:
            self.measured[spec, shape, config] = self._measure(conv, spec, shape, config, name)
        return self.measured[spec, shape, config]

    def _measure(self, conv: Conv, spec: ConvSpec, shape: tuple[int, ...], config: RunConfig, name: str) -> Verdict:
        probes = accuracy_probes.probes(spec, shape, _CLASS_DTYPE)
        outputs = {probe.name: self._run(conv, probe, config) for probe in probes}
        if any(outputs[probe.name].shape != probe.expected.shape for probe in probes):
            return Verdict("disagree", "shape: the output of a probe has another shape")
        measured = accuracy_probes.measure(probes, outputs)
        if measured.name is None and all(np.array_equal(outputs[probe.name], probe.expected) for probe in probes):
            return Verdict("agree")  # every output is zero, as it must be: no class can be measured
        evidence = {"inputs": measured.inputs, "accumulator": measured.accumulator, "expected_class": name}
        if measured.name == name:
            return Verdict("agree", "", measured.name, evidence)
        parts = f"inputs {measured.inputs or 'unknown'}, sums {measured.accumulator or 'unknown'}"
        kind = measured.name or "no known class"
        reason = f"precision: measured {kind} ({parts}), expected {name} of {config.provider}"
        return Verdict("disagree", reason, measured.name, evidence)

    def _run(self, conv: Conv, probe: accuracy_probes.Probe, config: RunConfig) -> Array:
        assert self.model is not None
        node = onnx.NodeProto()
        node.CopyFrom(conv.node)
        values: Arrays = {node.input[0]: probe.x, node.input[1]: probe.params.kernel}
        if probe.params.bias is not None:
            values[node.input[2]] = probe.params.bias
        return run_node(self.model, node, values, onnx.TensorProto.FLOAT, config)[node.output[0]]


def precision_of_class(name: str, own: ComputePrecision) -> ComputePrecision:
    """Return how a layer of that class may compute; ``own``: how it computes without one."""
    if format_of(name).digits >= format_of(_CLASS_DTYPE).digits:
        return own
    return replace(own, inputs=name, stored=name if name in _STORED else None)
