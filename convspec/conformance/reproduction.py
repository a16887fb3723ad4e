"""The line that checks one result again."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from convspec.spec import ConvSpec

if TYPE_CHECKING:
    from convspec.conformance.results import Result


def reproduction(result: Result, *limits: str) -> str:
    """A shell command that checks this one case, adapter and layout again, within the limits if any are given."""
    case = result.case
    if isinstance(recorded := result.evidence.get("recorded"), dict):
        asked = [str(recorded.get("folder")), "--adapters", result.request, "--recorded", str(recorded.get("by"))]
        asked += ["--case", case.id, "--devices", case.device, "--precision", result.precision]
        return f"convspec replay {shlex.join(asked)}"
    line = json.dumps({"spec": _brief(case.spec), "input_shape": list(case.input_shape), "seed": case.seed})
    options = ["--adapters", result.request, "--layouts", case.layout]
    if case.dtype != "float32":
        options += ["--dtypes", case.dtype]
    if case.device != "cpu":
        options += ["--devices", case.device]
    if case.data not in ("exact", "random"):
        options += ["--data", case.data]
    if result.precision != "shipped":
        options += ["--precision", result.precision]
    if result.direction != "forward":
        options += ["--gradients"]
    options += limits
    return f"echo {shlex.quote(line)} | convspec check --corpus - {shlex.join(options)}"


def _brief(spec: ConvSpec) -> dict[str, Any]:
    """The fields that a layer cannot do without, and those that are not as they are by default."""
    plain = ConvSpec(spec.in_channels, spec.out_channels, spec.kernel_size).to_dict()
    needed = ("in_channels", "out_channels", "kernel_size")
    return {key: value for key, value in spec.to_dict().items() if key in needed or value != plain[key]}
