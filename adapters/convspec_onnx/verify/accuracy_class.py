"""The accuracy class that the user expects of a provider: what it allows, and whether probes measure it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from convspec.contract import LayerRequest
from convspec.reference import Verdict, accuracy_probes
from convspec.spec import ComputePrecision, ConvSpec, format_of
from convspec_onnx import ADAPTER, REFERENCE
from convspec_onnx.graph import Conv
from convspec_onnx.loading import Array, Arrays
from convspec_onnx.verify.judge import ExpectedCache, judge_node, run_node
from convspec_onnx.verify.runtimes import EVALUATOR, RunConfig

DTYPE = "float32"  # of the layers that a class is about: a provider may compute them more coarsely
_STORED = ("float16", "bfloat16")  # formats that a provider also stores tensors in; tf32 rounds inputs only


@dataclass
class AccuracyClasses:
    """The expected class by provider; the class of each layer is measured once per run configuration.

    Attributes:
        model: defines the opsets of the measured nodes; None without expectations.
    """

    expected: Mapping[str, str] = field(default_factory=dict)
    model: onnx.ModelProto | None = None
    measured: dict[tuple[ConvSpec, tuple[int, ...], RunConfig], Verdict] = field(default_factory=dict)

    def judge(
        self, conv: Conv, values: Arrays, config: RunConfig, cache: ExpectedCache | None = None
    ) -> tuple[Verdict, Arrays]:
        """Return the verdict on a node as :func:`judge_node` does; a layer of another class disagrees."""
        name = self.expected.get(config.provider) if config.level != EVALUATOR else None

        def precision(spec: ConvSpec, dtype: str) -> ComputePrecision:
            own = (REFERENCE if config.level == EVALUATOR else ADAPTER).compute_precision(
                spec, LayerRequest(dtype=dtype)
            )
            return own if name is None or dtype != DTYPE else precision_of_class(name, own)

        verdict, arrays = judge_node(conv, values, precision, cache)
        if name is None or verdict.verdict != "agree" or not arrays:
            return verdict, arrays
        measured = self.measure(conv, arrays, config, name)
        if measured is None:
            return verdict, arrays
        if measured.verdict != "agree":
            return replace(measured, evidence={**verdict.evidence, **measured.evidence}), arrays
        return replace(verdict, accuracy_class=measured.accuracy_class), arrays

    def measure(self, conv: Conv, arrays: Arrays, config: RunConfig, name: str) -> Verdict | None:
        """Return whether probes of a node's layer measure the class ``name``; None for a layer without a class."""
        spec = conv.spec
        if spec is None or str(arrays["y"].dtype) != DTYPE or conv.node.op_type not in ("Conv", "ConvTranspose"):
            return None
        shape = (1, *arrays["x"].shape[1:])
        if (spec, shape, config) not in self.measured:
            self.measured[spec, shape, config] = self._measure(conv, spec, shape, config, name)
        return self.measured[spec, shape, config]

    def _measure(self, conv: Conv, spec: ConvSpec, shape: tuple[int, ...], config: RunConfig, name: str) -> Verdict:
        probes = accuracy_probes.probes(spec, shape, DTYPE)
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
    if format_of(name).digits >= format_of(DTYPE).digits:
        return own
    return replace(own, inputs=name, stored=name if name in _STORED else None)
