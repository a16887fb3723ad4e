"""Find sizes for the symbolic axes of a graph's inputs that the graph accepts, by running it."""

from __future__ import annotations

import itertools
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from convspec.contract.isolation import out_of_memory
from convspec.errors import RequestError
from convspec_onnx.graph import Conv
from convspec_onnx.loading import Arrays, DetachedModel, inputs
from convspec_onnx.verify import runtimes
from convspec_onnx.verify.run import Report, Run
from convspec_onnx.verify.runtimes import RunConfig, RunError

Sizes = dict[str, int]

_FIRST = {"batch": 1, "channel": 4, "spatial": 64}  # suits five halvings
_LARGER = (128, 224, 256, 512, 240, 720, 1024, 2520, 4096, 16384, 65536)  # many divisors, windows of audio
_IMAGES = (28, 112, 160, 192, 260, 299, 300, 320, 336, 384, 416, 448, 608, 640)  # that networks are trained on
_FURTHER = {"batch": (2,), "channel": (3, 1, 2, 8, 16, 32, 64, *_LARGER), "spatial": (32, 48, *_LARGER, *_IMAGES)}
_MAX_SIZE = _LARGER[-1]
_MAX_ELEMENTS = 1 << 21  # of an input that is only tried
_MAX_TRIALS, _MAX_SECONDS = 200, 60.0
_MAX_PLACES = 1 << 13
_WORDS = re.compile(r"while running (\w+) node\. Name:'(.*?)' Status Message: (?:.* was false\. )?(.*)", re.DOTALL)


def random_sets(
    model: DetachedModel, convs: Sequence[Conv], config: RunConfig, dims: Mapping[str, Sequence[int]],
    report: Report, seed: int = 0,
) -> Iterator[tuple[str, Arrays]]:  # fmt: skip
    """Yield random inputs with a title: one set, or two of different sizes if axes are symbolic.

    Args:
        dims: sizes of symbolic axes by name, one for both sets or one per set; the others are searched.

    Raises:
        RequestError: if the graph refuses all sizes, an input is too large, or ``dims`` names no axis.
    """
    search = _Search(model, convs, config, inputs.symbolic_axes(model.graph), dims, seed)
    if unknown := sorted(set(dims) - set(search.axes)):
        there = sorted(search.axes) or "none"
        raise RequestError(f"--dim {unknown[0]}: no symbolic axis has this name; there are {there}")
    first = search.find_first()
    yield inputs.random_inputs(model.graph, first, 0, seed)
    if inputs.count_sets(model.graph, None, dims) > 1:
        second = search.find_second(first)
        if search.notes:
            report({"model": search.notes})
        if second != first:
            yield inputs.random_inputs(model.graph, second, 1, seed)


@dataclass
class _Search:
    model: DetachedModel
    convs: Sequence[Conv]
    config: RunConfig
    axes: Mapping[str, str]
    dims: Mapping[str, Sequence[int]]
    seed: int
    notes: list[dict[str, str]] = field(default_factory=list)

    @cached_property
    def free(self) -> list[str]:
        """The axes whose sizes are searched."""
        return [name for name in self.axes if name not in self.dims]

    @cached_property
    def runner(self) -> runtimes.Runner | None:
        """The graph, loaded once; None if the runtime refuses it whatever the sizes are."""
        try:
            return runtimes.prepare(self.model, [entry.name for entry in self.model.graph.output], self.config)
        except RunError:
            return None

    def find_first(self) -> Sizes:
        """Return the first sizes that the graph accepts."""
        given = {name: sizes[0] for name, sizes in self.dims.items()}
        refusals = []
        if not self.free:
            return given
        began = time.process_time()
        for sizes in itertools.islice(self.candidates(given), _MAX_TRIALS):
            refusal = self.try_sizes(sizes)
            if not refusal:
                return sizes
            refusals.append(refusal)
            if time.process_time() - began > _MAX_SECONDS:
                break
        raise RequestError(
            f"no sizes of the symbolic axes were found that the graph accepts; {refusals[0]}; "
            f"give sizes, for example --dim {self.free[0]}=N"
        )

    def find_second(self, first: Sizes) -> Sizes:
        """Return sizes that differ from the first, as many of them as the graph accepts; note the others."""
        given = first | {name: sizes[min(1, len(sizes) - 1)] for name, sizes in self.dims.items()}
        every = given | {name: self.next_sizes(name, first[name])[0] for name in self.free}
        if not self.free or not self.try_sizes(every) or (given != first and self.try_sizes(given)):
            return every
        second, kept = given, {}
        for name in self.free:
            refusals = []
            for size in self.next_sizes(name, first[name]):
                refusals.append(self.try_sizes(second | {name: size}))
                if not refusals[-1]:
                    second = second | {name: size}
                    break
            else:
                kept[name] = refusals[0]
        for name, refusal in kept.items():
            wrong = second == first or self.axes[name] == "batch"
            title = f"axis {name!r} is declared without a size, but only {first[name]} was accepted: {refusal}"
            self.notes.append({"id": "fixed-size", "title": title, "level": "error" if wrong else "info"})
        return second

    def next_sizes(self, name: str, size: int) -> list[int]:
        """Return sizes for the second set, in the order in which they are tried."""
        role = self.axes[name]
        if role == "batch" or size < _FIRST["channel"]:
            return [size + 1]
        return [size] if role == "channel" and size == _FIRST[role] else [size * 3 // 2, size * 2]

    def candidates(self, given: Sizes) -> Iterator[Sizes]:
        """Yield sizes, the defaults first: alike for all axes of one kind, then one axis at a time."""
        roles = list(dict.fromkeys(self.axes[name] for name in self.free))
        steps = {role: list(dict.fromkeys([_FIRST[role], *self.multiples(role), *_FURTHER[role]])) for role in roles}
        tried: list[Sizes] = []
        kinds = [{role: role for role in roles}, {name: self.axes[name] for name in self.free}]
        for kind in kinds:
            most = int(_MAX_PLACES ** (1 / len(kind)))
            places = itertools.product(*(range(min(len(steps[role]), most)) for role in kind.values()))
            for place in sorted(places, key=lambda p: (sum(p), max(p))):
                chosen = {key: steps[role][i] for (key, role), i in zip(kind.items(), place, strict=True)}
                sizes = given | {name: chosen.get(name) or chosen[self.axes[name]] for name in self.free}
                if sizes not in tried and (not tried or self.is_small(sizes)):
                    tried.append(sizes)
                    yield sizes

    def multiples(self, role: str) -> list[int]:
        """Return sizes beyond every layer's window: a power of two, and multiples of all strides together."""
        specs = [conv.spec for conv in self.convs if conv.spec is not None and not conv.spec.transposed]
        strides = math.prod(max(spec.stride) for spec in specs)
        window = max(max((max(spec.effective_kernel) for spec in specs), default=1), _FIRST[role])
        least = -(-window // strides) * strides
        sizes = (2 << (window - 1).bit_length(), least, 2 * least)
        return [] if role == "batch" else [size for size in sizes if size <= _MAX_SIZE]

    def is_small(self, sizes: Sizes) -> bool:
        try:
            shapes = inputs.shapes(self.model.graph, sizes).values()
        except RequestError:
            return False
        return all(math.prod(shape) <= _MAX_ELEMENTS for shape in shapes)

    def try_sizes(self, sizes: Sizes) -> str:
        """Return why the graph refuses inputs of these sizes, or ""; what the oracle can replace is no refusal."""
        if self.runner is None:
            return ""
        title, feeds = inputs.random_inputs(self.model.graph, sizes, 0, self.seed)
        try:
            self.runner(feeds)
        except RunError as error:
            if out_of_memory(str(error)):
                raise MemoryError from None
            words = _WORDS.search(str(error))
            if words and words[2] not in {conv.top_node for conv in self.convs}:
                return f"node {words[2]!r} ({words[1]}) refuses {title}: {words[3].strip()}"
            run = Run(self.model, self.convs, title, [self.config], lambda _: None, judging=False)
            run.execute(feeds)
            return next((f"with {title}: {reason}" for reason in run.broken.values()), "")
        return ""
