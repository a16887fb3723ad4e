"""A graph run segment by segment by one arm after the other, its convolutions judged on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper

from convspec.errors import ConvspecError, RequestError, ShapeError
from convspec.reference import Verdict
from convspec_onnx.graph.convolutions import as_float
from convspec_onnx.loading.inline_functions import uses
from convspec_onnx.loading.large_weights import Lean
from convspec_onnx.verify import capture, judge, runtimes
from convspec_onnx.verify.accuracy_class import Classes
from convspec_onnx.verify.runtimes import Arm, RunError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec_onnx.graph.convolutions import Conv
    from convspec_onnx.verify.capture import Segment

    Arrays = dict[str, NDArray[Any]]
    Say = Callable[[dict[str, Any]], None]
    Look = Callable[[Conv, Arrays], None]

_FIRST, _SECOND = 11, 17  # sizes of made-up axes, behind the kernel's reach
_NO_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate", "MemoryError")
_MOST_CELLS = 1 << 25


@dataclass
class Run:
    """One set of inputs on all arms.

    Attributes:
        look: called with every judged node, what it read (``x``) and wrote (``y``), on the first arm.
        classes: what accuracy class is expected of a provider, and measured on every layer.
    """

    model: Lean
    convs: Sequence[Conv]
    title: str
    arms: Sequence[Arm]
    say: Say
    look: Look | None = None
    judging: bool = True
    classes: Classes = field(default_factory=Classes)
    reached: set[str] = field(default_factory=set)
    values: dict[Arm, Arrays] = field(default_factory=dict)
    broken: dict[Arm, str] = field(default_factory=dict)

    def go(self, feeds: Arrays) -> None:
        """Run everything; what a runtime refuses is said of the node that it refuses."""
        parts = capture.segments(self.model.graph, self.convs)
        later = [{entry.name for entry in self.model.graph.output}]
        for part in reversed(parts[1:]):
            later.insert(0, later[0].union(*map(uses, part.nodes)))
        self.values = {arm: dict(feeds) for arm in self.arms}
        for part, keep in zip(parts, later, strict=True):
            kept = {conv.path: judge.Right() for conv in part.convs}
            for arm in self.arms:
                if arm not in self.broken:
                    self.say({"begin": [conv.path for conv in part.convs]})
                    self.segment(part, keep, arm, kept)
            for values in self.values.values():
                for name in set(values) - keep:
                    del values[name]

    def segment(self, part: Segment, keep: set[str], arm: Arm, kept: Mapping[str, judge.Right]) -> None:
        try:
            seen = self.captured(part, keep, arm)
        except RunError as error:
            if len(part.nodes) > 1:
                inner = list(capture.single(part))
                for n, one in enumerate(inner):
                    if arm in self.broken:
                        return
                    rest = [node for other in inner[n + 1 :] for node in other.nodes]
                    self.segment(one, keep.union(*map(uses, rest)), arm, kept)
                return
            if part.nodes:
                self.failed(part, arm, error)
            else:
                self.give_up(arm, f"the graph, which has no node, fails: {error}")
            return
        for conv in part.convs:
            if conv.node.output[0] in seen or conv.owners:
                self.verdict(conv, seen, arm, kept[conv.path])
        self.values[arm] |= {name: seen[name] for name in keep & set(seen)}

    def captured(self, part: Segment, keep: set[str], arm: Arm) -> Arrays:
        """Run one segment; where bodies do not let themselves be opened, their nodes stay unseen."""
        values = self.values[arm]
        for inside in (True, False):
            captures = capture.shown(part.convs, inside=inside)
            model, names = capture.submodel(self.model.proto, part, values, keep, captures)
            try:
                found = runtimes.run(Lean(model, self.model.weights), values, names, arm)
            except RunError:
                if inside and any(conv.owners for conv in part.convs):
                    continue
                raise
            return {**values, **found}
        raise AssertionError("unreachable")

    def failed(self, part: Segment, arm: Arm, error: RunError) -> None:
        """One node cannot run: of a convolution that is a verdict, and the oracle's output goes on in its place."""
        if any(words in str(error) for words in _NO_MEMORY):
            raise MemoryError
        (node,) = part.nodes
        kind = "unsupported" if error.unsupported else "error"
        conv = next((c for c in part.convs if not c.owners), None)
        if conv is None:
            for inner in part.convs:
                self.speak(inner, arm, Verdict("unsupported", f"not run: {node.name!r} around it failed"))
            self.give_up(arm, f"node {node.name!r} ({node.op_type}) fails: {error}")
            return
        self.speak(conv, arm, Verdict(kind, str(error)))
        try:
            self.values[arm][node.output[0]] = _substitute(conv, self.values[arm])
        except (ConvspecError, KeyError) as failure:
            self.give_up(arm, f"behind {conv.path!r}, which fails, nothing runs: {failure}")

    def give_up(self, arm: Arm, why: str) -> None:
        """Run no more on this arm."""
        self.broken[arm] = why
        self.say({"broken": why, "inputs": self.title})

    def verdict(self, conv: Conv, seen: Arrays, arm: Arm, kept: judge.Right) -> None:
        values = seen if not conv.owners else _of_body(conv, seen)
        if not self.judging:
            arrays = judge.seen(conv, values)
            if arrays and self.look is not None:
                self.look(conv, arrays)
            return
        found, arrays = self.classes.judged(conv, values, arm, kept)
        if conv.owners and not arrays:
            return  # not seen: it is run alone
        if arm == self.arms[0] and self.look is not None and arrays:
            self.look(conv, arrays)
        self.speak(conv, arm, found, arrays)

    def speak(self, conv: Conv, arm: Arm, found: Verdict, arrays: Arrays | None = None) -> None:
        self.reached.add(conv.path)
        shapes = {name: list(arrays[name].shape) for name in "xy"} if arrays else {}
        spec = conv.spec
        self.say({
            "path": conv.path, "inputs": self.title, "level": arm.level, "provider": arm.provider,
            "verdict": found.verdict, "reason": found.reason, "evidence": found.evidence, "class": found.accuracy_class,
            "shapes": shapes, "spec": None if spec is None else spec.to_dict(),
        })  # fmt: skip


def _of_body(conv: Conv, seen: Arrays) -> Arrays:
    """What a node in a body read and wrote, by its own names."""
    found = {}
    for number, name in enumerate(capture.wanted(conv)):
        tag = f"convspec_shows/{conv.path}/{number}"
        if tag in seen:
            found[name] = seen[tag]
    return found


def _substitute(conv: Conv, values: Arrays) -> NDArray[Any]:
    """The oracle's output in the type that the node would have given."""
    if conv.spec is None or conv.params is None or conv.node.op_type not in ("Conv", "ConvTranspose"):
        raise RequestError("its layer cannot be read")
    x = values[conv.data]
    expected, _, _ = judge.expectation(conv.spec, conv.params, as_float(x))
    return expected.astype(x.dtype)


def alone(model: Lean, conv: Conv, arm: Arm, classes: Classes) -> tuple[Verdict, Arrays]:
    """The verdict on a node taken out of its graph, on made-up input: for those that a run does not reach."""
    if conv.rows:
        return Verdict("unsupported", judge.NOT_RUN), {}
    node = onnx.NodeProto()
    node.CopyFrom(conv.node)
    try:
        constants = {name: conv.scope.constant(name) for name in node.input[1:] if name}
        if any(value is None for value in constants.values()):
            return Verdict("unsupported", f"{judge.NOT_RUN}; its weights are computed"), {}
        x = _made(conv)
        feeds: Arrays = {node.input[0]: x, **{k: v for k, v in constants.items() if v is not None}}
        element = conv.scope.element(node.output[0]) or int(helper.np_dtype_to_tensor_dtype(x.dtype))
        found = judge.once(model.proto, node, feeds, element, arm)
        return classes.judged(conv, {**feeds, **found}, arm)
    except RunError as error:
        return Verdict("unsupported" if error.unsupported else "error", str(error)), {}
    except (ShapeError, RequestError) as error:
        return Verdict("error", str(error)), {}


def _made(conv: Conv) -> NDArray[Any]:
    """Random input for one node, of the sizes that are known."""
    weight = conv.scope.constant(conv.weight)
    if weight is None or weight.ndim < 3:
        raise RequestError("the node has no weight of a convolution")
    attributes, ndim = conv.attributes, weight.ndim - 2
    groups = attributes.get("group") or 1
    channels = weight.shape[0] if conv.node.op_type == "ConvTranspose" else weight.shape[1] * groups
    known = conv.scope.shape(conv.node.input[0]) or ()
    dilations = attributes.get("dilations") or (1,) * ndim
    sizes = []
    for axis in range(ndim):
        reach = (weight.shape[2 + axis] - 1) * dilations[axis] + 1
        size = known[2 + axis] if len(known) == weight.ndim else None
        sizes.append(size if isinstance(size, int) and size else reach + (_FIRST if axis % 2 else _SECOND))
    batch = known[0] if known and isinstance(known[0], int) and known[0] else 2
    if np.prod([batch, channels, *sizes], dtype=object) > _MOST_CELLS:
        raise RequestError(f"an input of shape {(batch, channels, *sizes)} is too large to be made up")
    rng = np.random.default_rng(0)
    element = conv.scope.element(conv.node.input[0])
    dtype = helper.tensor_dtype_to_np_dtype(element) if element else weight.dtype
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, int(info.max) + 1, (batch, channels, *sizes)).astype(dtype)
    return rng.standard_normal((batch, channels, *sizes)).astype(dtype)
