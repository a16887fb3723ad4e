"""Run code that may crash, hang or take all memory in a child process that ends with this one.

In go the name of a module and requests; out come its answers, or how the process ended. Workers, model files, adapter
validation, and the audit and the test vectors of ONNX use the same child process, reaper and memory limit.
"""

from convspec.contract.isolation.audit_service import serve_audit
from convspec.contract.isolation.child_process import (
    ChildError,
    ChildProcess,
    ChildTimeout,
    alive,
    encode,
    in_child,
    send,
)
from convspec.contract.isolation.memory_limit import (
    EXIT_STATUS,
    format_size,
    installed,
    limit_memory,
    out_of_memory,
    parse_size,
    resident,
)
from convspec.contract.isolation.separation import beneath, landlock, separate

__all__ = [
    "EXIT_STATUS", "ChildError", "ChildProcess", "ChildTimeout", "alive", "beneath", "encode", "format_size",
    "in_child", "installed", "landlock", "limit_memory", "out_of_memory", "parse_size", "resident", "send", "separate",
    "serve_audit",
]  # fmt: skip
