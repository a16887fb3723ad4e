"""Why a tensor does not fit a layer of a network, with its numbers, and what would mend it: each mend was tried."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

from convspec.contract.network_words import Tensor, Word
from convspec.errors import ConvspecError, ShapeError
from convspec.layers.networks.edited_text import flattened, replace_call, with_arguments
from convspec.layers.networks.reading import FLATTEN, Edits
from convspec.layers.networks.rows import NetworkError, outputs
from convspec.layers.networks.source_text import plain
from convspec.layers.networks.values import Node, Place
from convspec.layers.sentences import listed, times
from convspec.spec import ConvSpec, steps

if TYPE_CHECKING:
    from convspec.layers.networks.network import Network

_SHOWN = 4  # mends
_MOST_ROWS = 6_000  # that are read anew in the search for mends: seconds
_LARGEST_INPUT = 1024  # pixels along an axis, in the search for sizes that fit
_INPUTS = ("in_features", "in_channels", "num_features", "num_channels", "channels", "features", "input_size")
_OUTPUTS = ("out_channels", "out_features", "filters", "units", "features")
_PADS = ("padding", "pad")


@dataclass(frozen=True, slots=True)
class Mend:
    """One change after which the layer fits.

    Attributes:
        path: of the layer to change; empty for the input.
        change: what to set, as written in the text: ``"in_features=2304"``.
        edits: the arguments, by the line and column of their call; ``input_shapes`` are other inputs.
        complete: whether all layers fit then.
    """

    path: str
    change: str
    edits: Edits = field(default_factory=dict)
    input_shapes: tuple[tuple[int, ...], ...] | None = None
    complete: bool = True
    words: tuple[tuple[Place, Word], ...] = ()
    kind: str = ""
    called_at: Place = (0, 0)
    flatten: tuple[str, str] = ("", "")

    def __str__(self) -> str:
        return f"{self.change} in {_label(self.path, self.kind)}" if self.kind else self.change

    def apply(self, text: str) -> str:
        """Return the text with the change; the same where it is the input that changes."""
        body = plain(text)
        for place, arguments in self.edits.items():
            given = {name: value for name, value in arguments.items() if name != FLATTEN}
            if given:
                word = dict(self.words).get(place)
                body = replace_call(body, place, partial(with_arguments, arguments=given, word=word))
            if arguments.get(FLATTEN):
                body = flattened(body, place, self.called_at, self.flatten)
        return body

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        shapes = None if self.input_shapes is None else [list(s) for s in self.input_shapes]
        words = {"path": self.path, "change": self.change, "words": str(self)}
        return {**words, "inputs": shapes, "complete": self.complete}


@dataclass(frozen=True, slots=True)
class Mends:
    """What does not fit, as a sentence with its numbers, and mends: those after which all fits first."""

    sentence: str
    found: tuple[Mend, ...]


def find_mends(network: Network, error: NetworkError, input_shapes: Sequence[Sequence[int]]) -> Mends:
    """Say why a layer does not fit, and try what could mend it: numbers of the layer, of those before it, the input."""
    inputs = tuple(tuple(shape) for shape in input_shapes)
    search = _Search(network, inputs, len(error.rows), error.nodes)
    node = error.nodes[-1]
    if node.steps:
        node, step, shapes = _failing(error)
        proposals, what = _proposals(search, node, step, shapes), _problem(error, node, step, shapes)
    else:  # a layer that does not take such a tensor at all
        reason, name = str(error).removeprefix(f"{error.path}: "), _name(node)
        proposals = _flatten_before(node)
        what = reason if reason.startswith(name) else f"{name} does not fit: {reason}"
    tried: list[Mend] = []
    for proposal in proposals:
        if (mend := search.tried(proposal)) is not None:
            tried.append(search.completed(mend))
        if sum(mend.complete for mend in tried) == _SHOWN:
            break
    found = sorted(tried, key=lambda mend: not mend.complete)
    kept = list({str(mend): mend for mend in reversed(found)}.values())[::-1][:_SHOWN]
    return Mends(what, tuple(replace(mend, flatten=network.vocabulary.flatten) for mend in kept))


def _failing(error: NetworkError) -> tuple[Node, ConvSpec | steps.Step, list[tuple[int, ...]]]:
    """Return the call that fails, the one of its steps that does, and what that reads."""
    node = error.nodes[-1]
    shapes = [t.shape for t in node.reads if t.shape is not None]
    for placed in node.steps:
        try:
            shapes = list(outputs(placed, shapes))
        except ShapeError:
            return node, placed.step, shapes
    raise error


# -- what is wrong -----------------------------------------------------------------------------------------------------


def _problem(error: NetworkError, node: Node, step: Any, shapes: Sequence[tuple[int, ...]]) -> str:
    shape = shapes[0]
    trail = _trail(error.nodes, node)
    if isinstance(step, steps.Linear):
        flat = next((n for n in reversed(error.nodes[:-1]) if _is_flatten(n) and n.writes[0] in node.reads), None)
        joined = flat or next((n for n in reversed(error.nodes[:-1]) if _is_flatten(n)), None)
        parts = "" if joined is None else f" = {times(joined.reads[0].sizes[1:])}"
        parts = parts if joined is not None and prod(joined.reads[0].sizes[1:]) == shape[-1] else ""
        if joined is None and len(shape) > 2:
            return f"{_name(node)} expects {step.in_features} features, but gets a tensor of {times(shape)}{trail}"
        return f"{_name(node)} expects {step.in_features:,} features, but gets {shape[-1]:,}{parts}{trail}"
    if isinstance(step, ConvSpec) and len(shape) == step.ndim + 2:
        first = next(p.layout for p in node.steps if p.step is step) != "NHWC"
        channels = shape[1] if first else shape[-1]
        if channels != step.in_channels:
            what = (
                f"{_name(node)} expects {step.in_channels} channels, but gets {channels}: its input is {times(shape)}"
            )
            other = shape[-1] if first else shape[1]
            return f"{what}, which has its channels last" if other == step.in_channels else what
    if isinstance(step, steps.BatchNorm | steps.GroupNorm | steps.InstanceNorm):
        return f"{_name(node)} expects {step.channels} channels, but its input is {times(shape)}"
    if isinstance(step, steps.Concat | steps.Elementwise):
        listing = listed([times(s) for s in shapes])
        return f"{_name(node)} joins tensors whose sizes differ: {listing}{trail}"
    return f"{_name(node)} does not fit: {str(error).removeprefix(f'{node.path}: ')}{trail}"


def _is_flatten(node: Node) -> bool:
    return any(isinstance(p.step, steps.Flatten | steps.Reshape) for p in node.steps)


def _trail(nodes: Sequence[Node], last: Node) -> str:
    """Return how the spatial sizes came about, back from the last call: ``28 → 26 (conv1) → 13 (pool)``."""
    parts: list[str] = []
    tensor = last.reads[0] if last.reads else None
    for node in reversed(nodes[:-1]):
        if tensor is None or tensor not in node.writes or not node.reads:
            continue
        before, after = (_spatial(t.shape or (), node) for t in (node.reads[0], tensor))
        tensor = node.reads[0]
        if before and after and before != after:
            parts[-1:] = [f"{_size(after)} ({_name(node)})", _size(before)]
    return f"; the sizes are {' → '.join(reversed(parts))}" if parts else ""


def _size(sizes: Sequence[int]) -> str:
    """Return ``28`` for equal sizes along all axes, else all of them."""
    return times(sizes[:1] if len(set(sizes)) == 1 else sizes)


def _name(node: Node) -> str:
    """Return the path of a call, with its class where the path is a number: ``features.2 (MaxPool2d)``."""
    return _label(node.path, node.kind)


def _label(path: str, kind: str) -> str:
    return f"{path} ({kind})" if path.rpartition(".")[2].isdigit() else path


def _spatial(shape: Sequence[int], node: Node) -> tuple[int, ...]:
    last = any(p.layout == "NHWC" for p in node.steps)
    return tuple(shape[1:-1] if last else shape[2:]) if len(shape) > 2 else ()


# -- what could mend it ------------------------------------------------------------------------------------------------


class _Search:
    """Trials of mends on one network."""

    def __init__(
        self, network: Network, inputs: tuple[tuple[int, ...], ...], reached: int, nodes: Sequence[Node]
    ) -> None:
        self.network, self.inputs, self.reached, self.nodes = network, inputs, reached, nodes
        self.left = _MOST_ROWS

    def tried(self, mend: Mend) -> Mend | None:
        """Return a mend if the layer fits after it, and whether all others do."""
        rows = self.rows(mend)
        if rows is None:
            return mend
        return replace(mend, complete=False) if rows > self.reached else None

    def rows(self, mend: Mend) -> int | None:
        """Return how many rows fit after a mend; None: all; -1: not known."""
        error = self.error(mend)
        if error is None:
            return None
        return len(error.rows) if isinstance(error, NetworkError) else -1

    def error(self, mend: Mend) -> ConvspecError | None:
        """Return what does not fit after a mend; None: nothing. After some number of rows no more mends are tried."""
        if self.left <= 0:
            return ShapeError("it was not tried")
        try:
            shapes = self.inputs if mend.input_shapes is None else mend.input_shapes
            self.left -= len(self.network.trace(*shapes, edits=mend.edits).rows)
        except NetworkError as error:
            self.left -= len(error.rows) + 1
            return error
        except ConvspecError as error:
            return error
        return None

    def too_small(self, mend: Mend) -> bool | None:
        """Return whether the input of a mend is too small for its network, or too large; None: not known."""
        error = self.error(mend)
        if not isinstance(error, NetworkError) or not error.nodes[-1].steps:
            return None
        node, step, shapes = _failing(error)
        expected, given = _channels(node, step, shapes[0])
        if isinstance(step, steps.Linear) and expected and given:
            return given < expected
        return (isinstance(step, ConvSpec | steps.WindowPool) and expected == given) or None

    def completed(self, mend: Mend) -> Mend:
        """Return a mend after which a later layer gets other features, with the number of features set there, too."""
        if mend.complete or mend.input_shapes is not None:
            return mend
        try:
            self.network.trace(*self.inputs, edits=mend.edits)
        except NetworkError as error:
            node, step, shapes = _failing(error)
            expected, given = _channels(node, step, shapes[0])
            name = _named(node, _INPUTS, expected) if expected is not None else None
            if name and given:
                second = _set(node, **{name: given})
                both = replace(mend, change=f"{mend} and {second}", edits={**mend.edits, **second.edits}, kind="")
                if self.rows(both) is None:
                    return replace(both, complete=True, words=(*mend.words, *second.words))
        return mend

    def sizes(self) -> Iterator[Mend]:
        """Yield the nearest inputs for which all layers fit, with the same batch and channels."""
        if len(self.inputs) != 1 or len(self.inputs[0]) < 3:
            return
        shape, first = self.inputs[0], self.network.layout.startswith("NC")
        axes = range(2, len(shape)) if first else range(1, len(shape) - 1)
        largest = max(shape[i] for i in axes)
        last = min(4 * largest + 63, _LARGEST_INPUT)

        def resized(size: int) -> Mend:
            new = tuple(size if i in axes else n for i, n in enumerate(shape))
            return Mend("", f"an input of {times(new)}", input_shapes=(new,))

        for size in self.nearest(largest, last, lambda size: self.too_small(resized(size))):
            mend = resized(size)
            if self.error(mend) is None:
                self.left = max(self.left, self.reached + 1)  # it is tried once more
                yield mend
                return

    def nearest(self, size: int, last: int, too_small: Callable[[int], bool | None]) -> Iterator[int]:
        """Yield sizes up to ``last`` that may fit, the nearest first; none of those that are all too small or large."""
        small = too_small(size)
        if small is None:
            yield from sorted(range(1, last + 1), key=lambda n: abs(n - size))[:260]
            return
        outside = last + 1 if small else 0
        while abs(outside - size) > 1:
            middle = (outside + size) // 2
            if too_small(middle) is small:
                size = middle
            else:
                outside = middle
        ahead = range(outside, last + 1) if small else range(outside, 0, -1)
        yield from itertools.takewhile(lambda n: too_small(n) is None, ahead[:32])


def _set(node: Node, **arguments: Any) -> Mend:
    change = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return Mend(node.path, change, {node.place: arguments}, words=_words(node), kind=node.kind)


def _words(node: Node) -> tuple[tuple[Place, Word], ...]:
    return ((node.place, node.word),) if node.word else ()


def _named(node: Node, names: Sequence[str], value: int) -> str | None:
    """Return the argument with one of these names that has this value."""
    return next((n for n in names if n in node.arguments and _single(node.arguments[n]) == value), None)


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, tuple | list) and len(value) == 1 else value


def _proposals(
    search: _Search, node: Node, step: ConvSpec | steps.Step, shapes: Sequence[tuple[int, ...]]
) -> Iterator[Mend]:
    """Yield changes that may mend a call, the likeliest first."""
    shape = shapes[0]
    expected, given = _channels(node, step, shape)
    yield from _flattens(search)
    if expected is not None:
        if isinstance(step, steps.Linear) and prod(shape[1:]) == expected and len(shape) > 2:
            given = None
            yield Mend(
                node.path, f"a flatten before {_name(node)}", {node.place: {FLATTEN: True}}, called_at=node.called_at
            )
        name = _named(node, _INPUTS, expected)
        if name and given is not None and given > 0:
            yield _set(node, **{name: given})
        if isinstance(step, steps.Linear) and len(shape) > 2 and name and prod(shape[1:]) != expected:
            flat = {name: prod(shape[1:]), FLATTEN: True}
            yield Mend(
                node.path,
                f"{name}={prod(shape[1:])} and a flatten before {_name(node)}",
                {node.place: flat},
                words=_words(node),
                called_at=node.called_at,
            )
        yield from _before(search, expected)
    if isinstance(step, steps.WindowPool) and {"kernel_size", "stride"} <= node.arguments.keys():
        yield _set(node, kernel_size=1, stride=1)
    if isinstance(step, steps.Reshape):
        yield from _reshapes(node, shape)
    if isinstance(step, steps.Elementwise):
        yield from _branches(search, node, shapes)
    if isinstance(step, steps.PixelShuffle):
        block = step.factor ** (len(shape) - 2)
        channels = shape[-1] if search.network.layout == "NHWC" else shape[1]
        yield from _before(search, -(-channels // block) * block)
    yield from _windows(search)
    if search.inputs and len(search.inputs) == 1:
        yield from _inputs(search)
    yield from search.sizes()


def _flatten_before(node: Node) -> Iterator[Mend]:
    """Yield a flatten before a linear layer that takes no tensors of several axes, and its features after one."""
    features = prod(node.reads[0].sizes[1:])
    name = next((name for name in ("in_features", "in_size") if name in node.arguments), "")
    given = {} if not name or node.arguments[name] == features else {name: features}
    text = f"{f'{name}={features} and ' if given else ''}a flatten before {_name(node)}"
    if name:
        edits = {node.place: {**given, FLATTEN: True}}
        yield Mend(node.path, text, edits, words=_words(node), called_at=node.called_at)


def _channels(node: Node, step: Any, shape: tuple[int, ...]) -> tuple[int | None, int | None]:
    """Return the features or channels that a step expects, and those that it gets; None where it expects none."""
    if isinstance(step, steps.Linear):
        return step.in_features, shape[step.axis] if -len(shape) <= step.axis < len(shape) else None
    layout = next((p.layout for p in node.steps if p.step is step), "")
    axis = -1 if layout == "NHWC" else 1
    if isinstance(step, ConvSpec):
        return step.in_channels, shape[axis] if len(shape) == step.ndim + 2 else None
    if isinstance(step, steps.BatchNorm | steps.GroupNorm | steps.InstanceNorm):
        axis = axis if layout else step.axis
        return step.channels, shape[axis] if len(shape) > 1 else None
    return None, None


def _before(search: _Search, expected: int, tensor: Tensor | None = None) -> Iterator[Mend]:
    """Yield other output channels of the last layer that has some, on the way to a tensor if one is given."""
    for earlier in reversed(search.nodes[:-1]):
        if tensor is not None:
            if tensor not in earlier.writes:
                continue
            tensor = earlier.reads[0] if earlier.reads else tensor
        if earlier.layer is None:
            continue
        numbers = [earlier.arguments.get(n) for n in _OUTPUTS if isinstance(earlier.arguments.get(n), int)]
        if numbers and isinstance(earlier.specs[0] if earlier.specs else None, ConvSpec | steps.Linear):
            name = next(n for n in _OUTPUTS if earlier.arguments.get(n) == numbers[0])
            yield _set(earlier, **{name: expected})
            return


def _branches(search: _Search, node: Node, shapes: Sequence[tuple[int, ...]]) -> Iterator[Mend]:
    """Yield as many output channels in one branch as the other has."""
    axis = -1 if search.network.layout == "NHWC" else 1
    channels = [shape[axis] for shape in shapes if len(shape) > 1]
    for tensor in node.reads:
        for wanted in dict.fromkeys(channels):
            yield from _before(search, wanted, tensor)


def _flattens(search: _Search) -> Iterator[Mend]:
    """Yield the batch axis left out of flattens."""
    for node in search.nodes:
        for step in node.specs:
            if isinstance(step, steps.Flatten) and step.start == 0 and "start_dim" in node.arguments:
                yield _set(node, start_dim=1)
            if isinstance(step, steps.Reshape) and node.reads[0].shape:
                yield from _reshapes(node, node.reads[0].shape)


def _reshapes(node: Node, shape: tuple[int, ...]) -> Iterator[Mend]:
    """Yield the batch axis kept and all others as one, for a reshape whose sizes are given one by one."""
    rest = node.word.parameters[1] if node.word else ""
    sizes = node.arguments.get(rest)
    if isinstance(sizes, tuple) and sizes:
        new = (shape[0], -1)
        value = (new,) if isinstance(sizes[0], tuple | list) else new
        yield Mend(node.path, f"sizes {new}", {node.place: {rest: value}}, words=_words(node), kind=node.kind)


def _windows(search: _Search) -> Iterator[Mend]:
    """Yield other pads and strides of the convolutions and pools before, the last ones first."""
    for node in reversed(search.nodes):
        for step in node.specs:
            if not isinstance(step, ConvSpec | steps.WindowPool) or "padding" not in node.arguments:
                continue
            spans = step.effective_kernel if isinstance(step, ConvSpec) else step.spans
            half = {(span - 1) // 2 for span in spans}
            old = node.arguments["padding"]
            if isinstance(old, str):
                if old.lower() in ("valid", "same"):
                    yield _set(node, padding=_cased("same" if old.lower() == "valid" else "valid", old))
            elif len(half) == 1 and not any(s % 2 == 0 for s in spans):
                yield from (_set(node, padding=p) for p in sorted({*half, 0}, reverse=True) if p != _single(old))
            for name in ("stride", "strides"):
                if _single(node.arguments.get(name)) in (2, (2, 2)):
                    yield _set(node, **{name: 1})


def _cased(word: str, like: str) -> str:
    return word.upper() if like.isupper() else word


def _inputs(search: _Search) -> Iterator[Mend]:
    """Yield the input with its axes in another order, and with a batch axis."""
    shape = search.inputs[0]
    if len(shape) > 2:
        for order in ((0, len(shape) - 1, *range(1, len(shape) - 1)), (0, *range(2, len(shape)), 1)):
            new = tuple(shape[i] for i in order)
            yield Mend("", f"an input of {times(new)}: {'channels first' if order[1] != 2 else 'channels last'}",
                       input_shapes=(new,))  # fmt: skip
    if len(shape) in (2, 3):
        new = (1, *shape)
        yield Mend("", f"an input of {times(new)}: with a batch axis", input_shapes=(new,))
    if len(shape) == 2:
        yield Mend("", f"an input of {times((1, 1, *shape))}", input_shapes=((1, 1, *shape),))
