"""Run a PyTorch model once and list every step with its settings, weights and the tensors between them.

In goes a module or a program with its inputs; out comes a ``StepTrace``.
"""

from convspec_torch.steps.run import trace_steps

__all__ = ["trace_steps"]
