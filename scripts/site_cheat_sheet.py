"""The cheat sheet: names, kernel orders and the transpose between any two, orders of pads, defaults that differ, sizes.

Names, kernel orders and output sizes are computed from the adapters; defaults outside convolutions stand in
``docs/_data/defaults.toml``, and a test compares them with the installed frameworks.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from itertools import permutations
from typing import Any

from site_frameworks import KERNELS, of
from site_messages import EXPLAINED
from site_parameters import DATA, parameters

from convspec import ConvSpec
from convspec.layers import kernel_orders as kernels

Table = Callable[[tuple[str, ...], list[tuple[object, ...]]], str]
FRAMEWORKS = ("torch", "flax", "keras", "onnx", "equinox", "openvino")


def _name(said: dict[str, str]) -> str:
    return f"`{said['name']}`" if "name" in said else said["words"].partition(":")[0]


def names(table: Table) -> str:
    rows: list[tuple[object, ...]] = [
        (f"[`{parameter}`](reference/parameters/{parameter}.md)", *(_name(entry[name]) for name in FRAMEWORKS))
        for parameter, entry in parameters().items()
    ]
    return table(("convspec", *(EXPLAINED[name] for name in FRAMEWORKS)), rows)


def axes(framework: str, spec: ConvSpec) -> str:
    """Return the axes of a framework's stored kernel, ``(H, W, I, O)``."""
    own = of(framework)[0]
    return kernels.of_plan(spec, framework, own.source(spec, own.native_layout)).axes(spec)


def kernel_rows(table: Table) -> str:
    shown = {name: KERNELS[name] for name in ("1-D", "2-D", "3-D", "transposed")}
    rows: list[tuple[object, ...]] = [
        (what, *(f"`{axes(name, spec)}`" for name in FRAMEWORKS)) for what, spec in shown.items()
    ]
    return table(("kernel", *(EXPLAINED[name] for name in FRAMEWORKS)), rows)


def transpose_rows(table: Table) -> str:
    """Return the axes for ``np.transpose`` from each framework's 2-D kernel to every other's."""
    stored = {name: axes(name, KERNELS["2-D"]).strip("()").split(", ") for name in FRAMEWORKS}
    order = {(a, b): tuple(stored[a].index(axis) for axis in stored[b]) for a, b in permutations(FRAMEWORKS, 2)}
    rows: list[tuple[object, ...]] = [
        (EXPLAINED[a], *("" if a == b else _transpose(order[a, b]) for b in FRAMEWORKS)) for a in FRAMEWORKS
    ]
    return table(("from ↓ to →", *(EXPLAINED[name] for name in FRAMEWORKS)), rows)


def _transpose(order: tuple[int, ...]) -> str:
    return "as it is" if order == tuple(range(len(order))) else f"`{order}`"


def default_rows(table: Table) -> str:
    found: dict[str, dict[str, Any]] = tomllib.loads((DATA / "defaults.toml").read_text("utf-8"))
    columns = ("torch", "flax", "keras", "onnx")
    rows: list[tuple[object, ...]] = [
        (entry["title"], *(entry.get(name, "–") for name in columns)) for entry in found.values()
    ]
    return table(("", *(EXPLAINED[name] for name in columns)), rows)


def size_rows(table: Table) -> str:
    """Return the output sizes of common layers for common inputs."""
    layers = {
        "k3 s1 p1": ConvSpec(1, 1, 3, padding=1), "k3 s2 p1": ConvSpec(1, 1, 3, stride=2, padding=1),
        'k3 s2 "same"': ConvSpec(1, 1, 3, stride=2, padding="same"), "k3 s1": ConvSpec(1, 1, 3),
        "k5 s1 p2": ConvSpec(1, 1, 5, padding=2), "k7 s2 p3": ConvSpec(1, 1, 7, stride=2, padding=3),
        "k2 s2": ConvSpec(1, 1, 2, stride=2), "k3 d2 p2": ConvSpec(1, 1, 3, dilation=2, padding=2),
        "transposed k2 s2": ConvSpec(1, 1, 2, stride=2, transposed=True),
        "transposed k3 s2 p1 op1": ConvSpec(1, 1, 3, stride=2, padding=1, output_padding=1, transposed=True),
        "transposed k4 s2 p1": ConvSpec(1, 1, 4, stride=2, padding=1, transposed=True),
    }  # fmt: skip
    sizes = (7, 14, 27, 28, 32, 224)
    rows: list[tuple[object, ...]] = [
        (what, *(spec.output_shape((1, 1, size, size))[2] for size in sizes)) for what, spec in layers.items()
    ]
    return table(("layer", *map(str, sizes)), rows)


def parts(table: Table) -> dict[str, str]:
    """Return the tables of the sheet, by file name."""
    return {
        "sheet-names": names(table), "sheet-kernels": kernel_rows(table), "sheet-transposes": transpose_rows(table),
        "sheet-defaults": default_rows(table), "sheet-sizes": size_rows(table),
    }  # fmt: skip
