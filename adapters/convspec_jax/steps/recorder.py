"""Record the steps of a function of JAX: its operations are run one by one, and the tensors between them are kept."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

from convspec.contract import Array, StepTrace, TracedStep
from convspec.contract.tracing import Frame, Link, NoWord, paths_of_links
from convspec.errors import ConvspecError
from convspec.spec.steps import Parameter, PReLU
from convspec_jax.steps import functions
from convspec_jax.steps.layer_calls import LAYER, kind_and_path, modules_of, run_layer
from convspec_jax.steps.operations import SAME, TABLE, WAITING, layer_links
from convspec_jax.steps.values import Operation, Value

_CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr", "remat2": "jaxpr",
          "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr", "checkpoint": "jaxpr"}  # fmt: skip
_CHOICES = {"select_n", "_where"}
_RANDOM = ("random_bits", "threefry2x32")


def trace_function(
    call: Callable[[Any, Sequence[Any]], Any], parameters: Mapping[str, Any], inputs: Sequence[Any], *,
    joint: str, layout: str, samples: bool = False,
) -> StepTrace:  # fmt: skip
    """Run ``call(list of parameters, inputs)`` once and list its steps.

    Args:
        call: the function; its layers are called by :func:`~convspec_jax.steps.layer_calls.call_layer`.
        parameters: all arrays of the model by path.
        inputs: arrays of JAX.
        joint: what stands between the parts of a path.
        layout: of an operation on images that does not show it, such as a resize of the last of three spatial axes.
        samples: whether the function takes the samples of a batch one by one.
    """
    leaves = list(parameters.values())
    traced = jax.make_jaxpr(call)(leaves, [jax.ShapeDtypeStruct(x.shape[samples:], x.dtype) for x in inputs])
    recorder = Recorder(joint, layout, samples)
    learnt = [Value(leaf, sources=(path,)) for path, leaf in parameters.items()]
    given = [recorder.add(Value(x, data=True)) for x in inputs]
    results = recorder.run(traced.jaxpr, [Value(c) for c in traced.consts], [*learnt, *given])
    outputs = tuple(map(recorder.number, results))
    shapes = {path: tuple(leaf.shape) for path, leaf in parameters.items()}
    return StepTrace(recorder.named(), recorder.tensors, tuple(range(len(inputs))), outputs, shapes)


@dataclass(slots=True)
class Recorder:
    """Steps and tensors of a run, in the order of execution."""

    joint: str
    layout: str
    samples: bool
    steps: list[TracedStep] = field(default_factory=list)
    tensors: list[Array] = field(default_factory=list)
    _frames: dict[tuple[str, ...], Frame] = field(default_factory=dict)
    _around: tuple[str, ...] = ()  # the modules around the operation in progress

    # -- tensors -------------------------------------------------------------------------------------------------------

    def add(self, value: Value) -> Value:
        """List a tensor."""
        value.number = len(self.tensors)
        self.tensors.append(value.host)
        return value

    def number(self, value: Value) -> int:
        """Return the position of a tensor, after its own step; one that is not data is listed as a parameter."""
        if value.number is None and value.data and value.origin is not None:
            around, self._around = self._around, value.origin.around
            self._list(value.origin)
            self._around = around
        elif value.number is None:
            self._parameter(self.add(value))
        assert value.number is not None
        return value.number

    def _parameter(self, value: Value) -> None:
        path = (
            value.sources[0] if len(value.sources) == 1 else self._frame(self._around).path_of(value.made or "constant")
        )
        note = "drawn at random" if value.random else f"made by {value.made}" if value.made else ""
        array = self.tensors[-1]
        self._step(TracedStep(path, Parameter(array.shape), (), (len(self.tensors) - 1,), {"value": array},
                              {"value": value.sources}, value.made or "Parameter", note=note))  # fmt: skip

    # -- operations ----------------------------------------------------------------------------------------------------

    def run(
        self, jaxpr: Any, consts: Sequence[Value], given: Sequence[Value], around: tuple[str, ...] = ()
    ) -> list[Value]:
        """Run a function operation by operation; return its results."""
        known: dict[Any, Value] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *given), strict=True))

        def value(atom: Any) -> Value:
            return Value(np.asarray(atom.val, atom.aval.dtype)) if isinstance(atom, Literal) else known[atom]

        uses = Counter(a for e in (*jaxpr.eqns, jaxpr) for a in getattr(e, "outvars" if e is jaxpr else "invars")
                       if not isinstance(a, Literal))  # fmt: skip
        readers: defaultdict[Any, set[str]] = defaultdict(set)
        for eqn in jaxpr.eqns:
            for a in eqn.invars:
                if not isinstance(a, Literal):
                    readers[a].add(eqn.params.get("name", eqn.primitive.name))
        place = 0
        while place < len(jaxpr.eqns):
            eqn = jaxpr.eqns[place]
            values = list(map(value, eqn.invars))
            self._around = around + modules_of(eqn.source_info.name_stack)
            found = functions.find(jaxpr.eqns, place, uses, self.samples) if any(v.data for v in values) else None
            if found is not None:
                rows = jaxpr.eqns[place : place + found.length]
                known |= zip(rows[-1].outvars, [self._function(found, rows, value(found.operand))], strict=True)
                place += found.length
            else:
                chosen = eqn.primitive.name == "mul" and set() < readers[eqn.outvars[0]] <= _CHOICES
                known |= zip(eqn.outvars, self._results(eqn, values, chosen), strict=True)
                place += 1
        return list(map(value, jaxpr.outvars))

    def _function(self, found: functions.Found, rows: Sequence[Any], x: Value) -> Value:
        """Run the operations that are one function of ``x``, and list its step."""
        known = {found.operand: x}
        for eqn in rows:
            given = [Value(np.asarray(a.val, a.aval.dtype)) if isinstance(a, Literal) else known[a] for a in eqn.invars]
            known |= zip(eqn.outvars, [Value(a, data=True) for a in self._evaluate(eqn, given)], strict=True)
        y = known[rows[-1].outvars[0]]
        step, layout = functions.of_batch(found.step, self.samples, x.array.shape, y.array.shape, self.layout)
        self._links(found.name, [Link(step, (x,), (y,), layout=layout)])
        return y

    def _results(self, eqn: Any, values: list[Value], chosen: bool = False) -> list[Value]:
        """Return the results of an operation; one of which only a choice reads waits for that."""
        name, layer = eqn.primitive.name, eqn.primitive is LAYER
        data = any(v.data for v in values) or (layer and not self.samples)
        if data and eqn.params.get("name") == "leaky_relu" and (y := self._slopes(eqn, values)):
            return [y]
        if data and name in _CALLS:
            inner = eqn.params[_CALLS[name]]
            consts = [Value(c) for c in getattr(inner, "consts", ())]
            return self.run(getattr(inner, "jaxpr", inner), consts, values, self._around)
        if name in SAME and values[0].array.dtype == eqn.outvars[0].aval.dtype:
            return values
        sources = () if data else tuple(dict.fromkeys(path for v in values for path in v.sources))
        random = any(v.random for v in values) or (not data and any(word in str(eqn) for word in _RANDOM))
        made = "" if data else values[0].made if name in ("broadcast_in_dim", *SAME) else eqn.params.get("name", name)
        results = [Value(array, data, sources, made, random) for array in self._evaluate(eqn, values)]
        operation = Operation(name, eqn.params, values, results, self.samples, self.layout, self._around)
        for value in results:
            value.origin = operation
        if data and name not in WAITING and not chosen:
            self._list(operation)
        return results

    def _slopes(self, eqn: Any, values: Sequence[Value]) -> Value | None:
        """List ``leaky_relu`` with weights for slopes as a PReLU, and return its result; None where it is none."""
        x, slope = values[0], values[-1]
        rank = x.array.ndim
        shape = (*[1] * (rank - slope.array.ndim), *slope.array.shape)
        if len(values) != 2 or slope.data or not slope.sources or len(shape) > rank or shape[:1] != (1,):
            return None
        step = PReLU(shape[1:] or (1,))
        y = Value(self._evaluate(eqn, values)[0], data=True)
        arrays = {"slope": replace(slope, array=slope.array.reshape(step.shape))}
        self._links("leaky_relu", [Link(step, (x,), (y,), arrays)])
        return y

    def _evaluate(self, eqn: Any, values: Sequence[Value]) -> list[Any]:
        """Return the results of an operation; in a function of samples, for all samples of the batch."""

        def call(*arrays: Any) -> list[Any]:
            return _bind(eqn, arrays)

        if self.samples and any(v.data for v in values):
            return list(jax.vmap(call, [0 if v.data else None for v in values])(*(v.array for v in values)))
        return call(*(v.array for v in values))

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _list(self, operation: Operation) -> None:
        """List the steps of an operation."""
        name, layer, note = operation.name, operation.params.get("layer"), ""
        name = layer.name if layer is not None else name
        build = TABLE.get(name) if layer is None else layer_links
        links = None
        if build is not None:
            try:
                links = build(operation)
            except (NoWord, ConvspecError) as error:
                note = str(error)
        self._links(name, links or [operation.without_word(name, note)], None if layer is None else layer.path)

    def _links(self, name: str, links: Sequence[Link], path: str | None = None) -> None:
        around, frame = self._around, self._frame(self._around)
        main = frame.path_of(name) if path is None else path
        for inner, link in zip(paths_of_links(main, links, self.joint), links, strict=True):
            reads = tuple(map(self.number, link.reads))
            self._around = around
            writes = tuple(self.add(v).number or 0 for v in link.writes)
            arrays = {n: v.host for n, v in link.arrays.items()}
            sources = {n: v.sources for n, v in link.arrays.items()}
            self._step(TracedStep(inner, link.step, reads, writes, arrays, sources, name, link.layout, link.note))
            if path is not None:
                frame.inner = True
            else:
                frame.own.append((len(self.steps) - 1, main))

    def _frame(self, around: tuple[str, ...]) -> Frame:
        if around not in self._frames:
            kind, path = kind_and_path(around[-1]) if around else ("", "")
            self._frames[around] = Frame(path, kind, joint=self.joint)
        return self._frames[around]

    def _step(self, step: TracedStep) -> None:
        for i in range(len(self._around)):
            self._frame(self._around[:i]).inner = True
        self.steps.append(step)

    def named(self) -> list[TracedStep]:
        """Return the steps; a module that is one function has that function as its own step."""
        for frame in self._frames.values():
            for i, path in frame.own if frame.is_one_function else ():
                step = self.steps[i]
                self.steps[i] = replace(step, path=frame.path + step.path.removeprefix(path), name=frame.kind)
        return self.steps


def _bind(eqn: Any, values: Sequence[Any]) -> list[Any]:
    name = eqn.primitive.name
    if eqn.primitive is LAYER:
        return run_layer(*values, **eqn.params)
    if name in _CALLS and name not in ("jit", "pjit"):
        inner = eqn.params[_CALLS[name]]
        return list(jaxpr_as_fun(inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ()))(*values))
    results = eqn.primitive.bind(*values, **eqn.params)
    return list(results) if eqn.primitive.multiple_results else [results]
