"""What Flax and Equinox compute for the text of a network: a row for each layer's call, by running it on shapes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import jax

from convspec.layers.networks import Network

Shape = tuple[int, ...]
Called = list[tuple[str, Shape, int]]
"""Path, output's shape and number of parameters of each call."""
Ran = tuple[Called, list[Shape]]
"""The calls of layers, and the shapes of the results."""


def inputs(shapes: Sequence[Shape]) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(shape, "float32") for shape in shapes]


def built(text: str) -> dict[str, Any]:
    """Return the names of a text that is trusted: one of these tests."""
    names: dict[str, Any] = {"__name__": __name__}
    exec(text, names)
    return names


def read(text: str, *shapes: Shape) -> Ran:
    """Return what convspec reads; all of it must be known."""
    trace = Network.parse(text).trace(*shapes)
    assert not [row for row in trace.rows if row.problem], [row for row in trace.rows if row.problem]
    known = {row.writes[0]: row.shape for row in trace.rows} | dict(zip(trace.inputs, shapes, strict=True))
    layers = [(row.path, row.shape, row.parameters) for row in trace.rows if row.is_layer]
    return layers, [known[number] for number in trace.results]


def run_nnx(text: str, *shapes: Shape) -> Ran:
    from flax import nnx

    names: dict[str, Any] = {}

    def make() -> Any:
        names.update(built(text))
        return names["model"]

    graph, state = nnx.split(nnx.eval_shape(make))
    called: Called = []

    def run(state: Any, *x: Any) -> Any:
        model = nnx.merge(graph, state)
        for path, module in list(nnx.iter_modules(model)):
            if not type(module).__module__.startswith("flax.nnx.nn") or isinstance(module, nnx.Sequential):
                continue
            own = sum(
                prod(v.shape) for v in vars(module).values() if isinstance(v, nnx.Param) and v.get_value() is not None
            )
            kind = type(module)
            watched = partial_method(kind, ".".join(map(str, path)), own, called)
            module.__class__ = type(kind.__name__, (kind,), {"__call__": watched})
        return model(*x)

    y = jax.eval_shape(run, state, *inputs(shapes))
    return _once(called), [leaf.shape for leaf in jax.tree.leaves(y)]


def partial_method(kind: Any, path: str, own: int, called: Called) -> Any:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        y = kind.__call__(self, *args, **kwargs)
        called.append((path, y.shape, own))
        return y

    return call


def run_linen(text: str, *shapes: Shape) -> Ran:
    from flax import linen as nn

    called: Called = []

    def watch(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        y = call(*args, **kwargs)
        module = context.module
        known = type(module).__module__.startswith("flax.linen") and not isinstance(module, nn.Sequential)
        if context.method_name == "__call__" and known:
            own = jax.tree.leaves(module.variables.get("params", {}))
            called.append((".".join(module.path), y.shape, sum(prod(a.shape) for a in own)))
        return y

    def run(*x: Any) -> Any:
        with nn.intercept_methods(watch):
            return built(text)["model"].init_with_output(jax.random.key(0), *x)[0]

    y = jax.eval_shape(run, *inputs(shapes))
    return _once(called), [leaf.shape for leaf in jax.tree.leaves(y)]


def run_equinox(text: str, *shapes: Shape) -> Ran:
    import equinox as eqx
    from convspec_equinox.steps import modules

    kinds = {
        k for k in vars(eqx.nn).values() if isinstance(k, type) and issubclass(k, eqx.Module) and "__call__" in vars(k)
    }
    kinds = {kind for kind in kinds if kind not in (eqx.nn.Sequential, eqx.nn.Lambda)}
    called: Called = []
    old = {kind: vars(kind)["__call__"] for kind in kinds}

    def make() -> Any:
        names = built(text)
        return eqx.nn.inference_mode(names["model"]), names.get("state")

    def run(model_and_state: Any, *x: Any) -> Any:
        model, state = model_and_state
        paths: dict[int, tuple[str, int]] = {}
        for path, module in modules(model, tuple(kinds)).items():
            leaves = jax.tree.leaves(eqx.filter(module, eqx.is_inexact_array))
            paths[id(module)] = path, sum(prod(a.shape) for a in leaves)

        def watched(kind: type, self: Any, *args: Any, **kwargs: Any) -> Any:
            y = old[kind](self, *args, **kwargs)
            first = next(k for k in type(self).__mro__ if "__call__" in vars(k))
            if id(self) in paths and kind is first:
                path, own = paths[id(self)]
                called.append((path, (y[0] if isinstance(y, tuple) else y).shape, own))
            return y

        for kind in kinds:
            kind.__call__ = lambda self, *a, _kind=kind, **k: watched(_kind, self, *a, **k)
        try:
            return model(*x) if state is None else model(*x, state)[0]
        finally:
            for kind, call in old.items():
                kind.__call__ = call

    y = eqx.filter_eval_shape(run, eqx.filter_eval_shape(make), *inputs(shapes))
    return _once(called), [leaf.shape for leaf in jax.tree.leaves(y)]


RUNS = {"nnx": run_nnx, "linen": run_linen, "equinox": run_equinox}


def _once(called: Called) -> Called:
    seen: set[str] = set()
    return [(p, tuple(s), 0 if p in seen or seen.add(p) else n) for p, s, n in called]
