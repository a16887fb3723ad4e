"""Run a program – of TorchScript or ``torch.export`` – once and record its steps, which are its operators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy

from convspec.contract import Array, StepTrace
from convspec.contract.tracing import Frame
from convspec_torch import programs
from convspec_torch.steps.recorder import FunctionsOf, OperatorsOf, Recorder

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
