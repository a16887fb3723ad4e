"""Compare a file of rounded weights with its source: integers are dequantised, and float16 has a step of its own.

A weight, bias included, must lie within half a step of the source's; the numbers between the layers are right if no
more noise is in them than rounding makes. What each operator computes from its own input is judged without the source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from convspec import reference
from convspec.contract import ConvParams
from convspec.contract.tracing import Array
from convspec.errors import ConvspecError, UnsupportedError
from convspec.models import (
    Difference,
    Layer,
    SourceRun,
    common_rank,
    field_differences,
    layer_differences,
    match_layout,
    nearest_stages,
    pair_layers,
    read_run,
    rounding,
)  # fmt: skip
from convspec.reference.quantized import along_outputs
from convspec_litert.flatbuffer import Graph, Operator
from convspec_litert.judge import ends_of, grid_of, spec_at
from convspec_litert.read import bias_input, data_input
from convspec_litert.weights import ORDERS, from_litert

_FINER = 24.0  # dB: float16 has four digits more than 8-bit integers
_HALF = {"id": "weights-float16", "level": "info",
         "title": "the weights are rounded to float16: each must be within half a step of the source's"}  # fmt: skip
Report = Callable[[dict[str, Any]], None]


def weights_type(graph: Graph) -> str:
    """Return ``"int8"`` where the graph has integers between or in its layers, else ``"float16"`` or ``"float32"``."""
    layers = [own for own in graph.operators if own.kind in (*ORDERS, "FULLY_CONNECTED")]
    if any(graph.dtype(n) not in ("float32", "float16") for own in layers for n in (own.inputs[1], own.outputs[0])):
        return "int8"
    half = any(graph.dtype(graph.source(own.inputs[1])) == "float16" for own in layers)
    return "float16" if half else "float32"


def dequantised(graph: Graph, numbers: Sequence[int], arrays: Sequence[Array]) -> list[Array]:
    """Return tensors in float, as a source has them."""
    grids = [_activation_grid(graph, n) for n in numbers]
    return [x if g is None else g.dequantize(x).astype(np.float32) for x, g in zip(arrays, grids, strict=True)]


def _activation_grid(graph: Graph, tensor: int) -> rounding.Grid | None:
    return None if graph.dtype(tensor) in ("float32", "float16") else grid_of(graph, tensor)


@dataclass
class _Comparison:
    """A graph, what its tensors held in a run, and a run of the source on the same input.

    Attributes:
        noise: the signal-to-noise ratio of each output, in dB.
        findings: what is wrong with each operator, by its path.
    """

    graph: Graph
    values: Mapping[int, Array]
    source: SourceRun
    finer: float
    noise: dict[str, float] = field(default_factory=dict)
    findings: dict[str, list[Difference]] = field(default_factory=dict)

    def layer(self, conv: Operator) -> tuple[Layer, rounding.Quantized | None]:
        """Return an operator as a layer of dequantised weights, and its steps; None for weights in float32."""
        graph, number = self.graph, bias_input(conv)
        spec = spec_at(conv, self.values)
        stored: Array = from_litert(self.values[conv.inputs[1]], conv.kind)
        bias = None if number is None else self.values[number]
        x, y = (_activation_grid(graph, n) for n in (data_input(conv), conv.outputs[0]))
        if stored.dtype.kind in "iu":
            grid = grid_of(graph, conv.inputs[1])
            rows = 1 if spec.transposed else None  # all alike, as there are no groups
            scale, zero = (along_outputs(numbers, spec)[:rows] for numbers in (grid.scale, grid.zero))
            grid = replace(grid, scale=scale, zero=zero)
            own = None
            if number is not None and bias is not None and bias.dtype.kind in "iu":
                own = bias, np.broadcast_to(grid_of(graph, number).scale, bias.shape)
            params = ConvParams(grid.dequantize(stored), bias if own is None else own[0] * own[1])
            node = rounding.Quantized(stored, grid, params, own, x, y, integers=x is not None)
        else:
            params, node = ConvParams(stored, bias), None
            if graph.dtype(graph.source(conv.inputs[1])) == "float16":
                node = self._half(params, number)
        return Layer(conv.path, spec, params), node

    def _half(self, params: ConvParams, number: int | None) -> rounding.Quantized:
        """Return the steps of float16: the distance from each number to the next."""
        steps = np.spacing(np.abs(params.kernel).astype(np.float16)).astype(float)
        grid = rounding.Grid(steps, np.zeros(()), -65504, 65504)
        bias = None
        if params.bias is not None and number is not None and self.graph.dtype(self.graph.source(number)) == "float16":
            bias = params.bias, np.spacing(np.abs(params.bias).astype(np.float16)).astype(float)
        return rounding.Quantized(params.kernel, grid, params, bias, None, None, integers=False)

    def compare(self, conv: Operator, ours: Layer, node: rounding.Quantized | None, theirs: Layer) -> list[Difference]:
        """Return how an operator differs from the source's layer, or its input from what that read."""
        form = common_rank.to_common_rank(ours, theirs)
        if form is None:
            return layer_differences(ours, theirs)
        numbers = data_input(conv), conv.outputs[0]
        x, y = (form.reshape_ours(np.moveaxis(a, -1, 1))
                for a in dequantised(self.graph, numbers, [self.values[n] for n in numbers]))  # fmt: skip
        settled, read = self.source.settle(form, x)
        found = field_differences(settled.ours, settled.theirs or form.theirs.padded_spec)
        if node is None:
            found += common_rank.compare_weights(ours, theirs, self.source.layers)
        else:
            found += rounding.weight_differences(node, form.ours, form.theirs)
        if read is not None and not found:
            self._measure(conv, form, read, y)
            if read.shape == x.shape and not self.diverged:
                own = self.activation(data_input(conv), x, read, conv.path)
                found += [replace(own, title=f"input of this node: {own.title}")] if own else []
        return found

    @property
    def diverged(self) -> bool:
        return any(one.fatal for found in self.findings.values() for one in found)

    def _measure(self, conv: Operator, form: common_rank.CommonRank, read: Array, y: Array) -> None:
        """Keep the signal-to-noise ratio of an output: the source's layer computes its own from what it read."""
        _, right = nearest_stages(form.ours, form.theirs)
        spec = replace(form.theirs.spec, bias=True)
        try:
            own = np.clip(reference.conv(spec, ConvParams(right.kernel, right.bias), read), *ends_of(conv))
        except ConvspecError:
            return
        grid = _activation_grid(self.graph, conv.outputs[0])
        if own.shape == y.shape:
            self.noise[conv.path] = rounding.signal_to_noise(y, grid.clip(own) if grid else own)

    def activation(self, tensor: int, x: Array, source: Array, path: str = "") -> Difference | None:
        """Return what is wrong with a tensor between the layers; a grid that saturates is its maker's fault."""
        others = [dB for own, dB in self.noise.items() if own != path]
        found = rounding.activation_difference(_activation_grid(self.graph, tensor), x, source, others, self.finer)
        maker = self.graph.makers.get(tensor)
        if found is not None and found.id == rounding.SATURATES and maker is not None and maker.path in self.findings:
            self.findings[maker.path].append(replace(found, title=f"the output {found.title}"))
            return None
        return found

    def outputs(self) -> list[dict[str, str]]:
        """Return what is wrong with the results where every layer is right."""
        wrong = []
        arrays = dequantised(self.graph, self.graph.outputs, [self.values[n] for n in self.graph.outputs])
        for number, mine, theirs in zip(self.graph.outputs, arrays, self.source.outputs, strict=False):
            right = match_layout(theirs, mine)
            if not self.diverged and right.shape == mine.shape and (own := self.activation(number, mine, right)):
                wrong.append({"id": "output-differs", "title": f"{self.graph.name(number)}: {own.title}",
                              "level": "error"})  # fmt: skip
        return wrong


def compare_rounded(graph: Graph, feeds: Sequence[Array], folder: Path, report: Report, ask: Any) -> None:
    """Have the source run, and report each convolution's layer in it and its differences."""
    half = weights_type(graph) == "float16"
    given = {f"input_{i}": x for i, x in enumerate(dequantised(graph, graph.inputs, feeds))}
    np.savez(folder / "feeds.npz", allow_pickle=False, **given)
    names = [graph.name(number) for number in graph.inputs]
    layouts = {name: "NHWC" if x.ndim > 2 else None for name, x in zip(names, given.values(), strict=True)}
    answer = ask({"feeds": str(folder / "feeds.npz"), "names": names, "layouts": layouts})
    if "problem" in answer:
        title = f"the source was not compared: {answer['problem']}"
        report({"model": [{"id": "source", "title": title, "level": "error"}]})
        return
    source = read_run(Path(answer["index"]))
    both = _Comparison(graph, graph.values(feeds), source, _FINER * half)
    convs, problems = {}, []
    for conv in (own for own in graph.operators if own.kind in ORDERS):
        try:
            convs[conv.path] = (conv, *both.layer(conv))
        except UnsupportedError as error:
            problems.append({"id": "source", "title": f"{conv.path} was not compared: {error}", "level": "error"})
    pairs = pair_layers([layer for _, layer, _ in convs.values()], source.called_layers)
    for mine, theirs in pairs:
        if mine is not None and theirs is not None:
            conv, _, node = convs[mine.path]
            both.findings[conv.path] = []
            both.findings[conv.path] += both.compare(conv, mine, node, theirs)
    report({"model": [*([_HALF] if half else []), *problems, *both.outputs()]})
    for mine, theirs in pairs:
        if mine is not None:
            report(_row(both, mine.path, theirs))
    report({"missing": [b.path for a, b in pairs if a is None and b is not None and source.inputs.get(b.path)]})


def _row(both: _Comparison, path: str, theirs: Layer | None) -> dict[str, Any]:
    found = both.findings.get(path, [])
    fatal = any(one.fatal for one in found)
    notes = [{**one.to_dict(), "level": "info"} for one in found if not fatal]
    if theirs is None:
        notes = [{"id": "unmatched", "title": "no layer of the source matches this node", "level": "warning"}]
    return {"path": path, "matched": None if theirs is None else theirs.path, "diverges": fatal,
            "findings": [one.to_dict() for one in found] if fatal else [], "notes": notes,
            "snr_db": both.noise.get(path)}  # fmt: skip
