"""OpenVINO, imported without what comes along: a thread that forks a process, which tells its makers over the network.

A fork beside JAX's threads may hang, and a test kit does not call home.
"""

from __future__ import annotations

import sys

_TELEMETRY = "openvino_telemetry"
_kept_out = _TELEMETRY not in sys.modules
if _kept_out:
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # how Python says that there is no such module
try:
    import openvino as ov
    from openvino import opset13 as ops
finally:
    if _kept_out:
        del sys.modules[_TELEMETRY]

__all__ = ["ops", "ov"]
