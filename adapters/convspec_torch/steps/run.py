"""Run a model once and record its steps; of a program – TorchScript or ``torch.export`` – these are its operators."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy

from convspec.contract import Array, Part, StepTrace, refuse_inputs
from convspec.contract.tracing import Frame, Link, Whole
from convspec.errors import ConvspecError, UnsupportedError
from convspec.spec.steps import Other
from convspec_torch import programs, read, weights
from convspec_torch.steps.calls import FIRST, macs_of_layer, tensors_in, without_batch
from convspec_torch.steps.recorder import FunctionsOf, OperatorsOf, Recorder

_PARAMETERS = {"kernel": "weight", "bias": "bias"}
_OPAQUE = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
_LAYERS = (nn.Linear, nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def trace_steps(model: Any, inputs: Sequence[Array] | Mapping[str, Array]) -> StepTrace:
    """Run the model once in evaluation mode, without gradients, and list its steps.

    Modules are seen through to the functions that they call; compiled ones run uncompiled. A plain convolution is one
    step with its padding mode; recurrent layers and attention are one step without a word of their own.
    """
    if programs.is_program(model):
        return trace_program(model, inputs)
    if not isinstance(model, nn.Module):
        raise UnsupportedError(f"{type(model).__name__} is not a module of PyTorch: compare runs modules")
    listed, named = tensors_of(model, inputs)
    with refuse_inputs("PyTorch model"), read._inference(model):
        if any(map(is_lazy, model.parameters())):
            model(*listed, **named)  # gives lazy layers their weights
        attributes = [t for module in model.modules() for t in tensors_in(vars(module))]
        recorder = Recorder(dict(parameters_of(model)), _own(model), attributes)
        given = [recorder.add_input(t) for t in (*listed, *named.values())]
        with _recording(recorder, model):
            y = model(*listed, **named)
    return recorder.trace(given, programs.tensors(y))


def traces_plainly(model: Any) -> bool:
    """Whether nothing in a model is compiled."""
    if programs.is_program(model) or not isinstance(model, nn.Module) or "torch._dynamo" in sys.modules:
        return False
    return not any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())


def tensors_of(
    model: nn.Module, inputs: Sequence[Array] | Mapping[str, Array]
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Return inputs in order and by name, as tensors of the dtype and device of the model's weights."""
    first = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))

    def tensor(x: Array) -> Tensor:
        return weights.tensor(x, first.dtype if x.dtype.kind == "f" else None, str(first.device))

    if isinstance(inputs, Mapping):
        return [], {name: tensor(x) for name, x in inputs.items()}
    return [tensor(x) for x in inputs], {}


def _own(model: nn.Module) -> dict[str, Part]:
    """Return the convolutions that compute in their own way."""
    return {
        path: own_convolution(path, module)
        for path, module in model.named_modules()
        if read.is_convolution(module) and not read.is_plain(module)
    }


def own_convolution(path: str, module: Any) -> Part:
    """Return a convolution that computes in its own way, with its parameters."""
    arrays = {ours: np.array(weights.array(getattr(module, theirs))) for ours, theirs in _PARAMETERS.items()
              if isinstance(getattr(module, theirs, None), Tensor)}  # fmt: skip
    return Part(path, "conv", type(module).__name__, arrays=arrays, problem=read._found(path, module).problem)


@contextmanager
def _recording(recorder: Recorder, model: nn.Module) -> Iterator[None]:
    """Follow a run of the model."""

    def entering(path: str, plain: bool) -> Callable[..., None]:
        return lambda module, args, kwargs: recorder.enter(_frame(path, module, plain), (args, kwargs))

    def left(_: Any, __: Any, y: Any) -> None:
        recorder.leave(y)

    modules = [
        (path, module) for path, module in model.named_modules() if not isinstance(module, torch.jit.ScriptModule)
    ]
    plain = {path for path, module in modules if read.is_convolution(module) and read.is_plain(module)}
    with ExitStack() as stack:
        for path, module in modules:
            stack.callback(
                module.register_forward_pre_hook(entering(path, path in plain), prepend=True, with_kwargs=True).remove
            )
            stack.callback(module.register_forward_hook(left, always_call=True).remove)
        if "torch._dynamo" in sys.modules:  # else nothing is compiled, and its import takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(torch.jit.optimized_execution(False))
        stack.enter_context(OperatorsOf(recorder))
        stack.enter_context(FunctionsOf(recorder))
        yield


def _frame(path: str, module: nn.Module, plain: bool) -> Frame:
    frame = Frame(path, type(module).__name__, isinstance(module, _LAYERS))
    if isinstance(module, _OPAQUE):
        frame.whole = _without_word(module)
    elif plain:
        frame.whole = _convolution(module)
    return frame


def _without_word(module: nn.Module) -> Whole:
    arrays = dict(parameters_of(module))
    other = Other(type(module).__name__)
    return lambda given, results: (Link(other, given, results, arrays, macs=macs_of_layer(module, given)),)


def _convolution(module: Any) -> Whole | None:
    """Return the link of a plain convolution, with the weight as its parametrisation gives it."""
    try:
        spec = read.spec_of_layer(module)
    except ConvspecError:
        return None  # it is seen through
    arrays = {"kernel": read.weight_of(module), "bias": module.bias}

    def link(given: Sequence[Tensor], results: Sequence[Tensor]) -> Sequence[Link]:
        whole = Link(spec, given[:1], results, arrays, FIRST)
        return (whole,) if given[0].ndim == spec.ndim + 2 else without_batch(whole)

    return link


# -- programs ----------------------------------------------------------------------------------------------------------

_COUNTER = "num_batches_tracked"  # a count of training that no step reads


def parameters_of(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield all parameters and buffers by path; of a shared one the first path."""
    for path, t in (*model.named_parameters(), *model.named_buffers()):
        if not is_lazy(t) and path.rpartition(".")[2] != _COUNTER:
            yield path, t


def trace_program(program: Any, inputs: Sequence[Array] | Mapping[str, Array]) -> StepTrace:
    """Run a copy once in inference and list its operators.

    Raises:
        UnsupportedError: where the program has operators that may do more than compute.
        RequestError: where it does not take the inputs.
    """
    runnable, given, named = programs.prepare(program, inputs)
    exported = isinstance(runnable, fx.GraphModule)
    own = {part.path: part for part in programs.parts(program) if part.kind == "conv"} if exported else {}
    recorder = Recorder(dict(parameters_of(runnable)), own, by_weight=not exported)
    numbers = [recorder.add_input(t) for t in (*given, *named.values()) if isinstance(t, Tensor)]
    with programs.refuse_call(), torch.no_grad():
        if exported:
            y = _Nodes(runnable, recorder).call(given, named)
        else:
            with _operators(recorder):
                y = runnable(*given, **named)
    return recorder.trace(numbers, programs.tensors(y))


@contextmanager
def _operators(recorder: Recorder) -> Iterator[None]:
    """Send the operators of TorchScript to a recorder as the program has them, not as autograd divides them."""
    with ExitStack() as stack:
        stack.enter_context(torch.jit.optimized_execution(False))
        stack.enter_context(torch._C._AutoDispatchBelowAutograd())
        stack.enter_context(OperatorsOf(recorder))
        yield


class _Nodes(fx.Interpreter):  # type: ignore[misc]
    """Runs an exported graph node by node and tells a recorder which modules each came from."""

    def __init__(self, module: fx.GraphModule, recorder: Recorder) -> None:
        super().__init__(module, garbage_collect_values=True)
        self.recorder = recorder
        self.open: list[str] = []  # keys of the modules that are being called

    def call(self, given: Sequence[Any], named: Mapping[str, Any]) -> Any:
        """Return the result of the graph."""
        flat = self.module.graph._codegen.process_inputs(*given, **named)
        with FunctionsOf(self.recorder):
            y = self.run(*flat, enable_io_processing=False)
            self._follow({})
        return self.module.graph.process_outputs(y)

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "call_function":
            self._follow(n.meta.get("nn_module_stack") or {})
        return super().run_node(n)

    def _follow(self, stack: Mapping[str, tuple[str, Any]]) -> None:
        """Leave the modules that a node is not in, and enter those that it is in."""
        keys = list(stack)
        shared = 0
        while shared < min(len(keys), len(self.open)) and keys[shared] == self.open[shared]:
            shared += 1
        for _ in self.open[shared:]:
            self.recorder.leave(None)
        for key in keys[shared:]:
            path, kind = stack[key]
            name = kind if isinstance(kind, str) else kind.__name__
            self.recorder.enter(Frame(path.removeprefix("L['self']").lstrip("."), name.rpartition(".")[2]), ())
        self.open = keys
