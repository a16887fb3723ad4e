"""Choose the layers of the pack of vectors: ``python scripts/select_vectors.py``, which writes ``layers.jsonl``.

From the corpora ``features``, ``pairwise`` and ``regressions``: small layers, each in the kinds of vectors that it has.
The choice is frozen with the pack's version, so run this for a new version only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convspec import corpora
from convspec.corpora import Case
from convspec.errors import ShapeError
from convspec.spec import ConvSpec, exact_budget, exact_limit, forward_products, product

LAYERS = Path(__file__).parents[1] / "convspec" / "corpora" / "pack" / "layers.jsonl"
ELEMENTS, WORK = 3_000, 20_000  # numbers and products of one vector
RANDOM = ("float32", "float32", "float64", "float16", "bfloat16")  # in turn
FIELDS = ("in_channels", "out_channels", "kernel_size")


def layers() -> Iterator[Case]:
    """Yield every layer of the pack once; of the regressions those of a rank, direction and padding not seen often."""
    seen: set[Any] = set()
    often: dict[Any, int] = {}
    for name in ("features", "pairwise", "regressions"):
        for case in corpora.load(name):
            key = case.spec, case.input_shape
            spec = case.spec
            kind = spec.ndim, spec.transposed, spec.padding_mode, spec.groups > 1, str(spec.padding)[:4]
            often[kind] = often.get(kind, 0) + (name == "regressions")
            if key not in seen and small(case) and often[kind] <= 1:
                seen.add(key)
                yield case


def small(case: Case) -> bool:
    """Whether the layer's arrays and work are small, and its integers need no sparse kernel."""
    try:
        output, work = product(case.spec.output_shape(case.input_shape)), case.spec.macs(case.input_shape)
    except ShapeError:
        output = work = 0
    size = product(case.input_shape) + product(case.spec.kernel_shape) + output
    dense = forward_products(case.spec) <= exact_limit("bfloat16") * 3 // 4
    return size <= ELEMENTS and work <= WORK and dense and case.spec.ndim <= 3


def kinds(case: Case, number: int) -> Iterator[str]:
    """Yield the vectors of a layer: kind, layout, dtype."""
    spec = case.spec
    narrow = case.dtype if exact_budget(spec, case.dtype).taps is None else "float32"
    narrow = "float32" if narrow == "float64" else narrow
    try:
        output = product(spec.output_shape(case.input_shape))
    except ShapeError:
        yield "refused NCHW float32"
        return
    yield f"exact NCHW {narrow}"
    if number % 2 or case.layout == "NHWC" or output <= 60:
        yield f"exact NHWC {narrow}"
    if not output or not product(case.input_shape):
        return
    if number % 4 == 1:
        yield f"random {('NCHW', 'NHWC')[number // 4 % 2]} {RANDOM[number // 4 % 5]}"
    if number % 4 == 2:
        yield f"gradient {('NCHW', 'NHWC')[number // 4 % 2]} float32"
    if number % 4 == 3 or (number % 4 == 0 and spec.padding_mode == "zeros" and not spec.transposed and output <= 60):
        yield f"quantized {('NCHW', 'NHWC')[number // 4 % 3 == 2]} {('uint8', 'int8')[number // 4 % 2]}"


def compact(spec: ConvSpec) -> dict[str, Any]:
    """Return the fields that are not the default's."""
    plain = ConvSpec(spec.in_channels, spec.out_channels, spec.kernel_size).to_dict()
    return {name: value for name, value in spec.to_dict().items() if name in FIELDS or value != plain[name]}


def main() -> None:
    lines = []
    for number, case in enumerate(layers()):
        line = {"name": case.name, "spec": compact(case.spec), "input_shape": list(case.input_shape),
                "vectors": list(kinds(case, number))}  # fmt: skip
        lines.append(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n")
    LAYERS.write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    main()
