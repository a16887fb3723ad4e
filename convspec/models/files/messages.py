"""Layers, calls and steps in messages between two processes: JSON, and safetensors for their arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convspec.contract import Call, FoundConv, ModelTrace, Part, Reading, StepTrace, TracedStep
from convspec.errors import UnsupportedError
from convspec.models.matching.kernels import BatchNorm, Layer
from convspec.spec import Array, ConvParams, ConvSpec
from convspec.spec.steps import Step

_KINDS: dict[str, Any] = {kind.__name__: kind for kind in (BatchNorm, Call, ConvParams, FoundConv, Layer, ModelTrace,
                                                           Part, Reading, StepTrace, TracedStep)}  # fmt: skip
_SPECS: dict[str, Any] = {"ConvSpec": ConvSpec, "Step": Step}
_PLAIN: dict[str, Any] = {"str": str, "int": int, "float": float, "bool": bool}  # by the annotations of fields


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays of numbers to a file; raises UnsupportedError for other elements."""
    from safetensors.numpy import save_file

    for array in arrays.values():
        if array.dtype.kind not in "fiub":
            raise UnsupportedError(f"a tensor of {array.dtype} is not an array of numbers")
    save_file({name: np.array(array, order="C") for name, array in arrays.items()}, path)


def read_arrays(path: Path) -> dict[str, Array]:
    """Return the arrays that :func:`write_arrays` wrote."""
    from safetensors.numpy import load_file

    return load_file(path)


def pack(value: Any, arrays: dict[str, Array]) -> Any:
    """Return a value as JSON; its arrays go into ``arrays``, by the names that stand for them."""
    if isinstance(value, np.ndarray):
        name = str(len(arrays))
        arrays[name] = value
        return {"array": name}
    for name, kind in _SPECS.items():
        if isinstance(value, kind):
            return {name: value.to_dict()}
    if type(value).__name__ in _KINDS:
        return {type(value).__name__: {name: pack(getattr(value, name), arrays) for name in _fields(type(value))}}
    if isinstance(value, Mapping):
        return {"mapping": {name: pack(one, arrays) for name, one in value.items()}}
    return [pack(one, arrays) for one in value] if isinstance(value, list | tuple) else value


def unpack(message: Any, arrays: Mapping[str, Any]) -> Any:
    """Return the value that :func:`pack` packed, its lists as tuples.

    ``arrays`` has the arrays by name, or something else that stands for each, such as its file.

    Raises:
        ConvspecError: for a spec that breaks a rule, and weights that do not fit theirs.
        ValueError, KeyError, TypeError: for a message that is no value, and tensors that are not there.
    """
    if isinstance(message, list):
        return tuple(unpack(one, arrays) for one in message)
    if not isinstance(message, dict):
        return message
    ((kind, content),) = message.items()
    if kind == "array":
        return arrays[content]
    if kind == "mapping":
        return {str(name): unpack(one, arrays) for name, one in content.items()}
    if kind in _SPECS:
        return _SPECS[kind].from_dict(content)
    types = _fields(_KINDS[kind])
    own = {name: unpack(one, arrays) for name, one in content.items()}
    value = _KINDS[kind](**{n: _PLAIN[types[n]](one) if types[n] in _PLAIN else one for n, one in own.items()})
    if isinstance(value, Reading):
        value.params.check(value.spec)
    if isinstance(value, StepTrace):
        _check_tensors(value)
    return value


def _fields(kind: Any) -> dict[str, str]:
    """Return the names of the fields of a data class or a named tuple, with their annotations as text."""
    return {f.name: str(f.type) for f in fields(kind)} if is_dataclass(kind) else dict.fromkeys(kind._fields, "")


def _check_tensors(trace: StepTrace) -> None:
    count = len(trace.tensors)
    for numbers in (trace.inputs, trace.outputs, *(n for step in trace.steps for n in (step.reads, step.writes))):
        if not all(isinstance(n, int) and 0 <= n < count for n in numbers):
            raise ValueError(f"a tensor out of {count}")
