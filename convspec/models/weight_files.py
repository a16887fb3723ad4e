"""Match two files of weights by their numbers: which array is which, and what moved on the way. No model is needed."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from convspec.contract import Adapter, registry
from convspec.errors import ConvspecError, FrameworkAbsent, RequestError, printable
from convspec.models.arguments import read_arrays
from convspec.models.matching.arrays import Relation, relations, scaled, size_of_numbers
from convspec.models.text_table import Printable, Text
from convspec.spec import Array, representable

Weights: TypeAlias = str | os.PathLike[str] | Mapping[str, Array]

_NEAR, _NEAR_HALF = 1e-5, 2.0**-8  # relative difference of sums that rounding explains: to float32, to bfloat16
_ENOUGH = 3  # arrays of a kind whose common relation tells what the others should have
_SMALL = 11  # taps along an axis
_MOST = 5  # axes of a kernel
_NAMES = {
    "PyTorch": r"\.(weight|bias|running_mean|running_var|num_batches_tracked)$",
    "Keras": r"(/vars/\d+|/(kernel|gamma|beta|moving_mean|moving_variance)(:0)?)$",
    "Flax": r"(^|[./])(params|batch_stats)[./].*(kernel|bias|scale|mean|var)$",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class WeightMatch:
    """An array of a and its counterpart in b.

    Attributes:
        relation: how b's numbers come from a's.
        among: number of b's arrays that have these numbers; above 1 the name decides.
        remark: why it may be a mistake, empty if nothing says so.
    """

    a: str
    b: str
    a_shape: tuple[int, ...]
    b_shape: tuple[int, ...]
    relation: Relation
    among: int = 1
    remark: str = ""

    @property
    def suspicious(self) -> bool:
        """Whether it is moved unlike the arrays of its kind; some matrices are tables, which is no sign."""
        return bool(self.remark) and len(self.a_shape) > 2


@dataclass(frozen=True, slots=True, repr=False)
class WeightMatches(Printable):
    """Which array of b each of a's is; for one file, what its names and sizes say.

    Attributes:
        names: of the files.
        missing: arrays of a whose numbers b does not have; ``unmatched``: arrays of b whose numbers a does not have.
        layout: sentences on how the only file stores its arrays.
    """

    names: tuple[str, ...]
    matches: tuple[WeightMatch, ...] = ()
    missing: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()
    layout: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether b has all of a's arrays, each moved as the others of its kind."""
        return not self.missing and not any(match.suspicious for match in self.matches)

    def to_dict(self) -> dict[str, Any]:
        """Return the document that ``weights --json`` writes."""
        matches = [
            {"a": m.a, "b": m.b, "a_shape": list(m.a_shape), "b_shape": list(m.b_shape), "among": m.among,
             "relation": str(m.relation), "axes": list(m.relation.axes), "remark": m.remark} for m in self.matches
        ]  # fmt: skip
        return {
            "schema": "convspec.weights/1", "files": list(self.names), "complete": self.complete, "matches": matches,
            "missing": list(self.missing), "unmatched": list(self.unmatched), "layout": list(self.layout),
        }  # fmt: skip

    def _text(self) -> Text:
        if len(self.names) == 1:
            return Text(self.layout[0], [(["file", *self.names], "")], [(f"{line}.", "") for line in self.layout])
        rows = [(["a: " + self.names[0], "shape", "b: " + self.names[1], "shape", "how b comes from a"], "")]
        rows += [(_cells(match), "bold red" if match.suspicious else "") for match in self.matches]
        lines = [
            (f"{'look at' if m.suspicious else 'note'} {m.a}: {m.remark}.", "bold red" if m.suspicious else "yellow")
            for m in self.matches if m.remark
        ]  # fmt: skip
        lines += [(f"not in b: {name}", "bold red") for name in self.missing]
        lines += [(f"not in a: {name}", "yellow") for name in self.unmatched]
        total, odd = len(self.matches) + len(self.missing), sum(match.suspicious for match in self.matches)
        headline = f"{len(self.matches)} of {total} arrays of a are in b"
        headline += f", {odd} of them moved unlike the others" if odd else ""
        return Text(headline, rows, [*lines, (f"{headline}.", "green" if self.complete else "bold red")])


def _cells(match: WeightMatch) -> list[str]:
    among = f" (one of {match.among}, by name)" if match.among > 1 else ""
    shapes = ["×".join(map(str, shape)) or "number" for shape in (match.a_shape, match.b_shape)]
    return [match.a, shapes[0], match.b, shapes[1], f"{match.relation}{among}"]


def match_weights(a: Weights, b: Weights | None = None) -> WeightMatches:
    """Say which array of b has the numbers of each array of a, and how they were moved.

    The numbers decide, never a shape alone: square kernels and kernels of one tap are told apart. Axes may be permuted
    or flipped, groups interleaved, the shape or the type another one, and each channel may have a factor, as after
    folding a normalisation. Where several arrays have the same numbers, as zeros, the name decides.

    Args:
        a: a file of arrays, or arrays by name.
        b: the other one; None: say what the names and sizes of ``a`` tell of its layout.

    Raises:
        RequestError: for a file that cannot be read, or whose kind no adapter reads.
        FrameworkAbsent: if the library that reads it is not installed.
    """
    files = [one for one in (a, b) if one is not None]
    names = tuple(Path(one).name if isinstance(one, str | os.PathLike) else "arrays" for one in files)
    ours = read_weights(a)
    if b is None:
        return WeightMatches(names, layout=tuple(_describe(ours)))
    theirs = read_weights(b)
    found = _find(ours, theirs)
    matches = _chosen(ours, theirs, found)
    taken = {match.b for match in matches}
    return WeightMatches(
        names, matches, tuple(name for name in ours if name not in found), tuple(n for n in theirs if n not in taken)
    )


# -- reading -----------------------------------------------------------------------------------------------------------


def read_weights(source: Weights) -> dict[str, Array]:
    """Return the arrays of a file by name; nothing that it holds is run.

    Raises:
        RequestError: for a file that cannot be read, or whose kind no adapter reads.
        FrameworkAbsent: if the library that reads it is not installed.
    """
    if isinstance(source, Mapping):
        return {str(name): np.asarray(array) for name, array in source.items()}
    path, name = Path(source), printable(os.fspath(source))
    kinds: dict[str, Adapter] = {}
    for adapter in registry.importable().values():
        for kind in adapter.weight_files:
            if kind not in kinds or registry.absence(kinds[kind]):
                kinds[kind] = adapter
    ending = max((kind for kind in (*kinds, ".npz", ".safetensors") if path.name.endswith(kind)), key=len, default="")
    if not ending:
        raise RequestError(
            f"{name!r} must be a file of weights, ending in {', '.join(('.npz', '.safetensors', *kinds))}"
        )
    if not path.is_file():
        raise RequestError(f"file not found: {name!r}")
    if ending == ".npz":
        return read_arrays(path)
    if ending != ".safetensors" and (absence := registry.absence(kinds[ending])):
        raise FrameworkAbsent(f"{printable(path.name)}: {absence}")
    try:
        return _read_safetensors(path) if ending == ".safetensors" else kinds[ending].load_weights(os.fspath(path))
    except ConvspecError:
        raise
    except Exception as error:  # noqa: BLE001 – a library met a file of unknown origin
        raise RequestError(f"{name} cannot be read as {ending}: {type(error).__name__}: {printable(error)}") from None


def _read_safetensors(path: Path) -> dict[str, Array]:
    from safetensors import deserialize

    found = {}
    for name, tensor in deserialize(path.read_bytes()):  # type: ignore[no-untyped-call]
        kind, data = str(tensor["dtype"]), tensor["data"]
        if kind == "BF16":
            array = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        elif kind == "BOOL" or kind[1:].isdigit():
            array = np.frombuffer(data, "?" if kind == "BOOL" else f"<{kind[0].lower()}{int(kind[1:]) // 8}")
        else:
            raise RequestError(f"{printable(path.name)}: {printable(name)} has the type {kind}, which NumPy lacks")
        found[name] = array.reshape(tensor["shape"])
    return found


# -- which is which ----------------------------------------------------------------------------------------------------

_Found: TypeAlias = dict[str, dict[str, list[Relation]]]


def _find(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> _Found:
    """Return the arrays of b that have the numbers of each array of a, with all ways to move them."""
    known = [{name: _signature(array) for name, array in arrays.items()} for arrays in (ours, theirs)]
    by_size = defaultdict(list)
    for name, array in theirs.items():
        by_size[array.size].append(name)
    found: _Found = {}
    for name, array in ours.items():
        ways = {
            other: relations(array, theirs[other]) if not _is_constant(array)
            else _reshaped(array, theirs[other])
            for other in by_size[array.size] if _near(known[0][name], known[1][other])
        }  # fmt: skip
        if ways := {other: all_ways for other, all_ways in ways.items() if all_ways}:
            found[name] = ways
    taken = {other for ways in found.values() for other in ways}
    for name, array in ours.items():
        if name not in found:
            factors = ((other, scaled(array, theirs[other])) for other in by_size[array.size] if other not in taken)
            if scales := {other: [way] for other, way in factors if way is not None}:
                found[name] = scales
    return {name: found[name] for name in ours if name in found}


def _is_constant(array: Array) -> bool:
    return array.size < 2 or bool((array == array.flat[0]).all())


def _reshaped(a: Array, b: Array) -> list[Relation]:
    """Return the relation of arrays of one number: nothing tells which axis is which."""
    if not (_is_constant(b) and (a.size == 0 or relations(a.flat[:1], b.flat[:1]))):
        return []
    return [Relation(tuple(range(a.ndim)), shape=None if a.shape == b.shape else b.shape)]


def _signature(array: Array) -> tuple[float, float, bool]:
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    half = array.dtype.kind == "f" and any(representable(single, name) for name in ("bfloat16", "float16"))
    return (*size_of_numbers(array), half)


def _near(a: tuple[float, float, bool], b: tuple[float, float, bool]) -> bool:
    tolerance = _NEAR_HALF if a[2] or b[2] else _NEAR
    return all(x == y or not abs(x - y) > tolerance * abs(y) for x, y in zip(a[:2], b[:2], strict=True))


def _chosen(ours: Mapping[str, Array], theirs: Mapping[str, Array], found: _Found) -> tuple[WeightMatch, ...]:
    """Give each array its counterpart, the surest first, with the relation that most of its kind have."""
    chosen: dict[str, str] = {}
    for name, ways in sorted(found.items(), key=lambda item: len(item[1])):
        free = [other for other in ways if other not in chosen.values()] or list(ways)
        chosen[name] = max(free, key=lambda other: _common_words(name, other))
    kinds: dict[Any, list[str]] = defaultdict(list)
    for name, other in chosen.items():
        kinds[_kind(ours[name], theirs[other])].append(name)
    matches: dict[str, WeightMatch] = {}
    for kind, names in kinds.items():
        telling = [name for name in names if not _is_constant(ours[name])]
        voters = telling
        if telling and not any(kind[2]) and kind[1] > 2:  # kernels of one tap are stored as the others are
            voters = [
                *telling,
                *(
                    name
                    for other in kinds
                    if other[:2] == kind[:2] and sum(other[2]) > 1
                    for name in kinds[other]
                    if not _is_constant(ours[name])
                ),
            ]
        votes = Counter(way.axes for name in voters for way in found[name][chosen[name]] if way == _bare(way))
        for name in names:
            other = chosen[name]
            way = max(found[name][other], key=lambda way: votes[way.axes] if way == _bare(way) else -1)
            remark = _remark(way, votes, len(voters)) if name in telling else ""
            shapes = ours[name].shape, theirs[other].shape
            matches[name] = WeightMatch(name, other, *shapes, way, len(found[name]), remark)
    return tuple(matches[name] for name in found)


def _bare(way: Relation) -> Relation:
    """Return the relation without all but its axes, factor and type."""
    return Relation(way.axes, factor=way.factor, rounded_to=way.rounded_to)


def _kind(a: Array, b: Array) -> tuple[int, int, tuple[bool, ...]]:
    """Return what arrays have in common that are moved alike: kernels of one tap, depthwise and other kernels."""
    return a.ndim, b.ndim, tuple(size == 1 for size in b.shape)


def _common_words(a: str, b: str) -> float:
    ours, theirs = (set(re.findall(r"[a-z]+|\d+", name.lower())) for name in (a, b))
    return len(ours & theirs) / max(len(ours | theirs), 1)


def _remark(way: Relation, votes: Counter[tuple[int, ...]], number: int) -> str:
    """Return why the relation of one array may be a mistake: it is not that of most arrays of its kind."""
    if not votes or len(way.axes) < 2:
        return ""
    usual, count = votes.most_common(1)[0]
    plain = way == _bare(way)
    if (plain and way.axes == usual) or count < _ENOUGH or 2 * count <= number:
        return ""
    if way.groups > 1:
        return f"its groups are interleaved, {count} others are moved as axes {usual}"
    if way.flipped:
        return f"axes {way.flipped} of it are flipped, {count} others are not"
    if way.shape is not None:
        return f"it is reshaped where {count} others are moved as axes {usual}"
    if way.axes == tuple(usual[axis] for axis in usual):
        return f"it is transposed twice: axes {way.axes}, {count} others have {usual}"
    moved = "not transposed" if way.axes == tuple(range(len(usual))) else f"moved as axes {way.axes}"
    return f"it is {moved}, {count} others are moved as axes {usual}"


# -- one file ----------------------------------------------------------------------------------------------------------


def _describe(arrays: Mapping[str, Array]) -> Iterator[str]:
    """Yield what names and sizes say of a file's layout."""
    votes = Counter(style for style, form in _NAMES.items() for name in arrays if re.search(form, name))
    named = [style for style, count in votes.items() if 2 * count > len(arrays)]
    yield f"{len(arrays)} arrays, {f'named as {named[0]} does' if named else 'whose names do not tell the framework'}"
    kernels = {name: array for name, array in arrays.items() if 3 <= array.ndim <= _MOST}
    places = Counter(place for name, array in kernels.items() if (place := _taps(array)))
    outputs = Counter(axis for name, array in kernels.items() if (axis := _output_axis(name, array, arrays)))
    if not kernels:
        yield "no array has three axes or more: no kernel of a convolution"
    for votes, what in ((places, "the taps are"), (outputs, "the output channels are")):
        if kernels and len(votes) == 1:
            ((place, count),) = votes.items()
            yield f"{what} {place}: {count} of {len(kernels)} kernels say so, none otherwise"
        elif kernels:
            said = ", ".join(f"{count} say {place}" for place, count in votes.items())
            yield f"where {what}: cannot tell ({said or 'no size tells'})"


def _taps(kernel: Array) -> str:
    """Return where the small axes of a kernel are: last, first or in the middle; empty where the sizes do not tell."""
    small = [size <= _SMALL for size in kernel.shape]
    number = kernel.ndim - 2
    if all(small[-number:]) and not any(small[:2]):
        return "the last axes, as in PyTorch and ONNX"
    if all(small[1:-1]) and not small[0] and not small[-1]:
        return "the axes between the channels, as in MLX"
    return "the first axes, as in Keras and Flax" if all(small[:number]) and not any(small[-2:]) else ""


def _output_axis(name: str, kernel: Array, arrays: Mapping[str, Array]) -> str:
    """Return the only axis that has the size of the kernel's bias; empty where that is none or several."""
    stem = re.sub(r"(weight|kernel|0)(:0)?$", "", name)
    bias = next((arrays[stem + end] for end in ("bias", "bias:0", "1") if stem + end in arrays), None)
    if bias is None or bias.ndim != 1:
        return ""
    axes = [axis for axis, size in enumerate(kernel.shape) if size == bias.size]
    return f"axis {axes[0] if axes[0] == 0 else axes[0] - kernel.ndim}" if len(axes) == 1 else ""
