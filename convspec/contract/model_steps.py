"""Every step of one run of a model, with the tensors that it reads and writes: the data flow.

``trace_steps`` of an adapter's ``model.py`` returns a :class:`StepTrace`. ``compare``, ``port_weights`` and ``verify``
read it: what stands between two layers, which layers have no effect, and whether every step was judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convspec.contract.model_parts import Part
    from convspec.spec import Array, ConvSpec
    from convspec.spec.steps import Step


@dataclass(frozen=True, eq=False, slots=True)
class TracedStep:
    """One operation of a run.

    Its spec counts axes as the framework does: axis -1 of a channels-last concatenation is the channel axis. The core
    brings them into canonical order by following the layouts of the tensors.

    Attributes:
        path: position of the layer in the model, as of :class:`~convspec.contract.Part`; of an operation in code the
            path of the module that ran it, the function and its number there: ``block.relu_0``. A layer that is called
            again has the same path.
        step: what it does; :class:`~convspec.spec.steps.Other` if the vocabulary has no word for it.
        reads: the tensors that it reads, as positions in :attr:`StepTrace.tensors`; weights are not among them, but a
            kernel or bias that is computed from the inputs is one, after the input of the convolution.
        writes: the tensors that it writes; one that is changed in place is written as a new tensor.
        arrays: its arrays in canonical order, by the names of ``Step.arrays``; of a convolution ``kernel``, ``bias``.
        sources: by the names of ``arrays``, the paths in :attr:`StepTrace.parameters` that each was made of.
        name: the framework's name of the class or function.
        layout: ``"NCHW"`` or ``"NHWC"`` where the operation itself says where channels are (whatever the number of
            spatial axes); empty where it works in any layout.
        note: what the spec cannot say, such as a setting that it has no field for; empty if it says all.
    """

    path: str
    step: ConvSpec | Step
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    arrays: Mapping[str, Array] = field(default_factory=dict)
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    name: str = ""
    layout: str = ""
    note: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class StepTrace:
    """One run of a model as steps in the order of execution.

    Attributes:
        steps: all steps; those that compute on weights alone (weight norm, a folded constant) are left out, and what
            they give is an array of the step that uses it, or a :class:`~convspec.spec.steps.Parameter`.
        tensors: the values of all tensors in the axis order of the framework; float16 and bfloat16 as they are kept by
            ``Part``. A tensor is never changed after it is listed.
        inputs: positions of the model's inputs.
        outputs: positions of the model's results, in their order.
        parameters: shapes of all arrays with numbers that the model has, by the framework's own path, so that what no
            step uses can be listed.
        parts: convolutions that only a run shows: those that are called as functions.
    """

    steps: Sequence[TracedStep]
    tensors: Sequence[Array]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    parameters: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    parts: Sequence[Part] = ()
