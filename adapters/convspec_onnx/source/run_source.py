"""Run the source of a graph: another graph in this process, or a model that another process holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from convspec.errors import RequestError
from convspec.models import SourceRun, common_rank, match_layout, read_run
from convspec.spec import layouts
from convspec_onnx.graph import Conv, Scope, as_float
from convspec_onnx.loading import Array, Arrays, DetachedModel
from convspec_onnx.loading import inputs as graph_inputs
from convspec_onnx.source.match_nodes import layer_of
from convspec_onnx.source.quantized import dequantize, read_quantized
from convspec_onnx.verify import Run
from convspec_onnx.verify.runtimes import RunConfig

Ask = Callable[[dict[str, Any]], dict[str, Any]]

_TO_FIRST = ((0, 2, 1), (0, 3, 1, 2), (0, 4, 1, 2, 3))
_ELEMENTWISE = ("Cast", "Identity", "Pad", "Add", "Sub", "Mul", "Div", "Relu", "BatchNormalization", "Clip")


@dataclass
class GraphSource:
    """A source that is itself an ONNX graph."""

    model: DetachedModel
    convs: Sequence[Conv]
    folder: Path
    inputs: str | None = None
    runs: int = 0

    def run(self, title: str, feeds: Mapping[str, Array]) -> SourceRun:
        """Run it without optimisation, and write what its convolutions read to files."""
        source = SourceRun([layer for layer in map(layer_of, self.convs) if layer is not None])
        self.runs += 1
        try:
            if self.inputs is None:
                given = _rename(self.model.graph, feeds)
            else:
                _, given = next(graph_inputs.read_inputs(self.model.graph, self.inputs))
        except RequestError as error:
            source.problem = str(error)
            return source

        def store(conv: Conv, arrays: Arrays) -> None:
            path = self.folder / f"{self.runs}_{len(source.inputs)}.npy"
            node = read_quantized(conv)
            np.save(path, dequantize(node, arrays)[0] if node else as_float(arrays["x"]), allow_pickle=False)
            source.inputs.setdefault(conv.path, []).append(path)
            source.calls.append(conv.path)

        config = RunConfig("off")
        run = Run(self.model, self.convs, title, [config], lambda _: None, store, judging=False)
        run.execute(given)
        source.problem = run.broken.get(config, "")
        values = run.values[config]
        source.outputs = [values[entry.name] for entry in self.model.graph.output if entry.name in values]
        return source


@dataclass
class RemoteSource:
    """A source in the process that requested the audit."""

    ask: Ask
    graph: onnx.GraphProto
    folder: Path
    runs: int = 0

    def run(self, title: str, feeds: Mapping[str, Array]) -> SourceRun:
        """Have the other process run it, and read the files that it writes."""
        self.runs += 1
        path = self.folder / f"feeds_{self.runs}.npz"
        plain = [array.astype(np.float32) if array.dtype.kind == "V" else array for array in feeds.values()]
        arrays = {f"input_{index}": array for index, array in enumerate(plain)}
        try:
            np.savez(path, allow_pickle=False, **arrays)
        except ValueError:
            return SourceRun(problem="the source takes numeric inputs only")
        layouts_by_name = {name: layout_of(self.graph, name) for name in feeds}
        answer = self.ask({"feeds": str(path), "names": list(feeds), "layouts": layouts_by_name})
        path.unlink()
        return SourceRun(problem=answer["problem"]) if "problem" in answer else read_run(Path(answer["index"]))


def layout_of(graph: onnx.GraphProto, name: str) -> str | None:
    """Return the layout of an input: ``"NCHW"`` if a convolution reads it, ``"NHWC"`` if transposed for one."""
    consumers = Scope(graph).consumers
    tensors, seen = [name], {name}
    for tensor in tensors:  # grows on the way
        for node in consumers.get(tensor, ()):
            if node.op_type in ("Conv", "ConvTranspose") and node.input[0] == tensor:
                return layouts.CHANNELS_FIRST
            if node.op_type == "Transpose":
                order = next((tuple(a.ints) for a in node.attribute if a.name == "perm"), ())
                if order in _TO_FIRST:
                    return layouts.CHANNELS_LAST
            elif node.op_type in _ELEMENTWISE and node.output[0] not in seen:
                seen.add(node.output[0])
                tensors.append(node.output[0])
    return None


def match_results(
    outputs: Sequence[Array | None], sources: Sequence[Array]
) -> tuple[list[int], tuple[int, str] | None]:
    """Return the index of the source's output for each of ours, and the first without one, with its difference.

    Outputs are compared in their order, and with another only if they differ from the one at their own position.
    """
    order: list[int] = []
    differences: dict[int, str] = {}
    for number, mine in enumerate(outputs):
        for place in dict.fromkeys((number, *range(len(sources)))):
            if place in order:
                continue
            apart = "" if mine is None or mine.dtype.kind != "f" else _compare_result(mine, sources[place])
            if not apart:
                order.append(place)
                break
            differences.setdefault(number, apart)
        else:
            return order, (number, differences[number])
    return order, None


def _compare_result(mine: Array, theirs: Array) -> str:
    return common_rank.compare_tensors(np.atleast_1d(mine), np.atleast_1d(match_layout(theirs, mine)))


def _rename(graph: onnx.GraphProto, feeds: Mapping[str, Array]) -> Arrays:
    """Return the arrays under the source's names, in order if the names differ."""
    names = [entry.name for entry in graph_inputs.free_inputs(graph)]
    if set(names) == set(feeds):
        return dict(feeds)
    if len(names) != len(feeds):
        raise RequestError(f"the source takes the inputs {names}, the model {sorted(feeds)}")
    return dict(zip(names, feeds.values(), strict=True))
