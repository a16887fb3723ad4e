"""Build and run LiteRT models of one convolution; there are no gradients."""

from __future__ import annotations

from typing import Any

from convspec.contract import Array, ConvParams, Plan, check_layout
from convspec.errors import PlacementError
from convspec_litert.flatbuffer import Graph
from convspec_litert.weights import ORDERS, to_litert

_threads: list[int] = []


def build(plan: Plan, params: ConvParams, device: str, variant: str) -> Any:  # noqa: ARG001 – the contract's
    """The model that the plan's text defines, with these weights."""
    _check(device)
    layer = plan.execute()
    graph = Graph(layer)
    [conv] = [operator for operator in graph.operators if operator.kind in ORDERS]
    graph.set(conv.inputs[1], to_litert(params.kernel, conv.kind))
    if params.bias is not None:
        graph.set(conv.inputs[-1], params.bias)
    return layer


def apply(layer: Any, x: Array, layout: str, device: str, variant: str) -> Array:
    """The model's output for ``x``, both in ``layout``.

    Raises:
        ShapeError: where ``x`` does not fit the model, whose layout is channels-last.
    """
    _check(device)
    graph = Graph(layer)
    own = graph.signature(graph.inputs[0])
    check_layout(x, own[-1], layout, len(own) - 2)
    return run(graph, x, variant)


def run(graph: Graph, x: Array, variant: str) -> Array:
    """The output of a model as it is."""
    return graph.run([x], variant, _threads[0] if _threads else None)[0]


def _check(device: str) -> None:
    if device != "cpu":
        raise PlacementError(f"LiteRT is run on the cpu here, not on {device!r}")


def configure(*, dtype: str, device: str, precision: str, threads: int | None, variant: str) -> None:  # noqa: ARG001
    """The number of threads of interpreters from now on."""
    _threads[:] = [] if threads is None else [threads]
