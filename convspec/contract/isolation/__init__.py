"""Run code that may crash, hang or take all memory in a child process that ends with this one.

In go a module name and requests; out come its answers, or how the process ended. One reaper, one memory limit and one
child process serve the workers, model files, validation and the ONNX audit.
"""

from convspec.contract.isolation import child_process, memory_limit
from convspec.contract.isolation.child_process import Process, alive, plain, send
from convspec.contract.isolation.memory_limit import confine, parsed, said

__all__ = ["Process", "alive", "child_process", "confine", "memory_limit", "parsed", "plain", "said", "send"]
