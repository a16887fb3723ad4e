"""A model run by plain OpenVINO, as text."""

from __future__ import annotations

import re

from convspec.contract import Adapter, LayerRequest, Plan
from convspec.errors import UnsupportedError

_WEIGHTS = re.compile(r'np\.zeros\((\(.*\)), np\.float32\), name="(weight|bias)"')
_RUN = """
compiled = ov.Core().compile_model(layer, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
actual = np.array(compiled(np.ascontiguousarray(inputs))[0])
"""


def script(plan: Plan, request: LayerRequest, adapter: Adapter) -> str:  # noqa: ARG001 – the contract's
    """Return code that builds the model with ``kernel`` and ``bias`` as constants, and computes ``actual``.

    Raises:
        UnsupportedError: for gradients.
    """
    if request.direction != "forward":
        raise UnsupportedError("OpenVINO has no gradients: a compiled model runs forward only")

    def weights(match: re.Match[str]) -> str:
        array = "kernel" if match[2] == "weight" else "bias"
        return f'{array}.reshape({match[1]}), name="{match[2]}"'

    return f"inputs = x  # the model has an x of its own\n\n{_WEIGHTS.sub(weights, plan.text)}{_RUN}"
