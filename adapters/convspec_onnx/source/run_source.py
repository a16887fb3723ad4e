"""What the source of a graph shows on one set of inputs: another graph, or a model that another process runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec import ConvParams, ConvSpec
from convspec.errors import RequestError
from convspec.models import BatchNorm, Layer
from convspec.spec import layouts
from convspec_onnx.graph.convolutions import as_float, pad_before
from convspec_onnx.graph.epilogue import Behind
from convspec_onnx.verify import inputs
from convspec_onnx.verify.run import Run
from convspec_onnx.verify.runtimes import Arm

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from convspec_onnx.graph.convolutions import Conv
    from convspec_onnx.loading.large_weights import Lean

    Array = NDArray[Any]
    Ask = Callable[[dict[str, Any]], dict[str, Any]]

_TO_LAST = ((0, 2, 1), (0, 2, 3, 1), (0, 2, 3, 4, 1))
_TO_FIRST = ((0, 2, 1), (0, 3, 1, 2), (0, 4, 1, 2, 3))
_BY_CELL = ("Cast", "Identity", "Pad", "Add", "Sub", "Mul", "Div", "Relu", "BatchNormalization", "Clip")


@dataclass
class Shown:
    """One run of a source.

    Attributes:
        layers: its convolutions and linear layers, in the order of their first calls.
        calls: the paths of what was called, in that order.
        inputs: files of what each layer read, by path, in the order of the calls; canonical.
        outputs: the model's results, in the model's own layout.
        problem: why it could not be run.
    """

    layers: list[Layer] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    inputs: dict[str, list[Path]] = field(default_factory=dict)
    outputs: list[Array] = field(default_factory=list)
    problem: str = ""

    @property
    def each(self) -> list[Layer]:
        """A layer for each call, in the order of the calls, and then those that were not called."""
        known = {layer.path: layer for layer in self.layers}
        rest = [layer for layer in self.layers if layer.path not in self.calls]
        return [*(known[path] for path in self.calls if path in known), *rest]


def layer_of(conv: Conv) -> Layer | None:
    """A node as a layer, with the normalisation right behind it, and what else may belong to it."""
    if conv.spec is None or conv.params is None:
        return None
    found = behind(conv)
    pads = ((0, 0),) * conv.spec.ndim if conv.rows else pad_before(conv)
    return Layer(conv.path, conv.spec, conv.params, found.norm, pads, tuple(found.sums), conv.weight,
                 conv.rows is not None)  # fmt: skip


def behind(conv: Conv) -> Behind:
    """What follows a node that has its spec."""
    assert conv.spec is not None
    output = conv.node.output[0]
    axes: list[int | None] = [0, 1, *range(2, 2 + conv.spec.ndim)]
    if conv.rows:
        shape = conv.scope.shape(output)
        axes = [None] * len(shape or ())
        if axes:
            axes[conv.rows[2]] = 1
    walk = Behind(conv.scope, conv.spec.out_channels, conv.joined)
    return walk.walk(output, axes) if axes else walk


@dataclass
class Graph:
    """A source that is a graph itself."""

    model: Lean
    convs: Sequence[Conv]
    folder: Path
    inputs: str | None = None
    runs: int = 0

    def show(self, title: str, feeds: Mapping[str, Array]) -> Shown:
        """Run it without optimisation, and keep what its convolutions read in files."""
        shown = Shown([layer for layer in map(layer_of, self.convs) if layer is not None])
        self.runs += 1
        try:
            given = _renamed(self.model.graph, feeds) if self.inputs is None else self._own()
        except RequestError as error:
            shown.problem = str(error)
            return shown
        run = Run(self.model, self.convs, title, [Arm("off")], lambda _: None, judging=False)

        def look(conv: Conv, arrays: dict[str, Array]) -> None:
            place = self.folder / f"{self.runs}_{len(shown.inputs)}.npy"
            np.save(place, as_float(arrays["x"]), allow_pickle=False)
            shown.inputs.setdefault(conv.path, []).append(place)
            shown.calls.append(conv.path)

        run.look = look
        run.go(given)
        shown.problem = next(iter(run.broken.values()), "")
        values = run.values[Arm("off")]
        shown.outputs = [values[entry.name] for entry in self.model.graph.output if entry.name in values]
        return shown

    def _own(self) -> dict[str, Array]:
        assert self.inputs is not None
        return next(arrays for _, arrays in inputs.given(self.model.graph, self.inputs))


@dataclass
class Asked:
    """A source in the process that asked for the audit."""

    ask: Ask
    graph: onnx.GraphProto
    folder: Path
    runs: int = 0

    def show(self, title: str, feeds: Mapping[str, Array]) -> Shown:
        """Have it run there, and read what it has written down."""
        self.runs += 1
        path = self.folder / f"feeds_{self.runs}.npz"
        arrays = {f"input_{place}": _plain(array) for place, array in enumerate(feeds.values())}
        try:
            np.savez(path, allow_pickle=False, **arrays)
        except ValueError:
            return Shown(problem="inputs that are no numbers are not given to the source")
        told = {name: layout_of(self.graph, name) for name in feeds}
        answer = self.ask({"feeds": str(path), "names": list(feeds), "layouts": told})
        path.unlink()
        return Shown(problem=answer["problem"]) if "problem" in answer else read(Path(answer["index"]))


def _plain(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype.kind == "V" else array


def read(index: Path) -> Shown:
    """What another process has written down of a source."""
    found = json.loads(index.read_text("utf-8"))

    def array(name: str) -> Array:
        return np.asarray(np.load(index.parent / name, allow_pickle=False))

    shown = Shown(calls=found["calls"], outputs=[array(name) for name in found["outputs"]])
    for entry in found["layers"]:
        norm = entry["norm"]
        if norm is not None:
            gain, shift, mean, variance = (array(norm[name]) for name in ("gain", "shift", "mean", "variance"))
            norm = BatchNorm(gain, shift, mean, variance, norm["epsilon"])
        params = ConvParams(array(entry["kernel"]), None if entry["bias"] is None else array(entry["bias"]))
        spec = ConvSpec.from_dict(entry["spec"])
        shown.layers.append(Layer(entry["path"], spec, params, norm, linear=entry["linear"]))
        shown.inputs[entry["path"]] = [index.parent / name for name in entry["inputs"]]
    return shown


def layout_of(graph: onnx.GraphProto, name: str) -> str | None:
    """How a graph reads an input: ``"NCHW"`` where a convolution does, ``"NHWC"`` where it is turned for one."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for entry in node.input:
            readers.setdefault(entry, []).append(node)
    waiting, seen = [name], {name}
    while waiting:
        tensor = waiting.pop(0)
        for node in readers.get(tensor, ()):
            if node.op_type in ("Conv", "ConvTranspose") and node.input[0] == tensor:
                return layouts.CHANNELS_FIRST
            if node.op_type == "Transpose":
                order = next((tuple(a.ints) for a in node.attribute if a.name == "perm"), ())
                if order in _TO_FIRST:
                    return layouts.CHANNELS_LAST
            elif node.op_type in _BY_CELL and node.output[0] not in seen:
                seen.add(node.output[0])
                waiting.append(node.output[0])
    return None


def agree_in_layout(x: Array, source: Array) -> Array | None:
    """The source's tensor in the order of axes in which it has the shape of ``x``; None where there is none."""
    if x.shape == source.shape:
        return source
    for order in (*_TO_LAST, *_TO_FIRST):
        if len(order) == source.ndim and tuple(source.shape[i] for i in order) == x.shape:
            return source.transpose(order)
    return None


def _renamed(graph: onnx.GraphProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The same arrays under the source's names, by order where the names differ."""
    names = [entry.name for entry in inputs.free(graph)]
    if set(names) == set(feeds):
        return dict(feeds)
    if len(names) != len(feeds):
        raise RequestError(f"the source wants the inputs {names}, the model {sorted(feeds)}")
    return dict(zip(names, feeds.values(), strict=True))
