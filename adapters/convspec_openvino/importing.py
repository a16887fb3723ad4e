"""Import OpenVINO without its telemetry: a thread that forks a process, which sends data over the network.

A fork in a process with JAX's threads may hang, and a test kit sends no usage data.
"""

from __future__ import annotations

import sys

_TELEMETRY = "openvino_telemetry"
_kept_out = _TELEMETRY not in sys.modules
if _kept_out:
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # Python's mark of a missing module
try:
    import openvino as ov
    from openvino import opset13 as ops
finally:
    if _kept_out:
        del sys.modules[_TELEMETRY]

__all__ = ["ops", "ov"]
