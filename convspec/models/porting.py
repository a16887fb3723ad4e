"""Port a layer, or all weights of a model, to another framework."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from convspec.atomic_files import replace_file
from convspec.contract import KINDS, Part, registry
from convspec.errors import ConvspecError, StorageError, UnsupportedError, printable
from convspec.models import text_table
from convspec.models.comparison.results import Comparison
from convspec.models.comparison.run_both import Inputs, compare_open
from convspec.models.comparison.temporary_weights import without_effect
from convspec.models.files.model_file import ModelFile
from convspec.models.matching import layers
from convspec.models.matching.differences import spec_differences
from convspec.models.matching.pointwise import in_common_kinds
from convspec.models.run_model import Model, adapter_for, one_at_a_time, open_model
from convspec.models.text_table import Printable, Text
from convspec.reference import gamma
from convspec.spec import Array, Flattened

_NEUTRAL = {"gain": 1.0, "shift": 0.0, "mean": 0.0, "variance": 1.0, "bias": 0.0}

_MADE, _SINGLE = 8, 2.0**-24  # roundings of a kernel that is made of a length and a direction
_TRIED = 16  # layers of one shape that are tried for an effect on the results
_Pair: TypeAlias = tuple[Part, Part, str]


def port(
    layer: Any, to: str, layout: str | None = None, *, input_shape: Sequence[int] | None = None, device: str = "cpu"
) -> Any:
    """Return the same layer in another framework: same spec, same weights bit for bit, same dtype.

    Args:
        layer: of any framework; of ONNX a ``ModelProto`` or the path of one.
        to: name of the adapter that builds the new layer.
        layout: of the new layer's tensors; None: its framework's own.
        input_shape: of the input, in the old layer's layout; needed where the layer is more than a plain
            convolution. The new layer's padding is then that for inputs of this size.
        device: of the new layer.

    Raises:
        UnsupportedError: if the layer cannot be read, or the other framework cannot express it; says why.
        RequestError: if no adapter knows the layer's framework.
    """
    reading = adapter_for(layer).read(layer, input_shape)
    return registry.adapter(to).build(reading.spec, reading.params, layout, reading.dtype, device)


@dataclass(slots=True, repr=False)
class Move:
    """The move of one layer's weights; ``source`` or ``target`` is empty where it has no counterpart."""

    kind: str
    source: str
    target: str
    how: str = ""
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        notes = f": {'; '.join(self.notes)}" if self.notes else ""
        return f"{self.kind} {self.source or '–'} → {self.target or '–'}{notes}"

    def __repr__(self) -> str:
        return f"<Move {self}>"


@dataclass(slots=True, repr=False)
class PortReport(Printable):
    """The weights that were moved, and those that were not.

    Attributes:
        names: the frameworks.
        moves: each pair, in the source's order.
        ambiguous: what has more than one answer, and what would tell; unless forced, nothing is written then.
        left: layers and arrays without a counterpart.
        unused: layers without a counterpart that have no effect on any result.
        unmoved: parameters of both models that belong to no convolution, norm or linear layer.
        warnings: settings that make the models differ with the same weights.
        written: whether the target has the weights now.
        model: the target; a new ``(module, variables)`` for linen, a new module or ``(module, state)`` for Equinox.
        arrays: what was, or would be, written: canonical arrays by the target's path and name.
        comparison: of the two models after the port, where inputs were given.
    """

    names: tuple[str, str]
    moves: list[Move] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    unmoved: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    written: bool = False
    model: Any = None
    arrays: dict[str, dict[str, Array]] = field(default_factory=dict)
    comparison: Comparison | None = None
    ran: bool = False

    @property
    def complete(self) -> bool:
        """Whether all weights have been moved, or would be, and the models agree where they were compared."""
        if self.ambiguous or self.left:
            return False
        return not self.unmoved if self.comparison is None else self.comparison.agrees

    @property
    def summary(self) -> str:
        """The outcome in one sentence."""
        count = sum(bool(move.source and move.target) for move in self.moves)
        layers_ = f"{count} layer{'s' * (count != 1)}"
        if self.ambiguous and not self.written:
            way = "use force to write what is matched" if self.ran else (
                "give inputs, so that the order of execution decides, or use force"
            )  # fmt: skip
            return f"Nothing was written: {self.ambiguous[0] if self.ran else 'layers are ambiguous'}; {way}."
        rest = f"; {len(self.unmoved)} parameters of other layers are not moved" if self.unmoved else ""
        if not self.written:
            return f"{layers_} would be moved; nothing was written{rest}."
        if self.comparison is None:
            return f"{layers_} moved{rest}."
        result = {
            "agree": "the models agree", "differ": f"they still differ: {self.comparison.divergence}",
            "unknown": f"it is unknown whether they agree: {self.comparison.unknown}",
        }[self.comparison.verdict]  # fmt: skip
        return f"{layers_} moved{rest}; run on the same input, {result}."

    def _text(self) -> Text:
        return text_table.port(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the moved arrays, canonical, as ``.safetensors``; else the target in its framework's own format.

        The arrays' names are the target's paths: ``layer1/conv.kernel``. The file is written whole or not at all.

        Raises:
            StorageError: if it cannot be written.
        """
        if isinstance(self.model, ModelFile) and Path(path).suffix != ".safetensors":
            self.model.save(path)
            return
        try:
            with replace_file(path) as part:
                self._save(part)
        except ConvspecError:
            raise
        except Exception as error:  # frameworks report a full disk as errors of many kinds
            reason = getattr(error, "strerror", None) or printable(error).replace(part.name, Path(path).name)
            raise StorageError(f"cannot write {os.fspath(path)}: {reason}") from error

    def _save(self, path: Path) -> None:
        if path.suffix != ".safetensors":
            adapter_for(self.model).model_module().save(self.model, path)
            return
        from safetensors.numpy import save_file

        flat = {f"{layer}.{name}": a for layer, arrays in self.arrays.items() for name, a in arrays.items()}
        contiguous = {name: np.ascontiguousarray(array) for name, array in flat.items()}
        save_file(contiguous, path, metadata={"order": "canonical", "framework": self.names[1]})

    def to_dict(self) -> dict[str, Any]:
        """Return the report without the arrays, JSON-ready."""
        return {
            "schema": "convspec.port/1", "models": list(self.names), "moves": [asdict(move) for move in self.moves],
            "ambiguous": self.ambiguous, "left": self.left, "unused": self.unused, "unmoved": self.unmoved,
            "warnings": self.warnings, "written": self.written, "complete": self.complete,
            "summary": self.summary, "comparison": None if self.comparison is None else self.comparison.to_dict(),
        }  # fmt: skip


@one_at_a_time
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

    Layers of the same kind and weight shape are matched: by their names where both models have the same, else in order
    – of execution if inputs are given. The order of definition alone leaves layers of the same shape ambiguous, and
    nothing ambiguous is written. A layer that no result depends on needs no counterpart.

    Args:
        source: the model that has the weights.
        target: the model that gets them, changed in place (linen, Equinox: see ``report.model``).
        inputs: for both models, in the source's layout; the models are compared on them afterwards.
        layouts: the layouts of the two models' inputs; None: the layout of the model's first convolution.
        force: whether to write what is ambiguous, taking layers of the same shape in their order.
        dry_run: whether to report only, and write nothing.

    Raises:
        UnsupportedError: if a model cannot be read or has no convolutions; the message names its layers.
        RequestError: if an object is not a known model, or does not take the inputs.
    """
    a = open_model(source, inputs, layouts[0], name="the source")
    target_inputs = inputs, layouts[1], layouts[0] or a.layout
    b = open_model(target, *target_inputs, name="the target")
    report = PortReport((a.adapter.name, b.adapter.name), model=target, ran=a.executed and b.executed)
    report.unmoved = [f"{key} {shape} of the {side}" for side, model in (("source", a), ("target", b))
                      for key, shape in model.rest.items()]  # fmt: skip
    shapes = {part.path: {name: array.shape for name, array in part.parameters.items()} for part in b.parts}
    source_run = a
    a, b = in_common_kinds(a, b)
    pairs: list[_Pair] = []
    flow = layers.pairs_by_flow(a, b, _match_names(a, b))
    for kind in KINDS:
        norms = _match_norms(a, b, pairs) if kind == "norm" and not (a.followed and b.followed) else []
        pairs += _match_kind(a, b, kind, norms, flow, report)
    for ours, theirs, how in pairs:
        _move(ours, theirs, how, a, b, report)
    for path, arrays in report.arrays.items():  # of a linear layer that is a convolution of one pixel
        report.arrays[path] = {name: array.reshape(shapes[path][name]) for name, array in arrays.items()}
    others = _other_arrays(a, b, flow)
    if dry_run or (report.ambiguous and not force):
        return report
    report.model = b.native
    _write(report, b.adapter.model_module().write, others)
    written = open_model(report.model, *target_inputs)
    _check_written(report, written)
    if inputs is not None:
        report.comparison = compare_open(source_run, written)
    return report


_AS_THEY_ARE = {"", "made by reshape", "made by view"}  # a parameter in another shape


class _Other(NamedTuple):
    """An array that belongs to no convolution, norm or linear layer, and the lines that list it as not moved."""

    source: str
    target: str
    array: Array
    lines: tuple[str, str]


def _write(report: PortReport, write: Callable[..., Any], others: Mapping[tuple[str, str], _Other]) -> None:
    """Write all arrays into the target; those that its adapter refuses are listed with the reason."""
    try:
        report.model = write(report.model, report.arrays)
    except UnsupportedError:  # one by one, to write the others
        for path, arrays in list(report.arrays.items()):
            try:
                report.model = write(report.model, {path: arrays})
            except UnsupportedError as error:
                report.unmoved.append(str(error))
                del report.arrays[path]
                report.moves = [move for move in report.moves if move.target != path]
    report.written = True
    for (path, name), own in others.items():
        try:
            report.model = write(report.model, {path: {name: own.array}})
        except UnsupportedError as error:
            report.unmoved = [f"{line}: {error}" if line == own.lines[1] else line for line in report.unmoved]
            continue
        report.moves.append(Move("other", own.source, own.target, "data flow"))
        report.unmoved = [line for line in report.unmoved if line not in own.lines]


def _other_arrays(a: Model, b: Model, flow: Mapping[str, str]) -> dict[tuple[str, str], _Other]:
    """Return what the target's other parameters get, by the path of their layer and their name there."""
    layer_paths = {part.path for part in (*a.parts, *b.parts)}
    steps = [{step.path: step for step in model.graph.trace.steps if step.arrays} if model.graph else {}
             for model in (a, b)]  # fmt: skip
    found: dict[tuple[str, str], _Other] = {}
    for source, target in flow.items():
        if source in layer_paths or target in layer_paths or source not in steps[0] or target not in steps[1]:
            continue
        ours, theirs = steps[0][source], steps[1][target]
        orders = [layers.feature_orders(model, path) for model, path in ((a, source), (b, target))]
        for name in ours.arrays.keys() & theirs.arrays.keys():
            keys = [_parameter(step.sources.get(name, ()), model) for step, model in ((ours, a), (theirs, b))]
            if None in keys or not {ours.note, theirs.note} <= _AS_THEY_ARE:
                continue
            shape = b.rest[str(keys[1])]
            array = _rearrange(
                ours.arrays[name], theirs.arrays[name].shape, *(own.get(name, {}).get(0) for own in orders)
            )
            if array is not None and array.size == np.prod(shape):
                lines = tuple(f"{key} {model.rest[str(key)]} of the {side}" for key, model, side in
                              zip(keys, (a, b), ("source", "target"), strict=True))  # fmt: skip
                path, _, attribute = str(keys[1]).rpartition("/")
                found[path, attribute] = _Other(source, target, array.reshape(shape), (lines[0], lines[1]))
    return found


def _parameter(sources: Sequence[str], model: Model) -> str | None:
    """Return the name among a model's other parameters of the only one that an array was made of."""
    names = {key.replace("/", ".").lstrip("."): key for key in model.rest}
    return names.get(sources[0].replace("/", ".")) if len(sources) == 1 else None


def _rearrange(array: Array, shape: tuple[int, ...], source: Any, target: Any) -> Array | None:
    """Return an array with its elements in the target's order; None where its axes do not fit."""
    if source is None or target is None:
        long = [[n for n in sizes if n > 1] for sizes in (array.shape, shape)]
        return array if long[0] == long[1] else None
    if source.size != target.size:
        return None
    flat = np.empty(target.size, array.dtype)
    flat[target] = array.reshape(-1)[source]
    return flat


def _check_written(report: PortReport, written: Model) -> None:
    """Raise UnsupportedError unless the target, read again, has exactly the arrays that were written."""
    parts = {part.path: part for part in written.parts}
    for path, arrays in report.arrays.items():
        for name, array in arrays.items():
            own = parts[path].parameters[name]
            made = parts[path].made and bool((np.abs(own - array) <= gamma(_MADE, _SINGLE) * np.abs(array)).all())
            if not made and not np.array_equal(own, array, equal_nan=True):
                raise UnsupportedError(f"the {name} of {path} could not be written: it reads back differently")


def _match_norms(a: Model, b: Model, convs: Sequence[_Pair]) -> list[_Pair]:
    """Pair the batch norms after convolutions that are matched already."""
    norms = ((layers.norm_after(a, ours), layers.norm_after(b, theirs)) for ours, theirs, _ in convs)
    return [(x, y, "place") for x, y in norms if x and y and layers.shape_key(x) == layers.shape_key(y)]


def _match_names(a: Model, b: Model) -> dict[str, str]:
    """Return the paths of the target's layers by those of the source's, where one name and shape is in each once."""
    found: list[dict[Hashable, str]] = []
    for model in (a, b):
        keys = [(layers.name_key(part), layers.shape_key(part), part.path) for part in model.parts]
        counts = Counter(key[:2] for key in keys)
        found.append({key[:2]: key[2] for key in keys if key[0] and counts[key[:2]] == 1})
    return {path: found[1][key] for key, path in found[0].items() if key in found[1]}


def _match_kind(
    a: Model, b: Model, kind: str, known: list[_Pair], flow: Mapping[str, str], report: PortReport
) -> list[_Pair]:
    """Return all pairs of one kind, ``known`` ones included; report layers with no counterpart, or several."""
    done = {id(part) for pair in known for part in pair[:2]}
    groups: defaultdict[Hashable, tuple[list[Part], list[Part]]] = defaultdict(lambda: ([], []))
    for place, model in enumerate((a, b)):
        for part in model.ordered(kind):
            if id(part) in done:
                continue
            own = part.reading is None and bool(part.arrays)
            if kind == "conv" and not own and (part.reading is None or (place and not part.writable)):
                verb = "written" if part.function else "read"
                report.ambiguous.append(f"{part.path} cannot be {verb}: {part.problem}")
            else:
                groups[layers.shape_key(part, (b, a)[place].parts if own else ())][place].append(part)
    pairs = list(known)
    for ours, theirs in groups.values():
        matched = _match_shape(*_drop_unused(ours, theirs, a, b, report), flow, report)
        pairs += matched
        for place, (side, model_name) in enumerate(((ours, "source"), (theirs, "target"))):
            used = {id(pair[place]) for pair in matched}
            left = [f"{part.kind} {part.path} of the {model_name}" for part in side if id(part) not in used]
            report.left += [one for one in left if one not in report.unused]
    order = {id(part): place for place, part in enumerate(a.ordered(kind))}
    return sorted(pairs, key=lambda pair: order[id(pair[0])])


def _drop_unused(
    ours: list[Part], theirs: list[Part], a: Model, b: Model, report: PortReport
) -> tuple[list[Part], list[Part]]:
    """Return the layers of one shape; where one model has more, without those that no result depends on."""
    larger, model, name = (ours, a, "source") if len(ours) > len(theirs) else (theirs, b, "target")
    if not report.ran or len(ours) == len(theirs) or (len(larger) > _TRIED and not model.followed):
        return ours, theirs
    unused = without_effect(model, larger)
    report.unused += [f"{part.kind} {part.path} of the {name}" for part in unused]
    kept = [part for part in larger if part not in unused]
    return (kept, theirs) if larger is ours else (ours, kept)


def _match_shape(
    ours: Sequence[Part], theirs: Sequence[Part], flow: Mapping[str, str], report: PortReport
) -> list[_Pair]:
    """Return the pairs among layers of one shape: by name, by what they read and feed, then by their order."""
    if not ours or not theirs:
        return []
    names = [[layers.name_key(part) for part in side] for side in (ours, theirs)]
    unique = None not in (*names[0], *names[1]) and all(len(set(side)) == len(side) for side in names)
    if unique and (set(names[0]) <= set(names[1]) or set(names[1]) <= set(names[0])):
        by_name = dict(zip(names[1], theirs, strict=True))
        return [(part, by_name[name], "name") for part, name in zip(ours, names[0], strict=True) if name in by_name]
    by_path = {part.path: part for part in theirs}
    if all(flow.get(part.path) in by_path for part in ours):
        return [(part, by_path[flow[part.path]], "data flow") for part in ours]
    if len(ours) != len(theirs):
        report.ambiguous.append(
            f"{len(ours)} layers of the source ({_paths(ours)}) have the shape of {len(theirs)} of the target "
            f"({_paths(theirs)}): equal names would tell which belong together"
        )
    elif len(ours) > 1 and not report.ran:
        report.ambiguous.append(f"{_paths(ours)} of the source have one shape: their order of definition may mislead")
    how = "shape" if len(ours) == len(theirs) == 1 else "order of execution" if report.ran else "order of definition"
    return [(part, other, how) for part, other in zip(ours, theirs, strict=False)]


def _paths(parts: Sequence[Part]) -> str:
    shown = ", ".join(part.path for part in parts[:4])
    return shown + (f", … ({len(parts)} in all)" if len(parts) > 4 else "")


def _move(ours: Part, theirs: Part, how: str, a: Model, b: Model, report: PortReport) -> None:
    """Add the move of one layer's arrays, in canonical order, to the report."""
    move = Move(ours.kind, ours.path, theirs.path, how)
    report.moves.append(move)
    arrays, wanted = ours.parameters if theirs.function else ours.weights, theirs.parameters
    moved: dict[str, Array] = {}
    for name, old in wanted.items():
        new = arrays.get(name)
        if new is None:
            neutral = _NEUTRAL.get(name, 0.0)
            new = np.full(old.shape, neutral, old.dtype)
            move.notes.append(f"the source has no {name}: {neutral:g}")
        moved[name] = new.astype(old.dtype) if new.dtype != old.dtype else new
    for name in arrays.keys() - wanted.keys():
        if not (arrays[name] == _NEUTRAL.get(name, np.nan)).all():
            report.ambiguous.append(f"{theirs.path} has no place for the {name} of {ours.path}: build it with one")
    if a.followed and b.followed:
        _reorder_features(moved, ours, theirs, a, b, move)
    elif ours.kind == "linear":
        moved["kernel"] = _reorder_columns(moved["kernel"], ours, a, b, move, report)
    if ours.kind == "norm" and ours.epsilon != theirs.epsilon:
        move.notes.append(f"epsilon {ours.epsilon:g} against {theirs.epsilon:g}")
        report.warnings.append(
            f"set epsilon={ours.epsilon:g} on {theirs.path} (it has {theirs.epsilon:g}; "
            f"source layer {ours.path!r} has {ours.epsilon:g})"
        )
    if ours.reading is not None and theirs.reading is not None:
        move.notes += spec_differences(ours.reading.spec, theirs.reading.spec)
    report.arrays[theirs.path] = moved


def _reorder_features(moved: dict[str, Array], ours: Part, theirs: Part, a: Model, b: Model, move: Move) -> None:
    """Bring arrays into the order in which the target's layer reads and gives its features."""
    places = layers.feature_places(ours, theirs, a, b)
    for name, array in moved.items():
        found = array
        for axis, own in places.get(name, {}).items():
            found = found.take(own, axis)
        if not np.array_equal(found, array):
            move.notes.append(f"{name}: features permuted from {a.layout} to {b.layout}")
        moved[name] = found


def _reorder_columns(kernel: Array, ours: Part, a: Model, b: Model, move: Move, report: PortReport) -> Array:
    """Return a linear layer's kernel with its columns in the order of the target's flatten, if one is before it."""
    if a.layout == b.layout:
        return kernel
    before = _layer_before(ours, a)
    features = kernel.shape[1]
    if before is None or before.kind == "linear" or features == (channels := _channels(before)):
        return kernel
    if features % channels:
        report.ambiguous.append(f"{ours.path} has {features} inputs, no multiple of the {channels} channels before it")
        return kernel
    move.notes.append(f"flattened {a.layout} → {b.layout}: columns permuted")
    return kernel[:, list(Flattened(channels, (features // channels,)).order(b.layout, a.layout))]


def _layer_before(part: Part, model: Model) -> Part | None:
    """Return the layer before, in the order of execution where it is known, else of definition."""
    known: Mapping[str, Part] = {one.path: one for one in model.parts}
    order = [known[call.path] for call in model.calls if call.path in known] or model.parts
    place = next((i for i, one in enumerate(order) if one is part), 0)
    return order[place - 1] if place else None


def _channels(part: Part) -> int:
    if part.reading is not None:
        return int(part.reading.spec.out_channels)
    array = layers.main_array(part)
    return 0 if array is None else int(array.shape[0])
