"""Write the corpus ``features``: ``python scripts/cover_features.py > convspec/corpora/features.jsonl``.

Three parts: cases that cover every pair of feature values that can occur together, apart for regular and for
transposed layers; edges; coincidences of sizes. Only a new *value* of a feature belongs into this script's tables;
the choice of cases follows. In the first part every axis has a size of its own, since equal sizes hide swapped axes.
"""

from __future__ import annotations

import functools
import itertools
import operator
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from convspec.corpora import Case, dump, traits
from convspec.errors import ConvspecError
from convspec.spec import ConvSpec

KERNELS = {"one": (1, 1, 1), "odd": (3, 5, 7), "even": (4, 2, 6), "mixed": (2, 3, 4)}
STRIDES = {"one": (1, 1, 1), "equal": (2, 2, 2), "per axis": (2, 3, 4)}
REACHES = ("sees all cells", "skips cells")
DILATIONS = {"one": (1, 1, 1), "equal": (2, 2, 2), "per axis": (3, 2, 1)}
PADDINGS: dict[str, Any] = {
    "none": 0,
    "equal": 1,
    "per axis": (2, 1, 3),
    "asymmetric": ((1, 2), (3, 0), (2, 1)),
    "same": "same",
    "same_lower": "same_lower",
    "causal": "causal",
}
MODES = ("zeros", "reflect", "replicate", "circular")
OUTPUT_PADDINGS = ("none", "some", "beyond stride")
GROUPS = {"one": (3, 5, 1), "some": (4, 6, 2), "depthwise": (5, 5, 5), "depthwise with multiplier": (3, 6, 3)}
BIASES = {"bias": True, "no bias": False}
BATCHES = {"1": 1, "2": 2, "0": 0}
Item = tuple[str, str]  # a feature and its value


def legal_geometries(transposed: bool) -> Iterator[ConvSpec]:
    """One spec per combination of the features that bind one another, where there is such a layer."""
    for rank, kernel, stride, reach, padding, mode, dilation, extra in itertools.product(
        (1, 2, 3),
        KERNELS.items(),
        STRIDES.items(),
        REACHES,
        PADDINGS.items(),
        MODES,
        DILATIONS.items(),
        OUTPUT_PADDINGS,
    ):
        wanted = {"kernel": kernel[0], "stride": stride[0], "reach": reach, "padding": padding[0], "mode": mode}
        wanted |= {"dilation": dilation[0], "output_padding": extra}
        spans = [(k - 1) * d + 1 for k, d in zip(kernel[1], dilation[1], strict=True)][:rank]
        steps = _steps(stride, reach, spans)
        try:
            spec = ConvSpec(
                3,
                5,
                kernel[1][:rank],
                steps,
                padding[1] if isinstance(padding[1], int | str) else padding[1][:rank],
                dilation[1][:rank],
                padding_mode=mode,
                transposed=transposed,
                output_padding=_output_padding(extra, steps, dilation[1]),
            )
        except ConvspecError:
            continue
        if wanted.items() <= traits(spec, (1,)).items():
            yield spec


def _steps(stride: tuple[str, tuple[int, ...]], reach: str, spans: list[int]) -> tuple[int, ...]:
    """Strides of that kind, longer than the kernel where cells are to be skipped."""
    kind, values = stride
    if reach == "sees all cells" or kind == "one":
        return values[: len(spans)]
    if kind == "equal":
        return (max(spans) + 1,) * len(spans)
    return tuple(max(span, max(spans) - 1) + 1 + i for i, span in enumerate(spans))


def _output_padding(extra: str, stride: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    if extra == "none":
        return (0,) * len(stride)
    if extra == "some":
        return tuple(max(s - 1 - i % 2, 0) for i, s in enumerate(stride))
    return tuple(d - 1 if d > s else 0 for s, d in zip(stride, dilation, strict=False))


def cover(geometries: list[ConvSpec]) -> Iterator[Case]:
    """The fewest cases that a greedy choice finds: each next one has the most pairs that none before had.

    First every pair that two spatial axes allow, by cases with two, then what is left by any. A case without a
    batch computes nothing, so it counts only for the pairs that its zero batch is part of.
    """
    candidates: list[tuple[int, ConvSpec, tuple[int, int, int], bool, int]] = []
    numbers: dict[tuple[Item, Item], int] = {}
    chosen: dict[str, Iterable[str]] = {"groups": GROUPS, "bias": BIASES, "batch": BATCHES}

    def mask_of(pairs: Iterable[tuple[Item, Item]]) -> int:
        return functools.reduce(operator.or_, (1 << numbers.setdefault(pair, len(numbers)) for pair in pairs), 0)

    for geometry in geometries:
        base = [item for item in traits(geometry, (1,)).items() if item[0] not in chosen]
        among = mask_of(itertools.combinations(base, 2))
        items = [(name, value) for name, values in chosen.items() for value in values]
        each = {item: mask_of((one, item) for one in base) for item in items}
        for groups, bias, batch in itertools.product(GROUPS, BIASES, BATCHES):
            own = ("groups", groups), ("bias", bias), ("batch", batch)
            pairs = itertools.combinations(own, 2)
            if batch == "0":
                mask = each[own[2]] | mask_of(pair for pair in pairs if own[2] in pair)
            else:
                mask = among | each[own[0]] | each[own[1]] | each[own[2]] | mask_of(pairs)
            candidates.append((mask, geometry, GROUPS[groups], BIASES[bias], BATCHES[batch]))
    missing = (1 << len(numbers)) - 1
    for stage in ([c for c in candidates if c[1].ndim == 2], candidates):
        possible = functools.reduce(operator.or_, (c[0] for c in stage), 0)
        while left := missing & possible:
            mask, geometry, channels, with_bias, size = max(stage, key=lambda c: (c[0] & left).bit_count())
            missing &= ~mask
            yield sized(_with(geometry, channels, with_bias), size)


def _with(spec: ConvSpec, channels: tuple[int, int, int], bias: bool) -> ConvSpec:
    fields = dict(zip(("in_channels", "out_channels", "groups"), channels, strict=True))
    return ConvSpec.from_dict({**spec.to_dict(), **fields, "bias": bias})


def sized(spec: ConvSpec, batch: int) -> Case:
    """A small input of which no two axes are alike, nor any two of the output, with a remainder at the end."""
    shape: tuple[int, ...] = ()
    for axis in range(spec.ndim):
        for n in itertools.count(2 if spec.transposed else 4):
            trial = (batch, spec.in_channels, *shape, n, *range(90, 90 + spec.ndim - axis - 1))
            try:
                out = spec.output_shape(trial)
            except ConvspecError:
                continue
            taken = {spec.in_channels, spec.out_channels, *shape, *out[2 : 2 + axis]}
            if n not in taken and out[2 + axis] not in taken and out[2 + axis] >= 2:
                shape = (*shape, n)
                break
    return named(Case(spec, (batch, spec.in_channels, *shape)))


def named(case: Case, note: str = "") -> Case:
    """The case under a name that says what is in it."""
    spec, kinds = case.spec, traits(case.spec, case.input_shape)
    words = [f"{spec.ndim}d", "transposed" if spec.transposed else "", f"k{_times(spec.kernel_size)}"]
    words += [
        f"{letter}{_times(value)}" for letter, value in (("s", spec.stride), ("d", spec.dilation)) if set(value) != {1}
    ]
    words += [] if kinds["padding"] == "none" else [f"pad {kinds['padding']}"]
    words += [] if spec.padding_mode == "zeros" else [spec.padding_mode]
    words += [f"op{_times(spec.output_padding)}"] if any(spec.output_padding) else []
    words += [] if spec.groups == 1 else [f"g{spec.groups} {kinds['groups']}"]
    words += [] if spec.bias else ["no bias"]
    words += [f"on {_times(case.input_shape)}"]
    text = " ".join(filter(None, words))
    return case.varied(name=f"{note}: {text}" if note else text)


def _times(values: tuple[int, ...]) -> str:
    return "x".join(map(str, values))


def edge(note: str, shape: tuple[int, ...], *args: Any, **options: Any) -> Case:
    return named(Case(ConvSpec(shape[1], *args, ndim=len(shape) - 2, **options), shape), note)


def edges() -> Iterator[Case]:
    yield edge("kernel larger than the input", (2, 3, 4), 5, 6)
    yield edge("kernel larger than the padded input", (1, 3, 4, 6), 5, (7, 3), padding=1)
    yield edge("dilated kernel larger than the input", (1, 2, 5, 9, 7), 3, (3, 2, 2), dilation=(3, 1, 1))
    yield edge("kernel larger than the input", (1, 3, 2, 4), 5, (5, 7), padding="same")
    yield edge("kernel larger than the input", (1, 3, 3, 4), 5, (7, 6), stride=(2, 3), padding="same")
    yield edge("kernel as large as the input", (2, 3, 4, 6), 5, (4, 6))
    yield edge("even kernel", (1, 3, 7, 9), 5, (2, 4), padding="same")
    yield edge("even kernel", (1, 3, 7, 9), 5, (2, 4), padding="same_lower")
    yield edge("even kernel", (1, 3, 6, 9), 5, (4, 2), stride=2, padding="same")
    yield edge("stride larger than the input", (1, 3, 4, 6), 5, (2, 3), stride=(7, 9), padding="same")
    yield edge("stride larger than the kernel", (1, 3, 9, 11), 5, (1, 2), stride=(3, 4))
    yield edge("1x1 with stride", (2, 3, 8, 6), 5, 1, stride=2, bias=False)
    yield edge("same needs no pad", (1, 3, 8, 9), 5, (1, 2), stride=(4, 3), padding="same")
    yield edge("dilation of a single tap", (1, 3, 5, 7), 4, 1, dilation=(2, 3))
    yield edge("pad larger than the kernel", (1, 2, 4, 6), 3, (2, 3), padding=(4, 5))
    yield edge("zero batch", (0, 3, 6, 8), 5, (3, 5), padding=1)
    yield edge("zero batch", (0, 3, 6, 8), 5, (3, 5), stride=(2, 3), transposed=True)
    yield edge("no cells, and same adds none", (1, 3, 0, 5), 4, (2, 3), stride=2, padding="same")
    yield edge("no cells, output of pads alone", (1, 3, 0, 6), 4, (2, 3), padding=(2, 1))
    yield edge("cropped to nothing", (1, 3, 2, 5), 4, (2, 3), padding=((1, 2), (1, 0)), transposed=True)
    yield edge("cropped to nothing", (2, 3, 1), 4, 3, padding=((2, 1),), transposed=True)
    yield edge("one filter, cropped to nothing", (2, 1, 2, 5), 1, (2, 3), padding=((1, 2), (1, 0)), transposed=True)
    yield edge("cropped to less than nothing", (1, 3, 2), 4, 2, padding=((2, 2),), transposed=True)
    yield edge(
        "no cells along one axis, output of the kernel alone",
        (1, 3, 0, 4),
        4,
        (5, 3),
        stride=2,
        output_padding=(1, 0),
        transposed=True,
    )
    yield edge("no cells along one axis", (1, 2, 0, 3, 4), 3, (3, 2, 2), stride=(2, 1, 1), transposed=True)
    yield edge(
        "no cells along one axis, stride larger than the kernel",
        (1, 3, 0, 4),
        5,
        (1, 3),
        stride=2,
        output_padding=(1, 0),
        transposed=True,
    )
    yield edge(
        "nothing left but output_padding",
        (1, 3, 1),
        4,
        2,
        dilation=3,
        padding=((5, 0),),
        output_padding=2,
        transposed=True,
    )
    yield edge("one channel in, one column out", (2, 1, 6, 5), 3, (2, 3), stride=(1, 4))
    yield edge(
        "one tap, as large again by output_padding",
        (2, 3, 4, 5),
        4,
        1,
        dilation=(2, 3),
        padding=((1, 0), (1, 1)),
        output_padding=(1, 2),
        transposed=True,
    )
    yield edge("one cell deep, depthwise", (1, 3, 1, 2, 9), 6, (3, 2, 2), padding=1, groups=3)
    yield edge("one filter", (2, 3, 6, 7), 1, (2, 3))
    yield edge("more channels than a vector of sixteen", (1, 17, 4, 5), 19, (3, 2), padding=1)
    yield edge("more channels than a vector of sixteen", (1, 18, 3, 4), 20, (2, 3), stride=2, groups=2, transposed=True)
    yield edge("one column in, one channel out", (2, 3, 6, 1), 1, (3, 5), stride=(1, 4), transposed=True)
    yield edge("one channel and column in, one channel out", (2, 1, 6, 1), 1, (3, 5), stride=(1, 4), transposed=True)
    yield edge("reflect by all but one cell", (1, 2, 4, 6), 3, (3, 2), padding=(3, 5), padding_mode="reflect")
    yield edge("reflect by all cells", (1, 2, 4, 6), 3, (3, 2), padding=(4, 1), padding_mode="reflect")
    yield edge("reflect by all cells of no samples", (0, 2, 4, 6), 3, (3, 2), padding=(4, 1), padding_mode="reflect")
    yield edge("circular by all cells", (1, 2, 4, 6), 3, (3, 2), padding=(4, 6), padding_mode="circular")
    yield edge("circular by more than all cells", (1, 2, 4, 6), 3, (3, 2), padding=(5, 1), padding_mode="circular")
    yield edge("replicate by more than all cells", (1, 2, 2, 5), 3, (3, 2), padding=(4, 7), padding_mode="replicate")
    yield edge("a single cell", (1, 3, 1, 1), 5, (3, 2), padding="same")
    yield edge("a single cell", (2, 3, 1, 1), 5, (4, 3), transposed=True)
    yield edge(
        "output_padding without a crop", (1, 3, 3, 4), 5, (2, 3), stride=(3, 2), output_padding=(2, 1), transposed=True
    )
    yield edge(
        "output_padding beyond the stride",
        (1, 3, 4, 5),
        5,
        (2, 3),
        stride=(1, 2),
        dilation=(3, 4),
        output_padding=(2, 3),
        transposed=True,
    )
    yield edge(
        "transposed same, kernel shorter than the stride",
        (1, 3, 4, 5),
        6,
        (2, 1),
        stride=(3, 4),
        padding="same",
        transposed=True,
    )
    yield edge(
        "transposed same, kernel longer than the stride",
        (1, 3, 4, 5),
        6,
        (5, 4),
        stride=(2, 3),
        padding="same",
        transposed=True,
    )
    yield edge(
        "transposed, crop longer than the kernel", (1, 3, 9, 8), 5, (2, 3), stride=2, padding=(3, 4), transposed=True
    )


def swaps() -> Iterator[Case]:
    """Layers of which a compiler may exchange kernel and input, or dy, with an axis that looks like one of a batch."""
    for groups in (1, 2):
        yield edge(
            "two taps spread by two, without pads, beside more taps than cells",
            (2, 4, 3, 2),
            6,
            (2, 4),
            stride=(2, 1),
            padding=((1, 1), (1, 0)),
            groups=groups,
            transposed=True,
        )
    yield edge(
        "two taps of stride two, beside more taps than outputs",
        (1, 3, 6, 5),
        4,
        (2, 4),
        stride=(2, 1),
        padding=((1, 1), (0, 0)),
    )
    yield edge(
        "as many outputs as the stride, beside more outputs than cells",
        (2, 4, 3, 2),
        6,
        (4, 3),
        stride=2,
        padding=((3, 3), (0, 0)),
        groups=2,
        transposed=True,
    )


def coincidences() -> Iterator[Case]:
    def same(note: str, shape: tuple[int, ...], *args: Any, **options: Any) -> Case:
        return named(Case(ConvSpec(shape[1], *args, ndim=len(shape) - 2, **options), shape), f"coincidence, {note}")

    for rank in (1, 2, 3):
        yield same("channels = sizes = filters", (1, *(8,) * (rank + 1)), 8, 3, padding=1)
    yield same("channels = sizes = filters", (2, 6, 6, 6), 6, (3, 5), padding="same", dilation=(2, 1))
    yield same("batch = channels = sizes = filters", (4, 4, 4, 4), 4, 3, padding=1)
    yield same("batch = channels = sizes = filters = kernel", (3, 3, 3, 3), 3, 3, padding=1)
    yield same("batch = channels", (3, 3, 5, 7), 4, (2, 3))
    yield same("output width = filters", (1, 3, 6, 9), 7, (2, 3))
    yield same("output height = filters", (1, 3, 9, 6), 7, 3)
    yield same("input width = channels", (1, 5, 7, 5), 4, (3, 2))
    yield same("input height = channels", (1, 5, 5, 7), 4, (3, 2))
    yield same("kernel = channels = filters", (1, 3, 7, 8), 3, 3)
    yield same("stride = dilation = kernel", (1, 2, 9, 11), 4, 2, stride=2, dilation=2)
    yield same("dilation = kernel", (1, 2, 7, 9), 4, 3, padding="same", dilation=3)
    yield same("depthwise, channels = sizes", (1, 6, 6, 6), 6, 3, padding=1, groups=6)
    yield same("depthwise, multiplier = channels", (1, 2, 4, 4), 4, 3, padding=1, groups=2)
    yield same("groups = batch = kernel", (2, 4, 6, 8), 6, 2, groups=2)
    yield same("transposed, channels = sizes = filters", (1, 8, 8, 8), 8, 3, padding=1, transposed=True)
    yield same("transposed, output width = filters", (1, 3, 4, 5), 10, 2, stride=2, transposed=True)
    yield same("transposed, 1-D, output width = filters", (1, 3, 5), 10, 2, stride=2, transposed=True)
    yield same("transposed, groups = channels = sizes", (1, 4, 4, 4), 4, 2, stride=2, groups=4, transposed=True)
    yield same("everything 1", (1, 1, 1, 1), 1, 1)
    yield same("everything 2", (2, 2, 2, 2), 2, 2, stride=2, padding=2, dilation=2)
    yield same("everything 1", (1, 1, 1), 1, 1, transposed=True)
    yield same("output width = filters", (1, 3, 6), 4, 3)
    yield same("output width = filters", (1, 3, 4, 5, 6), 4, (2, 2, 3))


def cases() -> Iterator[Case]:
    """The corpus."""
    for transposed in (False, True):
        yield from cover([*legal_geometries(transposed)])
    yield from edges()
    yield from swaps()
    yield from coincidences()


if __name__ == "__main__":
    sys.stdout.write(dump(cases()))
