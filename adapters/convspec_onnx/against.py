"""A graph against its source: another graph, or the readings of any framework's model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec import ConvParams, ConvSpec, diagnosis
from convspec.dtypes import format_of
from convspec.errors import ConvspecError, RequestError
from convspec.models.matching import Difference, Layer, Normalised, differences, pairs
from convspec.numerics import products
from convspec.verdict import judge
from convspec_onnx import ADAPTER, judging
from convspec_onnx.graph import as_float, pad_before
from convspec_onnx.inline import uses
from convspec_onnx.running import Run
from convspec_onnx.runtimes import Arm

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from convspec_onnx.graph import Conv

    Arrays = dict[str, NDArray[Any]]
    Say = Callable[[dict[str, Any]], None]

_SAMPLE = 4096  # numbers of a tensor that are kept to compare it with another model's
_SECONDS = 3.0  # for the search among pairs of mistakes


@dataclass
class Source:
    """What the graph was made from, its convolutions matched with the graph's."""

    convs: Sequence[Conv]
    say: Say
    matched: dict[str, Layer]
    missing: list[Layer]
    layers: list[Layer]
    found: dict[str, list[Difference]]
    model: onnx.ModelProto | None = None
    their_convs: Sequence[Conv] = ()
    equal: set[str] = field(default_factory=set)
    departed: set[str] = field(default_factory=set)
    inputs: dict[str, _Sketch] = field(default_factory=dict)

    @classmethod
    def load(cls, request: Mapping[str, Any], convs: Sequence[Conv], say: Say) -> Source | None:
        """The source that the request names; None where it names none."""
        model: onnx.ModelProto | None = None
        their_convs: Sequence[Conv] = ()
        if path := request.get("against"):
            from convspec_onnx.audit import read

            model, their_convs, _ = read(path, request.get("memory"), limited=request.get("limited", False))
            layers = [layer for conv in their_convs if (layer := layer_of(conv)) is not None]
        elif path := request.get("readings"):
            layers = load_readings(path)
        else:
            return None
        ours = [layer for conv in convs if (layer := layer_of(conv)) is not None]
        matched, missing, found = {}, [], {}
        for mine, theirs in pairs(ours, layers):
            if mine is None and theirs is not None:
                missing.append(theirs)
            elif mine is not None and theirs is not None:
                matched[mine.path] = theirs
                found[mine.path] = differences(mine, theirs, [other for other in layers if other is not theirs])
        return cls(convs, say, matched, missing, layers, found, model, their_convs)

    def look(self, conv: Conv, arrays: Arrays) -> None:
        """Hold one node's numbers against its source's layer, computed from what the node really read."""
        self.inputs.setdefault(conv.path, _Sketch.of(arrays["x"]))
        theirs, static = self.matched.get(conv.path), self.found.get(conv.path, [])
        if theirs is None or not static or conv.path in self.departed:
            return
        if any(d.fatal for d in static) or not self._same_numbers(conv, theirs, arrays):
            self.departed.add(conv.path)
            self._explain(conv, theirs, arrays)

    def _same_numbers(self, conv: Conv, theirs: Layer, arrays: Arrays) -> bool:
        """Whether the source's layer gives these numbers in spite of fields that are written differently."""
        try:
            spec = theirs.without(pad_before(conv))
            if conv.params is None or spec is None:
                return False
            expected, size, ignore = judging.expectation(spec, conv.params, as_float(arrays["x"]))
            y = as_float(arrays["y"])
            dtype = str(arrays["y"].dtype)
            found = judge(y, expected, size, dtype=dtype, data="captured", products=products(spec),
                          arithmetic=ADAPTER.arithmetic(spec, dtype), ignore=ignore)  # fmt: skip
        except ConvspecError:
            return False
        return found.verdict == "agree"

    def _explain(self, conv: Conv, theirs: Layer, arrays: Arrays) -> None:
        """Ask the diagnosis for the mistake's name; it works from numbers, so it can say more than the fields."""
        if theirs.norm is not None:
            return
        try:
            said = diagnosis.diagnose(
                theirs.spec,
                theirs.params,
                as_float(arrays["x"]),
                as_float(arrays["y"]),
                seconds=_SECONDS,
            )
        except (ConvspecError, ValueError, MemoryError) as error:
            self.say({"path": conv.path, "undiagnosed": str(error)})
            return
        self.found[conv.path] += [Difference(f.id, f"{f.title}: {f.what}") for f in list(said)[:2]]

    def follow(self, title: str, feeds: Arrays) -> None:
        """Run the source on the same inputs and find the first node that already reads other numbers."""
        if self.model is None:
            return
        named = _renamed(self.model.graph, feeds)
        seen: dict[str, _Sketch] = {}
        run = Run(self.model, self.their_convs, title, [Arm("off")], lambda _: None, judging=False)

        def look(conv: Conv, arrays: Arrays) -> None:
            seen[conv.path] = _Sketch.of(arrays["x"])

        run.look = look
        run.go(named)
        for conv in self.convs:
            theirs = self.matched.get(conv.path)
            mine = self.inputs.get(conv.path)
            if theirs is None or mine is None or theirs.path not in seen:
                continue
            if theirs.pads != pad_before(conv):
                continue  # one of them is padded already, so that the tensors cannot be alike
            if problem := mine.differs(seen[theirs.path]):
                known = self._upstream(conv)
                if not known:
                    self.departed.add(conv.path)
                    self.found[conv.path].append(Difference("input-departs", f"before this node, {problem}"))
        self.inputs.clear()

    def _upstream(self, conv: Conv) -> bool:
        """Whether a node that has departed already explains what this one reads."""
        graph, needed = conv.scope.proto, set(uses(conv.node))
        outer = {o for o, _ in conv.owners}
        paths = {id(c.node): c.path for c in self.convs}
        if outer and self.departed:
            return True
        for node in reversed(graph.node):
            if needed & set(node.output):
                if paths.get(id(node)) in self.departed or any(p.startswith(f"{node.name}/") for p in self.departed):
                    return True
                needed |= uses(node)
        return False

    def conclude(self) -> None:
        """Say of every node what it was matched with, and in what it differs."""
        for conv in self.convs:
            theirs = self.matched.get(conv.path)
            harmless = conv.path not in self.departed
            found = self.found.get(conv.path, [])
            fatal = not harmless or any(d.fatal for d in found)
            self.say({
                "path": conv.path, "matched": None if theirs is None else theirs.path, "departs": fatal,
                "findings": [d.to_dict() for d in found] if fatal else [],
                "notes": [] if fatal else [{**d.to_dict(), "level": "info"} for d in found],
            })  # fmt: skip
        self.say({"missing": [layer.path for layer in self.missing]})


@dataclass(frozen=True, eq=False)
class _Sketch:
    """Some numbers of a tensor, evenly spread, and its largest: enough to see that two tensors differ."""

    shape: tuple[int, ...]
    dtype: str
    sample: NDArray[Any]
    largest: float

    @classmethod
    def of(cls, x: NDArray[Any]) -> _Sketch:
        flat = x.reshape(-1)
        step = max(flat.size // _SAMPLE, 1)
        finite = np.where(np.isfinite(flat), np.abs(flat), 0) if flat.dtype.kind == "f" else np.abs(flat)
        return cls(x.shape, str(x.dtype), flat[::step].astype(np.float64), float(finite.max(initial=0.0)))

    def differs(self, other: _Sketch) -> str:
        """What is different, or nothing: more than half of the format's digits are lost.

        Rounding errors of whole networks have no useful bound; that half of the digits stay is a convention.
        """
        if self.shape != other.shape:
            return f"the data have shape {self.shape} where the source has {other.shape}"
        if self.dtype not in ("float16", "float32", "float64"):
            return ""
        scale = max(self.largest, other.largest)
        with np.errstate(invalid="ignore"):
            far = np.abs(self.sample - other.sample)
        far = float(np.max(far[np.isfinite(far)], initial=0.0))
        if far <= format_of(self.dtype).unit_roundoff ** 0.5 * scale:
            return ""
        return f"the data differ from the source's by {far:.3g}, where their largest number is {scale:.3g}"


def layer_of(conv: Conv) -> Layer | None:
    """A node as a layer, with the normalisation that alone reads it."""
    if conv.spec is None or conv.params is None:
        return None
    users = [node for node in conv.scope.proto.node if conv.node.output[0] in node.input]
    norm = None
    if len(users) == 1 and users[0].op_type == "BatchNormalization" and len(users[0].input) == 5:
        values = [conv.scope.constant(name) for name in users[0].input[1:]]
        epsilon = next((a.f for a in users[0].attribute if a.name == "epsilon"), 1e-5)
        if all(value is not None for value in values):
            gain, shift, mean, variance = (np.asarray(value) for value in values)
            norm = Normalised(gain, shift, mean, variance, float(epsilon))
    return Layer(conv.path, conv.spec, conv.params, norm, pad_before(conv))


def load_readings(path: str) -> list[Layer]:
    """Layers that another process read off a model of any framework."""
    with np.load(path, allow_pickle=False) as arrays:
        entries = json.loads(str(arrays["layers"]))
        return [
            Layer(
                entry["path"],
                ConvSpec.from_dict(entry["spec"]),
                ConvParams(arrays[f"kernel_{i}"], arrays.get(f"bias_{i}")),
            )
            for i, entry in enumerate(entries)
        ]


def _renamed(graph: onnx.GraphProto, feeds: Arrays) -> Arrays:
    """The same arrays under the source's names, by order where the names differ."""
    from convspec_onnx.inputs import free

    names = [entry.name for entry in free(graph)]
    if set(names) == set(feeds):
        return feeds
    if len(names) != len(feeds):
        raise RequestError(f"the source wants the inputs {names}, the model {sorted(feeds)}")
    return dict(zip(names, feeds.values(), strict=True))
