"""The layers of a model that have weights, one run of it, and the functions of an adapter's ``model`` module.

``trace_steps`` of that module returns a :class:`StepTrace`: every step of a run with the tensors that it reads and
writes, the data flow. ``compare``, ``port_weights`` and ``verify`` read it: what stands between two layers, which
layers have no effect, and whether every step was judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from convspec.contract.protocol import Reading
    from convspec.spec import Array, ConvSpec, Pads
    from convspec.spec.steps import Step

KINDS = ("conv", "norm", "linear")


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """One layer with weights.

    Attributes:
        path: its position in the model.
        kind: one of :data:`KINDS`.
        name: of its class.
        reading: of a convolution.
        arrays: of a norm ``gain``, ``shift``, ``mean`` and ``variance`` as far as it has them; of a linear layer
            ``kernel`` of shape ``(O, I)`` and ``bias``; of a convolution that computes in its own way its parameters,
            from which it makes the kernel of ``reading``.
        epsilon: of a norm.
        axis: of a norm: its channel axis.
        norm: the form of a norm: ``batch`` (over all axes but ``axis``, or with its own mean and variance), ``layer``
            and ``rms`` (over ``axes``), ``group`` (over the channels of a group and all axes after the batch's);
            empty where it is not known.
        axes: of a layer or RMS norm: the axes of its input that it normalises over, counted from the end.
        groups: of a group norm; as many as channels in an instance norm.
        fast_variance: of a norm: whether it computes the variance as E[x²] - E[x]², which cancels for large means.
        problem: why a convolution could not be read; of one that was called as a function, why a layer could not.
        pads: of a convolution: the preceding pads that its spec contains, although its input is padded already.
        note: why a preceding pad was not folded into its spec.
        made: whether its kernel is made of other parameters, as by a weight norm: a write that undoes another one
            leaves those changed.
    """

    path: str
    kind: str
    name: str
    reading: Reading | None = None
    arrays: Mapping[str, Array] = field(default_factory=dict)
    epsilon: float = 0.0
    axis: int = -1
    norm: str = ""
    axes: tuple[int, ...] = ()
    groups: int = 0
    fast_variance: bool = False
    problem: str = ""
    pads: Pads = ()
    note: str = ""
    made: bool = False

    @property
    def function(self) -> bool:
        """Whether it was read from a function call: it belongs to no layer, or to one that computes in its own way."""
        return self.reading is not None and bool(self.problem)

    @property
    def writable(self) -> bool:
        """Whether it has parameters that can be written: those of a function may be anything."""
        return bool(self.arrays) or not self.function

    @property
    def batch_norm(self) -> bool:
        return self.kind == "norm" and "variance" in self.arrays

    @property
    def weights(self) -> dict[str, Array]:
        """Return all arrays that it computes with in canonical order, by name."""
        if self.reading is None:
            return dict(self.arrays)
        params = self.reading.params
        return {"kernel": params.kernel} | ({} if params.bias is None else {"bias": params.bias})

    @property
    def parameters(self) -> dict[str, Array]:
        """Return the arrays that are written: of a convolution that computes in its own way not those it makes."""
        return dict(self.arrays) or self.weights


@dataclass(frozen=True, eq=False, slots=True)
class Call:
    """The input and the output of a part, in the axis order of its framework."""

    path: str
    x: Array
    y: Array


class ModelTrace(NamedTuple):
    """One run of a model: the calls in the order of execution, the outputs, and convolutions that only a run shows."""

    calls: list[Call]
    outputs: list[Array]
    parts: Sequence[Part] = ()


@dataclass(frozen=True, slots=True)
class ModelModule:
    """The functions of an adapter's ``model.py``; those with a default may be left out.

    Attributes:
        parts: ``parts(model) -> list[Part]``, in the order of definition.
        trace_model: ``trace_model(model, inputs) -> ModelTrace``; inputs are in the order of arguments, or by name.
        write: ``write(model, {path: {name: array}}) -> model`` with these weights.
        save: ``save(model, path)``, in the framework's own format.
        open: ``open(model) -> model``, of what stands for a model, such as a path.
        parts_need_inputs: whether a model has its layers only while it is called: then it is ``parts(model, inputs)``.
        trace_steps: ``trace_steps(model, inputs) -> StepTrace``: one run as steps with their data flow; None where the
            adapter sees layers with weights only.
        parameters: ``parameters(model) -> {path: shape}`` of all its weights, by the path of their layer and their name
            there: ``block/gamma``; of those that no part has, a port says that they are not moved.
        results: ``results(model, inputs) -> list``: the results of a run that nothing watches; None: those of
            ``trace_model``.
        traces_plainly: ``traces_plainly(model) -> bool``: whether ``trace_steps`` runs the model as any run does, so
            that one run gives its steps and its results; compiled functions are run as they are written.
        widen: ``widen(model) -> model``, a copy that computes in float64; None where the framework has no simple one.
        input_shapes: ``input_shapes(model) -> list | None``: the declared shapes of its inputs, None for open sizes;
            None where it declares none.
        writes_in_memory: whether ``write`` is quick and can be undone by a second one; of a file, it is not.
    """

    parts: Callable[..., list[Part]]
    trace_model: Callable[[Any, Sequence[Array] | Mapping[str, Array]], ModelTrace]
    write: Callable[[Any, Mapping[str, Mapping[str, Array]]], Any]
    save: Callable[[Any, Any], None]
    open: Callable[[Any], Any] = field(default=lambda model: model)
    parts_need_inputs: bool = False
    trace_steps: Callable[[Any, Sequence[Array] | Mapping[str, Array]], StepTrace] | None = None
    parameters: Callable[[Any], Mapping[str, tuple[int, ...]]] = field(default=lambda _: {})
    results: Callable[[Any, Sequence[Array] | Mapping[str, Array]], list[Array]] | None = None
    traces_plainly: Callable[[Any], bool] = field(default=lambda _: False)
    widen: Callable[[Any], Any] | None = None
    input_shapes: Callable[[Any], list[list[int | None]] | None] = field(default=lambda _: None)
    writes_in_memory: bool = True


# -- one run, step by step ---------------------------------------------------------------------------------------------


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
        macs: its multiply-accumulate operations, where the step does not say them.
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
    macs: int | None = None


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
