"""Write the corpora ``pairwise`` and ``threewise``: ``python scripts/cover_combinations.py``.

Every combination of two (three) values of thirteen factors that some layer can have occurs in some case. The rows
for two are chosen by ``covertable``; what they leave out is added, and a row that is no layer would be dropped.
"""

from __future__ import annotations

import functools
import gzip
import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import covertable
import numpy as np
from numpy.typing import NDArray

from convspec.corpora import Case, case_traits, dump
from convspec.errors import ConvspecError
from convspec.reference import STATISTICAL_MINIMUM
from convspec.spec import ConvSpec, product

FOLDER = Path(__file__).parents[1] / "convspec" / "corpora"
FILES = {2: FOLDER / "pairwise.jsonl", 3: FOLDER / "threewise.jsonl.gz"}

Row = dict[str, str]
BOUND: dict[str, tuple[str, ...]] = {  # the values of these exclude one another; a row is written by the traits' words
    "rank": ("1", "2", "3"),
    "direction": ("regular", "transposed"),
    "kernel": ("one", "odd", "even", "mixed"),
    "stride": ("one", "equal", "per axis"),
    "padding": ("none", "equal", "per axis", "asymmetric", "same", "same_lower", "causal"),
    "mode": ("zeros", "reflect", "replicate", "circular"),
    "dilation": ("one", "equal", "per axis"),
    "output_padding": ("none", "some", "beyond stride"),
    "size": ("plain", "single", "coincident", "large"),
}
FREE: dict[str, tuple[str, ...]] = {  # these go with everything
    "groups": ("one", "some", "depthwise", "depthwise with multiplier"),
    "bias": ("bias", "no bias"),
    "layout": ("NCHW", "NHWC"),
    "dtype": ("float32", "float64", "float16", "bfloat16"),
}
FACTORS = BOUND | FREE

KERNELS = {"one": (1, 1, 1), "odd": (3, 5, 1), "even": (4, 2, 6), "mixed": (2, 3, 4)}
STRIDES = {"one": (1, 1, 1), "equal": (2, 2, 2), "per axis": (2, 3, 1)}
DILATIONS = {"one": ((1, 1, 1),), "equal": ((2, 2, 2), (3, 3, 3), (4, 4, 4)), "per axis": ((3, 2, 1), (4, 3, 2))}
PADDINGS: dict[str, tuple[Any, ...]] = {
    "none": (0,),
    "equal": (1, 2, 3),
    "per axis": ((2, 1, 3), (1, 2, 3)),
    "asymmetric": (((1, 2), (3, 0), (2, 1)), ((0, 1), (1, 0), (2, 1)), ((2, 1), (0, 1), (1, 1))),
    "same": ("same",),
    "same_lower": ("same_lower",),
    "causal": ("causal",),
}
CHANNELS = {"one": (3, 5, 1), "some": (4, 6, 2), "depthwise": (5, 5, 5), "depthwise with multiplier": (2, 4, 2)}
LONGEST = 400


def written(row: Row) -> Case | None:
    """The case that a row describes; None where there is no such layer."""
    for spec in _layers(row):
        for case in _cases(spec, row):
            if row.items() <= case_traits(case).items():
                return case
    return None


def _layers(row: Row) -> Iterator[ConvSpec]:
    rank, (channels, filters, groups) = int(row["rank"]), CHANNELS[row["groups"]]
    kernel, stride = KERNELS[row["kernel"]][:rank], STRIDES[row["stride"]][:rank]
    for padding, dilation in itertools.product(PADDINGS[row["padding"]], DILATIONS[row["dilation"]]):
        extra = [
            {"none": 0, "some": max(s, d if s == 1 else 0) - 1, "beyond stride": d - 1 if d > s else 0}
            for s, d in zip(stride, dilation, strict=False)
        ]
        if row["output_padding"] == "some":
            choice = [min(e["some"], s - 1) for e, s in zip(extra, stride, strict=True)]
        else:
            choice = [e[row["output_padding"]] for e in extra]
        try:
            yield ConvSpec(
                channels,
                filters,
                kernel,
                stride,
                padding if isinstance(padding, int | str) else padding[:rank],
                dilation[:rank],
                groups,
                row["bias"] == "bias",
                row["mode"],
                row["direction"] == "transposed",
                tuple(choice),
            )
        except ConvspecError:
            continue


def _cases(spec: ConvSpec, row: Row) -> Iterator[Case]:
    """The layer on inputs of that size; with ``coincident`` its channels follow the input."""
    more: dict[str, Any] = {"layout": row["layout"], "dtype": row["dtype"]}
    if row["size"] == "coincident":
        yield from _coincident(spec, row["groups"], more)
        return
    if row["size"] == "large":
        starts = [(1, grown) for grown in range({1: 210, 2: 15, 3: 6}[spec.ndim], LONGEST, 3)]
    else:
        starts = [(2, 1)] if row["size"] == "single" else [(2, 4), (1, 4), (1, 2)]
    for batch, start in starts:
        if (shape := _distinct(spec, batch, start)) is None:
            return
        yield Case(spec, shape, **more)
        if row["size"] == "large" and product(spec.output_shape(shape)) >= STATISTICAL_MINIMUM:
            return


def _distinct(spec: ConvSpec, batch: int, start: int) -> tuple[int, ...] | None:
    """The smallest input from ``start`` on of which no two axes are alike; with ``start`` 1, one window per axis."""
    shape: tuple[int, ...] = ()
    for axis in range(spec.ndim):
        rest = spec.ndim - axis - 1
        for n in range(start, LONGEST):
            try:
                *_, length = spec.output_shape((batch, spec.in_channels, *shape, n, *(LONGEST,) * rest))[: 3 + axis]
            except ConvspecError:
                continue
            if start == 1:
                if (n if spec.transposed else length) > 1:
                    return None
            elif n in {spec.in_channels, *shape}:
                continue
            if length >= 1:
                shape = (*shape, n)
                break
        else:
            return None
    return (batch, spec.in_channels, *shape)


def _coincident(spec: ConvSpec, groups: str, more: dict[str, Any]) -> Iterator[Case]:
    for n in range(4, 40, 2):
        filters = 2 * n if groups == "depthwise with multiplier" else n
        split = {"one": 1, "some": 2}.get(groups, n)
        fields = {"in_channels": n, "out_channels": filters, "groups": split}
        changed = ConvSpec.from_dict({**spec.to_dict(), **fields})
        try:
            output = changed.output_shape((2, *(n,) * (spec.ndim + 1)))
        except ConvspecError:
            continue
        if min(output) >= 1:
            yield Case(changed, (2, *(n,) * (spec.ndim + 1)), **more)
            return


@functools.cache
def legal() -> tuple[Row, ...]:
    """Every combination of the bound factors that some layer has."""
    free = {"groups": "one", "bias": "bias", "layout": "NCHW", "dtype": "float32"}
    found = []
    for values in itertools.product(*BOUND.values()):
        row = dict(zip(BOUND, values, strict=True))
        regular = row["direction"] == "regular"
        if regular != (row["output_padding"] == "none") and regular:
            continue
        if not regular and (row["mode"] != "zeros" or row["padding"] in ("same_lower", "causal")):
            continue
        if written(row | free) is not None:
            found.append(row)
    return tuple(found)


def possible(strength: int) -> set[frozenset[tuple[str, str]]]:
    """Every combination of ``strength`` values that some layer has."""
    found = set()
    for size in range(strength + 1):
        bound = {
            frozenset((name, row[name]) for name in names)
            for names in itertools.combinations(BOUND, size)
            for row in _projected(names)
        }
        free = [
            frozenset(zip(names, values, strict=True))
            for names in itertools.combinations(FREE, strength - size)
            for values in itertools.product(*(FREE[name] for name in names))
        ]
        found |= {a | b for a in bound for b in free}
    return found


@functools.cache
def _projected(names: tuple[str, ...]) -> tuple[Row, ...]:
    distinct = {tuple(row[name] for name in names) for row in legal()}
    return tuple(dict(zip(names, values, strict=True)) for values in sorted(distinct))


def _constraints() -> list[dict[str, Any]]:
    """What ``covertable`` must keep to: every two of the bound factors, and all of them, as some layer has them."""
    subsets = [*itertools.combinations(BOUND, 2), tuple(BOUND)]
    return [{"operator": "fn", "requires": list(names), "evaluate": _known(names)} for names in subsets]


def _known(names: tuple[str, ...]) -> Callable[[Row], bool]:
    known = frozenset(tuple(part.values()) for part in _projected(names))
    return lambda row: tuple(row[name] for name in names) in known


def rows(strength: int) -> list[Row]:
    """A covering array: valid rows only, every possible combination in one of them.

    ``covertable`` needs seconds for two, but more than half an hour for three under these constraints; there its rows
    for two are the beginning.
    """
    levels = {name: list(values) for name, values in FACTORS.items()}
    made = covertable.make_async(levels, strength=2, constraints=_constraints())
    found = [row for row in made if written(row) is not None]
    return [*found, *_completed(found, strength)]


def _completed(found: list[Row], strength: int) -> Iterator[Row]:
    """Rows with what is missing: each has one such combination, and of all rows with it the most others."""
    names, rng = list(FACTORS), np.random.default_rng(0)
    groups = list(itertools.combinations(range(len(names)), strength))
    sizes = [len(values) for values in FACTORS.values()]
    starts = np.cumsum([0, *(math.prod(sizes[i] for i in group) for group in groups)])[:-1]

    def numbers(table: NDArray[np.intp]) -> NDArray[np.intp]:
        """Each row's combinations, numbered: ``(rows, groups)``."""
        places = [np.ravel_multi_index([table[:, i] for i in g], [sizes[i] for i in g]) for g in groups]
        return np.stack(places, axis=1) + starts

    def coded(rows: Iterable[Row]) -> NDArray[np.intp]:
        return np.array([[FACTORS[name].index(row.get(name, FACTORS[name][0])) for name in names] for row in rows])

    missing = {}
    for part in possible(strength):
        wanted = {names.index(name): FACTORS[name].index(value) for name, value in part}
        group = tuple(sorted(wanted))
        at = np.ravel_multi_index([wanted[i] for i in group], [sizes[i] for i in group])
        missing[int(at + starts[groups.index(group)])] = wanted
    open_ = np.zeros(math.comb(len(names), strength) * max(sizes) ** strength, bool)
    open_[list(missing)] = True
    open_[numbers(coded(found))] = False
    bound = coded(legal())
    for number in sorted(missing):
        if not open_[number]:
            continue
        wanted = missing[number]
        fits = bound[np.all([bound[:, i] == v for i, v in wanted.items() if i < len(BOUND)] or [True], axis=0)]
        fits[:, len(BOUND) :] = rng.integers(0, sizes[len(BOUND) :], (len(fits), len(FREE)))
        fits[:, list(wanted)] = list(wanted.values())
        for best in fits[np.argsort(-open_[numbers(fits)].sum(axis=1), kind="stable")]:
            row = {name: FACTORS[name][i] for name, i in zip(names, best, strict=True)}
            if written(row) is not None:  # with more channels a plain size may be a large one
                open_[numbers(best[None])] = False
                yield row
                break
        else:
            raise AssertionError(f"no layer has {wanted}")


def cases(strength: int) -> list[Case]:
    """The corpus, under names that say what is in each case."""
    found = []
    for number, row in enumerate(rows(strength)):
        case = written(row)
        assert case is not None
        named = " ".join(f"{key}={value}".replace(" ", "-") for key, value in row.items())
        found.append(case.varied(name=f"{number}: {named}"))
    return found


def main() -> None:
    for strength, path in FILES.items():
        text = dump(cases(strength))
        data = text.encode()
        path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
        sys.stderr.write(f"{path.name}: {len(text.splitlines())} cases\n")


if __name__ == "__main__":
    main()
