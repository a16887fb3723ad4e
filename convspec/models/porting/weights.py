"""All weights of one model moved into another of the same architecture."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from convspec.contract import KINDS, Part
from convspec.errors import UnsupportedError
from convspec.models.comparison.results import compared
from convspec.models.matching import layers
from convspec.models.run_model import Model, open_model
from convspec.spec import Flattened

if TYPE_CHECKING:
    from convspec.models.comparison.results import Comparison, Inputs
    from convspec.models.run_model import Array

_NEUTRAL = {"gain": 1.0, "shift": 0.0, "mean": 0.0, "variance": 1.0, "bias": 0.0}


_Pair: TypeAlias = tuple[Part, Part, str]


@dataclass(slots=True)
class Move:
    """One layer's weights on their way; ``source`` or ``target`` is empty where it has no partner."""

    kind: str
    source: str
    target: str
    how: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class PortReport:
    """What went where.

    Attributes:
        names: of the frameworks.
        moves: each pair, in the source's order.
        ambiguous: what has more than one answer; unless forced, nothing is written then.
        left: layers and arrays that have no partner.
        warnings: what makes the models differ although the weights are the same.
        written: whether the target has the weights now.
        model: the target; a new ``(module, variables)`` for linen.
        arrays: what was, or would be, written: canonical arrays by the target's path and name.
        comparison: of the two models after the port, where inputs were given.
    """

    names: tuple[str, str]
    moves: list[Move] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    written: bool = False
    model: Any = None
    arrays: dict[str, dict[str, Array]] = field(default_factory=dict)
    comparison: Comparison | None = None

    @property
    def summary(self) -> str:
        """One sentence."""
        count = sum(bool(move.source and move.target) for move in self.moves)
        if self.ambiguous and not self.written:
            return "Nothing was written: say inputs=… (the order of execution decides then), or force it."
        if not self.written:
            return f"{count} layers would be moved; nothing was written."
        if self.comparison is None:
            return f"{count} layers moved."
        told = "the models agree" if self.comparison.agrees else f"they still part: {self.comparison.departure}"
        return f"{count} layers moved; run on the same input, {told}."

    def __str__(self) -> str:
        from convspec.models.text_table import port

        return "\n".join(line for line, _ in port(self))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the moved arrays, canonical, as ``.safetensors``; else the target in its framework's own format.

        The names are the target's paths: ``layer1/conv.kernel``.
        """
        if Path(path).suffix != ".safetensors":
            from convspec.models.find_adapter import owner

            owner(self.model).model_module().save(self.model, path)
            return
        from safetensors.numpy import save_file

        flat = {
            f"{where}.{name}": np.ascontiguousarray(a) for where, own in self.arrays.items() for name, a in own.items()
        }
        save_file(flat, path, metadata={"order": "canonical", "framework": self.names[1]})

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the arrays."""
        fields = ("kind", "source", "target", "how", "notes")
        return {
            "schema": "convspec.port/1",
            "models": list(self.names),
            "moves": [{name: getattr(move, name) for name in fields} for move in self.moves],
            "ambiguous": self.ambiguous,
            "left": self.left,
            "warnings": self.warnings,
            "written": self.written,
            "summary": self.summary,
            "comparison": None if self.comparison is None else self.comparison.to_dict(),
        }


def port_weights(
    source: Any,
    target: Any,
    inputs: Inputs | None = None,
    *,
    layouts: tuple[str | None, str | None] = (None, None),
    force: bool = False,
    dry_run: bool = False,
) -> PortReport:
    """Move the weights of every convolution, norm and linear layer of one model into another of any framework.

    Layers are matched within those of the same kind and weight shape: by their names where these are the same, else in
    order – of execution where inputs are given. The order of definition alone leaves layers of the same shape
    ambiguous, and nothing ambiguous is written.

    Args:
        source: the model that has the weights.
        target: the model that gets them, changed in place (linen: see ``report.model``).
        inputs: for both models, in the source's layout; the models are compared on them afterwards.
        layouts: of the inputs that both take; None: the layout of the model's first convolution.
        force: write although something is ambiguous, taking layers of the same shape in their order.
        dry_run: report, and write nothing.

    Raises:
        UnsupportedError: where a model cannot be looked into, or has no convolutions; says what it has.
        RequestError: where an object is no model that is known, or does not take the inputs.
    """
    a = open_model(source, inputs, layouts[0])
    b = open_model(target, inputs, layouts[1], layouts[0] or a.layout)
    report = PortReport((a.adapter.name, b.adapter.name), model=target)
    done: list[_Pair] = []
    for kind in KINDS:
        done += _matched(a, b, kind, _behind(a, b, done) if kind == "norm" else [], report)
    for ours, theirs, how in done:
        _move(ours, theirs, how, a, b, report)
    if dry_run or (report.ambiguous and not force):
        return report
    report.model = b.adapter.model_module().write(target, report.arrays)
    report.written = True
    _check_written(report, inputs, layouts[1], layouts[0] or a.layout)
    if inputs is not None:
        report.comparison = compared(a, open_model(report.model, inputs, layouts[1], layouts[0] or a.layout))
    return report


def _check_written(report: PortReport, inputs: Any, layout: str | None, source: str) -> None:
    """Read the target again: what was written must be there, bit for bit."""
    there = {part.path: part.weights for part in open_model(report.model, inputs, layout, source).parts}
    for path, own in report.arrays.items():
        for name, array in own.items():
            if not np.array_equal(there[path][name], array, equal_nan=True):
                raise UnsupportedError(f"the {name} of {path} could not be written: it reads back differently")


def _behind(a: Model, b: Model, convs: Sequence[_Pair]) -> list[_Pair]:
    """Batch norms that stand behind convolutions that are matched already."""
    found = ((layers.norm_behind(a, ours), layers.norm_behind(b, theirs)) for ours, theirs, _ in convs)
    return [
        (ours, theirs, "place")
        for ours, theirs in found
        if ours is not None and theirs is not None and layers.shape(ours) == layers.shape(theirs)
    ]


def _matched(a: Model, b: Model, kind: str, found: list[_Pair], report: PortReport) -> list[_Pair]:
    """The pairs of one kind beyond those found; what has no partner, or more than one, goes to the report."""
    done = {id(part) for pair in found for part in pair[:2]}
    groups: defaultdict[Hashable, tuple[list[Part], list[Part]]] = defaultdict(lambda: ([], []))
    for place, model in enumerate((a, b)):
        for part in model.ordered(kind):
            if id(part) in done:
                continue
            if kind == "conv" and (part.reading is None or (place and part.function)):
                how = "written" if part.function else "read"
                report.ambiguous.append(f"{part.path} cannot be {how}: {part.problem}")
            else:
                groups[layers.shape(part)][place].append(part)
    found = list(found)
    for ours, theirs in groups.values():
        pairs = _within(ours, theirs, executed=a.executed and b.executed, report=report)
        found += pairs
        for side, whose, taken in ((ours, "source", 0), (theirs, "target", 1)):
            used = {id(pair[taken]) for pair in pairs}
            report.left += [f"{part.kind} {part.path} of the {whose}" for part in side if id(part) not in used]
    order = {id(part): place for place, part in enumerate(a.ordered(kind))}
    return sorted(found, key=lambda pair: order[id(pair[0])])


def _within(ours: Sequence[Part], theirs: Sequence[Part], *, executed: bool, report: PortReport) -> list[_Pair]:
    """The pairs among layers of the same shape."""
    names = [[layers.name(part) for part in side] for side in (ours, theirs)]
    same = set(names[0]) == set(names[1]) and None not in names[0]
    if same and all(len(set(side)) == len(side) for side in names):
        by_name = dict(zip(names[1], theirs, strict=True))
        return [(part, by_name[name], "name") for part, name in zip(ours, names[0], strict=True)]
    if not ours or not theirs:
        return []
    if len(ours) != len(theirs):
        report.ambiguous.append(
            f"{len(ours)} layers of the source ({_listed(ours)}) have the shape of {len(theirs)} of the target "
            f"({_listed(theirs)})"
        )
    elif len(ours) > 1 and not executed:
        report.ambiguous.append(f"{_listed(ours)} of the source have one shape: their order of definition may mislead")
    how = "shape" if len(ours) == len(theirs) == 1 else "order of execution" if executed else "order of definition"
    return [(part, other, how) for part, other in zip(ours, theirs, strict=False)]


def _listed(parts: Sequence[Part]) -> str:
    shown = ", ".join(part.path for part in parts[:4])
    return shown + (f", … ({len(parts)} in all)" if len(parts) > 4 else "")


def _move(ours: Part, theirs: Part, how: str, a: Model, b: Model, report: PortReport) -> None:
    """Put one layer's arrays, in canonical order, where the target's layer wants them."""
    move = Move(ours.kind, ours.path, theirs.path, how)
    report.moves.append(move)
    arrays, wanted = ours.weights, theirs.weights
    found: dict[str, Array] = {}
    for name, old in wanted.items():
        new = arrays.get(name)
        if new is None:
            new = np.full(old.shape, _NEUTRAL.get(name, 0.0), old.dtype)
            move.notes.append(f"the source has no {name}: {_NEUTRAL.get(name, 0.0):g}")
        found[name] = new.astype(old.dtype) if new.dtype != old.dtype else new
    for name in arrays.keys() - wanted.keys():
        if not (arrays[name] == _NEUTRAL.get(name, np.nan)).all():
            report.ambiguous.append(f"{theirs.path} has no place for the {name} of {ours.path}")
    if ours.kind == "linear":
        found["kernel"] = _flattened(found["kernel"], ours, a, b, move, report)
    if ours.kind == "norm" and ours.epsilon != theirs.epsilon:
        move.notes.append(f"epsilon {ours.epsilon:g} against {theirs.epsilon:g}")
        report.warnings.append(f"{theirs.path} has epsilon {theirs.epsilon:g}, {ours.path} {ours.epsilon:g}: set it")
    if ours.reading is not None and theirs.reading is not None:
        move.notes += layers.spec_differences(ours.reading.spec, theirs.reading.spec)
    report.arrays[theirs.path] = found


def _flattened(kernel: Array, ours: Part, a: Model, b: Model, move: Move, report: PortReport) -> Array:
    """The kernel with its columns in the order that the target's flatten gives, where a flatten stands before it."""
    if a.layout == b.layout:
        return kernel
    before = _before(ours, a)
    features = kernel.shape[1]
    if before is None or before.kind == "linear" or features == _channels(before):
        return kernel
    channels = _channels(before)
    if features % channels:
        report.ambiguous.append(f"{ours.path} has {features} inputs, no multiple of the {channels} channels before it")
        return kernel
    move.notes.append(f"flattened {a.layout} → {b.layout}: columns permuted")
    return kernel[:, list(Flattened(channels, (features // channels,)).order(b.layout, a.layout))]


def _before(part: Part, model: Model) -> Part | None:
    """The layer before, in the order of execution where it is known, else of definition."""
    known: Mapping[str, Part] = {one.path: one for one in model.parts}
    order = [known[call.path] for call in model.calls if call.path in known] or model.parts
    place = next((i for i, one in enumerate(order) if one is part), 0)
    return order[place - 1] if place else None


def _channels(part: Part) -> int:
    if part.reading is not None:
        return int(part.reading.spec.out_channels)
    array = layers.weight(part)
    return 0 if array is None else int(array.shape[0])
