"""The layers of a program – of TorchScript or ``torch.export`` – with their inputs and outputs in a run."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from convspec.contract import Array, Call, FoundConv, ModelTrace, Part, Reading, no_convolutions
from convspec.errors import ConvspecError, RequestError, UnsupportedError
from convspec_torch import weights
from convspec_torch.functions import called
from convspec_torch.operations import Computed, Operation, Program, operations, strange

_REGULAR = tuple(f"aten::conv{n}d" for n in (1, 2, 3))
_TRANSPOSED = tuple(f"aten::conv_transpose{n}d" for n in (1, 2, 3))
_GENERAL = ("aten::convolution", "aten::_convolution", "aten::_convolution_mode")
CONVOLUTIONS = (*_REGULAR, *_TRANSPOSED, *_GENERAL)
_NORMS = {"aten::batch_norm": 1, "aten::group_norm": 1, "aten::layer_norm": -1}
_KINDS = dict.fromkeys(CONVOLUTIONS, "conv") | dict.fromkeys(_NORMS, "norm") | {"aten::linear": "linear"}
NORM_ARRAYS = {"gain": "weight", "shift": "bias", "mean": "running_mean", "variance": "running_var"}
ARRAYS = NORM_ARRAYS | {"kernel": "weight", "bias": "bias"}
_ARGUMENTS = ("stride", "padding", "dilation", "groups", "output_padding")


def is_program(model: Any) -> bool:
    """Whether its layers are operators of a graph."""
    return isinstance(model, torch.export.ExportedProgram | torch.jit.ScriptModule)


def convs(program: Program) -> list[FoundConv]:
    """Every convolution of the program, in branches too, named by the module that it came from, else by its weight.

    Raises:
        UnsupportedError: where there is none, listing the program's operators.
    """
    found = [FoundConv(part.path, part.reading, part.problem) for part in parts(program) if part.kind == "conv"]
    if not found:
        raise no_convolutions("this program", (operation.name for operation in operations(program)), "operators")
    return found


def parts(program: Program) -> list[Part]:
    """All convolutions, norms and linear layers; repeated equal calls are one layer."""
    return [part for part, _ in layers(program)]


def layers(program: Program) -> list[tuple[Part, Operation]]:
    """Each layer with its operator; paths differ where one module's weight is used in several ways."""
    seen: defaultdict[str, list[str]] = defaultdict(list)
    found = []
    for operation in operations(program):
        part = _part(operation)
        if part is None:
            continue
        how = repr((part.kind, part.problem, part.epsilon, None if part.reading is None else part.reading.spec,
                    sorted(operation.names.items())))  # fmt: skip
        if how in seen[part.path]:
            continue
        seen[part.path].append(how)
        count = len(seen[part.path])
        if count > 1:
            part = replace(part, path=f"{part.path} ({count})")
        found.append((part, operation))
    return found


def _part(operation: Operation) -> Part | None:
    name, given = operation.name, operation.given
    if name in CONVOLUTIONS:
        conv = FoundConv.of(_path(operation), lambda: _reading(operation))
        return Part(conv.path, "conv", _kind(name), conv.reading, problem=conv.problem)
    if name in _NORMS:
        tensors = {ours: given.get(theirs) for ours, theirs in NORM_ARRAYS.items()}
        if not any(isinstance(t, torch.Tensor) for t in tensors.values()):
            return None
        arrays = {ours: _array(t) for ours, t in tensors.items() if isinstance(t, torch.Tensor)}
        return Part(_path(operation), "norm", _kind(name), arrays=arrays, epsilon=float(given["eps"]),
                    axis=_NORMS[name], **_form(name, given))  # fmt: skip
    if name == "aten::linear" and isinstance(given["weight"], torch.Tensor):
        tensors = {"kernel": given["weight"], "bias": given.get("bias")}
        arrays = {ours: _array(t) for ours, t in tensors.items() if isinstance(t, torch.Tensor)}
        return Part(_path(operation), "linear", _kind(name), arrays=arrays)
    return None


def _form(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    if name == "aten::group_norm":
        return {"norm": "group", "groups": int(given["num_groups"])}
    if name == "aten::layer_norm":
        return {"norm": "layer", "axes": tuple(range(-len(given["normalized_shape"]), 0))}
    return {"norm": "batch"} if "running_mean" in given else {}


def _kind(name: str) -> str:
    return name.removeprefix("aten::").strip("_")


def _path(operation: Operation) -> str:
    name = operation.names.get("weight") or operation.names.get("running_mean", "")
    module, _, last = name.rpartition(".")
    own = module if last in ("weight", "running_mean") else name
    return operation.path or own or _kind(operation.name)


def _array(tensor: torch.Tensor) -> Array:
    return np.array(weights.array(tensor), order="C")


def _reading(operation: Operation) -> Reading:
    given = operation.given
    weight, bias = given["weight"], given.get("bias")
    for name, tensor in (("weight", weight), ("bias", bias)):
        if isinstance(tensor, Computed):
            raise UnsupportedError(f"its {name} is computed: by {tensor.by}")
    if not isinstance(weight, torch.Tensor):
        raise UnsupportedError("it has no weight")
    transposed = operation.name in _TRANSPOSED or bool(given.get("transposed", False))
    arguments = {name: given[name] for name in _ARGUMENTS if name in given}
    if not transposed:
        arguments.pop("output_padding", None)
    for name, value in arguments.items():
        if isinstance(value, Computed):
            raise UnsupportedError(f"its {name} is computed: by {value.by}")
    return called(arguments, weight, bias, weight.ndim - 2, transposed)


# -- one run -----------------------------------------------------------------------------------------------------------


def trace_model(program: Program, inputs: Sequence[Array] | Mapping[str, Array]) -> ModelTrace:
    """Run a copy once in inference, and note every operator that has a layer's weight.

    Raises:
        UnsupportedError: where the program has operators that may do more than compute.
        RequestError: where it does not take the inputs.
    """
    runnable, given, named = prepare(program, inputs)
    watch = _Watch(layers(runnable if isinstance(runnable, torch.jit.ScriptModule) else program))
    with refuse_call(), torch.inference_mode(), torch.jit.optimized_execution(False), watch:
        y = runnable(*given, **named)
    return ModelTrace(watch.calls, [_array(t) for t in tensors(y)])


def prepare(
    program: Program, inputs: Sequence[Array] | Mapping[str, Array]
) -> tuple[torch.nn.Module, list[Any], dict[str, Any]]:
    """Return a module that runs the program, a copy of a TorchScript one, and the inputs as tensors.

    Raises:
        UnsupportedError: where the program has operators that may do more than compute.
    """
    if isinstance(program, torch.jit.ScriptModule):
        if foreign := strange(program):
            raise UnsupportedError(f"it is not run: of its operators these may do more than compute: {foreign}")
        program = copy.deepcopy(program)  # a run may change its attributes
    runnable = program.module(check_guards=False) if isinstance(program, torch.export.ExportedProgram) else program
    first = next((t for t in runnable.parameters() if t.is_floating_point()), torch.empty(0))
    return (runnable, *_inputs(program, inputs, first))


@contextmanager
def refuse_call() -> Iterator[None]:
    """Raise a RequestError for inputs that the program does not take."""
    try:
        yield
    except ConvspecError:
        raise
    except Exception as error:
        first_line = str(error).strip().splitlines()[-1:] or [""]
        raise RequestError(f"the PyTorch program does not take these inputs: {first_line[0]}") from error


def tensors(y: Any) -> list[torch.Tensor]:
    """All tensors of a result, in order."""
    if isinstance(y, torch.Tensor):
        return [y]
    if isinstance(y, Mapping):  # of a plain dictionary in the order of its keys, as in other frameworks
        y = [y[key] for key in sorted(y)] if type(y) is dict and all(isinstance(k, str) for k in y) else y.values()
    return [t for one in y for t in tensors(one)] if hasattr(y, "__iter__") and not isinstance(y, str) else []


def _inputs(
    program: Program, inputs: Sequence[Array] | Mapping[str, Array], like: torch.Tensor
) -> tuple[list[Any], dict[str, Any]]:
    """Tensors; where TorchScript takes a number, that."""
    types: dict[str, str] = {}
    if isinstance(program, torch.jit.ScriptModule):
        arguments = program._c._get_method("forward").schema.arguments[1:]
        types = {argument.name: str(argument.type) for argument in arguments}

    def value(x: Array, kind: str) -> Any:
        if x.ndim == 0 and kind in ("int", "float", "bool"):
            return x.item()
        return weights.tensor(x, like.dtype if x.dtype.kind == "f" else None, "cpu")

    if isinstance(inputs, Mapping):
        return [], {name: value(x, types.get(name, "")) for name, x in inputs.items()}
    kinds = [*types.values(), *[""] * len(inputs)]
    return [value(x, kind) for x, kind in zip(inputs, kinds, strict=False)], {}


class _Watch(TorchDispatchMode):  # type: ignore[misc]
    """Records the inputs and outputs of operators whose weight is a layer's."""

    def __init__(self, layers: Sequence[tuple[Part, Operation]]) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._paths: defaultdict[tuple[str, int], list[tuple[str, Operation]]] = defaultdict(list)
        for part, operation in layers:
            for tensor in _identity(operation.given):
                self._paths[part.kind, tensor].append((part.path, operation))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False, so that PyTorch does not import its compiler, which takes seconds."""
        return False

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        kind = _KINDS.get(function._schema.name)
        if kind is None:
            return function(*args, **kwargs)
        names = (argument.name for argument in function._schema.arguments)
        given = dict(zip(names, args, strict=False)) | kwargs
        found = [path for tensor in _identity(given) for path in self._paths[kind, tensor]]
        x = _array(given["input"]) if len(found) == 1 else None
        y = function(*args, **kwargs)
        if x is not None:
            self.calls.append(Call(found[0][0], x, _array(y[0] if isinstance(y, tuple) else y)))
        return y


def _identity(given: Mapping[str, Any]) -> Iterator[int]:
    """Return the address of the weight; of a norm without one, of its mean."""
    for tensor in map(given.get, ("weight", "running_mean")):
        if isinstance(tensor, torch.Tensor) and tensor.numel():
            yield tensor.data_ptr()
            return


# -- new weights -------------------------------------------------------------------------------------------------------


def write(program: Program, arrays: Mapping[str, Mapping[str, Array]]) -> Program:
    """Copy the arrays into the program's own parameters and buffers; returns the program."""
    own = {part.path: operation.given for part, operation in layers(program)}
    with torch.no_grad():
        for path, values in arrays.items():
            for name, array in values.items():
                target = own[path][ARRAYS[name]]
                target.copy_(weights.tensor(array, target.dtype, str(target.device)))
    return program
