"""The accuracy class that is expected of an execution provider: what it allows, and whether it is what is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from convspec.contract import LayerRequest
from convspec.reference import Verdict, accuracy_probes
from convspec.spec import ComputePrecision, format_of
from convspec_onnx import ADAPTER, REFERENCE
from convspec_onnx.verify import judge
from convspec_onnx.verify.runtimes import EVALUATOR, Arm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec.spec import ConvSpec
    from convspec_onnx.graph.convolutions import Conv

    Arrays = dict[str, NDArray[Any]]

DTYPE = "float32"  # of the layers that a class is about: those that a provider may compute more coarsely
_KEPT = ("float16", "bfloat16")  # formats that a provider keeps its tensors in, too; tf32 is one of inputs only


@dataclass
class Classes:
    """What is expected, by provider; each layer's class is measured once on each arm.

    Attributes:
        model: whose opsets the measured nodes are read by; None where nothing is expected.
    """

    expected: Mapping[str, str] = field(default_factory=dict)
    model: onnx.ModelProto | None = None
    measured: dict[tuple[ConvSpec, tuple[int, ...], Arm], Verdict] = field(default_factory=dict)

    def judged(self, conv: Conv, values: Arrays, arm: Arm, kept: judge.Right | None = None) -> tuple[Verdict, Arrays]:
        """The verdict on a node, as :func:`judging.judged`; a layer of another class than the expected disagrees."""
        name = self.expected.get(arm.provider) if arm.level != EVALUATOR else None

        def arithmetic(spec: ConvSpec, dtype: str) -> ComputePrecision:
            own = (REFERENCE if arm.level == EVALUATOR else ADAPTER).compute_precision(spec, LayerRequest(dtype=dtype))
            return own if name is None or dtype != DTYPE else of_class(name, own)

        found, arrays = judge.judged(conv, values, arithmetic, kept)
        if name is None or found.verdict != "agree" or not arrays:
            return found, arrays
        shown = self.measure(conv, arrays, arm, name)
        if shown is None:
            return found, arrays
        if shown.verdict != "agree":
            return replace(shown, evidence={**found.evidence, **shown.evidence}), arrays
        return replace(found, accuracy_class=shown.accuracy_class), arrays

    def measure(self, conv: Conv, arrays: Arrays, arm: Arm, name: str) -> Verdict | None:
        """Whether the probes of a node's layer show the class ``name``; None for a layer that has none."""
        spec = conv.spec
        if spec is None or str(arrays["y"].dtype) != DTYPE or conv.node.op_type not in ("Conv", "ConvTranspose"):
            return None
        shape = (1, *arrays["x"].shape[1:])
        if (spec, shape, arm) not in self.measured:
            self.measured[spec, shape, arm] = self._measured(conv, spec, shape, arm, name)
        return self.measured[spec, shape, arm]

    def _measured(self, conv: Conv, spec: ConvSpec, shape: tuple[int, ...], arm: Arm, name: str) -> Verdict:
        found = accuracy_probes.probes(spec, shape, DTYPE)
        outputs = {probe.name: self._run(conv, probe, arm) for probe in found}
        if any(outputs[probe.name].shape != probe.expected.shape for probe in found):
            return Verdict("disagree", "shape: with a probe's input the node gives another one")
        shown = accuracy_probes.measure(found, outputs)
        if shown.name is None and all(np.array_equal(outputs[probe.name], probe.expected) for probe in found):
            return Verdict("agree")  # every output is zero, as it must be: no class shows itself
        evidence = {"inputs": shown.inputs, "accumulator": shown.accumulator, "expected_class": name}
        if shown.name == name:
            return Verdict("agree", "", shown.name, evidence)
        parts = f"inputs {shown.inputs or 'unknown'}, sums {shown.accumulator or 'unknown'}"
        reason = (
            f"precision: measured {shown.name or 'none that is known'} ({parts}), expected {name} of {arm.provider}"
        )
        return Verdict("disagree", reason, shown.name, evidence)

    def _run(self, conv: Conv, probe: accuracy_probes.Probe, arm: Arm) -> NDArray[Any]:
        assert self.model is not None
        node = onnx.NodeProto()
        node.CopyFrom(conv.node)
        values: Arrays = {node.input[0]: probe.x, node.input[1]: probe.params.kernel}
        if probe.params.bias is not None:
            values[node.input[2]] = probe.params.bias
        return judge.once(self.model, node, values, onnx.TensorProto.FLOAT, arm)[node.output[0]]


def of_class(name: str, own: ComputePrecision) -> ComputePrecision:
    """How a layer of that class may compute, where ``own`` is how it computes without one."""
    if format_of(name).digits >= format_of(DTYPE).digits:
        return own
    return replace(own, inputs=name, stored=name if name in _KEPT else None)
