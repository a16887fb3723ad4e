"""Run a graph and judge each convolution by what it read and wrote.

In go a model, its convolutions and inputs; out come, as messages to a callable, one verdict of the oracle per node, set
of inputs and runtime configuration, and what the graph optimisation changed. Graphs run in segments, so that memory
stays bounded; a node that fails is replaced by the oracle's output.
"""

from convspec_onnx.verify import runtimes
from convspec_onnx.verify.input_sizes import random_sets
from convspec_onnx.verify.judge import AccuracyClasses, expected_output
from convspec_onnx.verify.operators import OperatorJudge
from convspec_onnx.verify.optimizer_passes import find_changes
from convspec_onnx.verify.run import Report, Run, judge_alone, open_model

__all__ = [
    "AccuracyClasses", "OperatorJudge", "Report", "Run", "expected_output", "find_changes", "judge_alone", "open_model",
    "random_sets", "runtimes",
]  # fmt: skip
