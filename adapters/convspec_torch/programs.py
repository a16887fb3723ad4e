"""The convolutions of a program that ``torch.export`` made."""

from __future__ import annotations

from typing import Any

import torch

from convspec.contract import Found, Reading
from convspec.errors import ConvspecError, UnsupportedError
from convspec_torch.parse import REGULAR_CALL, TRANSPOSED_CALL
from convspec_torch.read import called

_GENERAL = (
    *("input", "weight", "bias", "stride", "padding", "dilation", "transposed", "output_padding", "groups"),
)  # fmt: skip


def convs(program: torch.export.ExportedProgram) -> list[Found]:
    """Every convolution of the program, named by the module that it came from, else by its node.

    Raises:
        UnsupportedError: where there is none, listing the operators that there are.
    """
    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    found = [_found(program, node) for node in calls if _operator(node) is not None]
    if not found:
        kinds = sorted({str(node.target) for node in calls})
        raise UnsupportedError(f"this program has no convolutions; its operators: {', '.join(kinds) or 'none'}")
    return found


def _operator(node: torch.fx.Node) -> tuple[int, bool] | str | None:
    """Rank and direction, ``"general"`` for ``aten.convolution``, None for anything else."""
    name = str(node.target)
    for transposed, stem in ((False, "aten.conv"), (True, "aten.conv_transpose")):
        for ndim in (1, 2, 3):
            if name in (f"{stem}{ndim}d.default", f"{stem}{ndim}d.padding", f"{stem}{ndim}d.input"):
                return ndim, transposed
    return "general" if name == "aten.convolution.default" else None


def _found(program: torch.export.ExportedProgram, node: torch.fx.Node) -> Found:
    path = _path(node)
    try:
        return Found(path, _reading(program, node))
    except (ConvspecError, KeyError) as error:
        return Found(path, None, str(error))


def _reading(program: torch.export.ExportedProgram, node: torch.fx.Node) -> Reading:
    kind = _operator(node)
    names = _GENERAL if kind == "general" else TRANSPOSED_CALL if isinstance(kind, tuple) and kind[1] else REGULAR_CALL
    given: dict[str, Any] = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    given.pop("input")
    weight, bias = _value(program, given.pop("weight")), _value(program, given.pop("bias", None))
    assert weight is not None
    transposed = bool(given.pop("transposed", isinstance(kind, tuple) and kind[1]))
    if not transposed:
        given.pop("output_padding", None)
    return called(given, weight, bias, weight.ndim - 2, transposed)


def _value(program: torch.export.ExportedProgram, node: Any) -> torch.Tensor | None:
    if node is None:
        return None
    signature = program.graph_signature
    for names in (signature.inputs_to_parameters, signature.inputs_to_buffers):
        if node.name in names:
            name = names[node.name]
            return program.state_dict.get(name, program.constants.get(name))
    if node.name in signature.inputs_to_lifted_tensor_constants:
        return program.constants[signature.inputs_to_lifted_tensor_constants[node.name]]
    raise UnsupportedError(f"its weight {node.name!r} is computed: by {node.target}")


def _path(node: torch.fx.Node) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]).removeprefix("L['self'].") if stack and stack[-1][0] else str(node.name)
