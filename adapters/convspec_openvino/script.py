"""A model run by plain OpenVINO, as text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from convspec.errors import UnsupportedError

if TYPE_CHECKING:
    from convspec.contract import Plan

_WEIGHTS = re.compile(r'np\.zeros\((\(.*\)), np\.float32\), name="(weight|bias)"')
_RUN = """
compiled = ov.Core().compile_model(layer, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
actual = np.array(compiled(np.ascontiguousarray(inputs))[0])
"""


def script(plan: Plan, device: str, direction: str, variant: str, adapter: str) -> str:  # noqa: ARG001
    """Code that makes the model with ``kernel`` and ``bias`` in it, and computes ``actual``.

    Raises:
        UnsupportedError: for gradients.
    """
    if direction != "forward":
        raise UnsupportedError("OpenVINO has no gradients: a compiled model runs forward only")

    def weights(found: re.Match[str]) -> str:
        array = "kernel" if found[2] == "weight" else "bias"
        return f'{array}.reshape({found[1]}), name="{found[2]}"'

    return f"inputs = x  # the model has an x of its own\n\n{_WEIGHTS.sub(weights, plan.text)}{_RUN}"
