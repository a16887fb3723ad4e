"""Run a PyTorch model once and list every step with its settings, weights and the tensors between them.

In goes a module or a program with its inputs; out comes a ``StepTrace``.
"""

from convspec_torch.steps.run import own_convolution, tensors_of, trace_steps, traces_plainly

__all__ = ["own_convolution", "tensors_of", "trace_steps", "traces_plainly"]
