"""Pads immediately before a convolution: found in a run's steps, and folded into its spec, for all adapters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from convspec.contract.model_parts import StepTrace, TracedStep
from convspec.contract.protocol import FoundConv
from convspec.errors import SpecError
from convspec.spec import ConvSpec, Pads, layouts, steps, sum_pads


@dataclass(frozen=True, slots=True)
class Pad:
    """One pad of the spatial axes.

    Attributes:
        mode: one of the padding modes of a spec.
        cells: ``(before, after)`` for each spatial axis.
    """

    mode: str
    cells: Pads


VARIES = "it is called several times, with other pads before it"
Before: TypeAlias = "Sequence[Pad | str]"  # the nearest first; a text: why a pad is no padding of a spec


def pads_met(trace: StepTrace) -> dict[str, list[Pad | str]]:
    """Return the pads before each convolution of a run by its path; not those that a layer adds within itself."""
    makers = {number: step for step in trace.steps for number in step.writes}
    found: dict[str, list[Pad | str]] = {}
    for conv in trace.steps:
        if isinstance(conv.step, ConvSpec):
            pads = list(_chain(conv, conv.step, makers))
            if found.setdefault(conv.path, pads) != pads:
                found[conv.path] = [VARIES]
    return found


def _chain(conv: TracedStep, spec: ConvSpec, makers: Mapping[int, TracedStep]) -> Iterator[Pad | str]:
    """Yield the pads that made the input of a convolution, the nearest first."""
    maker = makers.get(conv.reads[0])
    while maker is not None and isinstance(maker.step, steps.Pad):
        if not maker.path.startswith(f"{conv.path}."):
            pad = maker.step
            pairs = [(0, 0)] * (spec.ndim + 2 - len(pad.padding)) + list(pad.padding)
            yield described(pad.mode, pairs, pad.value, layouts.family(conv.layout, spec.ndim))
        maker = makers.get(maker.reads[0])


def folded(found: FoundConv, before: Before) -> FoundConv:
    """Return the convolution with preceding pads in its spec, as far as a spec allows; ``note`` has the rest."""
    for pad in before:
        if found.reading is None:
            return found
        try:
            if isinstance(pad, str):
                raise SpecError([pad])
            spec = _padded(found.reading.spec, pad)
        except SpecError as error:
            return replace(found, note=f"a pad before it is not folded into its spec: {error}")
        cells = sum_pads(found.pads or ((0, 0),) * spec.ndim, pad.cells)
        found = replace(found, reading=replace(found.reading, spec=spec), pads=cells)
    return found


def _padded(spec: ConvSpec, pad: Pad) -> ConvSpec:
    """Return the spec with one more pad.

    Raises:
        SpecError: where no spec expresses it.
    """
    if len(pad.cells) != spec.ndim:
        raise SpecError([f"it pads {len(pad.cells)} spatial axes, the convolution has {spec.ndim}"])
    if min(n for pair in pad.cells for n in pair) < 0:
        raise SpecError(["it crops"])
    if not any(map(any, pad.cells)):
        return spec
    if spec.transposed:
        raise SpecError(["the convolution is transposed"])
    if isinstance(spec.padding, str):
        raise SpecError([f"the convolution's own padding={spec.padding!r} depends on the input's size"])
    own = any(map(any, spec.padding))
    if own and not (pad.mode == spec.padding_mode and pad.mode in ("zeros", "replicate")):
        raise SpecError([f"it pads by {pad.mode!r}, the convolution has {spec.padding_mode!r} padding of its own"])
    return replace(spec, padding=sum_pads(spec.padding, pad.cells), padding_mode=pad.mode)


def described(mode: str, pairs: Sequence[Sequence[int]], value: object = 0, layout: str = "NCHW") -> Pad | str:
    """Return a framework's pad of all axes, batch and channels included; a text where a spec has no such padding.

    Args:
        mode: a framework's word, or ``"zeros"``.
        pairs: ``(before, after)`` for every axis in ``layout``; or for the spatial axes alone, with layout ``""``.
        value: of mode ``"constant"``.
        layout: ``"NCHW"`` or ``"NHWC"``.
    """
    known = MODES.get(mode)
    if known is None:
        return f"its mode {mode!r} is none of a spec's"
    if known == "zeros" and (not isinstance(value, int | float) or value != 0):
        return f"it pads with {value!r}, a convolution with 0"
    cells = tuple((int(a), int(b)) for a, b in pairs)
    if layout:
        outer, cells = (cells[:2], cells[2:]) if layout == "NCHW" else ((cells[0], cells[-1]), cells[1:-1])
        if any(map(any, outer)):
            return "it pads the batch or the channels"
    return Pad(known, cells)


MODES = {
    "constant": "zeros", "zeros": "zeros", "zero": "zeros", "reflect": "reflect", "reflection": "reflect",
    "replicate": "replicate", "replication": "replicate", "edge": "replicate", "circular": "circular",
    "wrap": "circular",
}  # fmt: skip
