"""The float64 reference of steps between convolutions, and the bounds on the rounding errors of their results.

The input is a :class:`convspec.spec.steps.Step`, its input tensors and its arrays in the canonical order; the result
are the outputs (:func:`evaluate`) and, for each element, the largest rounding error of a correct framework
(:func:`bound`). NumPy only.
"""

from convspec.reference.steps import activations, arithmetic, moves, norms, pools, resizing
from convspec.reference.steps.computation import bound, error_ratio, evaluate, evaluate_bounded
from convspec.reference.steps.judge import judge_step, wrong_elements
from convspec.reference.steps.quick_check import is_within

MODULES = (activations, arithmetic, moves, norms, pools, resizing)  # imported for the formulas that they register

__all__ = ["bound", "error_ratio", "evaluate", "evaluate_bounded", "is_within", "judge_step", "wrong_elements"]
