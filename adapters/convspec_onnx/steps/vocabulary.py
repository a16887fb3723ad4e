"""Every operator that has a word."""

from __future__ import annotations

from convspec.contract.tracing import NoWord, OperatorStep
from convspec.errors import SpecError
from convspec.spec.steps import Other
from convspec_onnx.steps import activations, arithmetic, moves, pools
from convspec_onnx.steps.operation import Builder, Operation

_TABLE: dict[str, Builder] = activations.TABLE | pools.TABLE | moves.TABLE | arithmetic.TABLE


def word_of(call: Operation) -> OperatorStep:
    """Return the word for a node; of one that the vocabulary does not have, ``Other`` with the reason as note."""
    domain = call.node.domain if call.node.domain != "ai.onnx" else ""
    name = f"{domain}.{call.node.op_type}" if domain else call.node.op_type
    reads = tuple(i for i in range(len(call.values)) if call.has(i))
    build = _TABLE.get(name)
    if build is None:
        return OperatorStep(Other(name), reads)
    try:
        return build(call)
    except NoWord as reason:
        return OperatorStep(Other(f"{name} {reason}".strip()), reads)
    except (SpecError, KeyError, ValueError, TypeError, IndexError) as error:
        return OperatorStep(Other(name), reads, note=str(error))
