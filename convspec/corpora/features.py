"""The traits of a case: its value for every feature of a convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convspec.reference import STATISTICAL_MINIMUM
from convspec.spec import ConvSpec, product

if TYPE_CHECKING:
    from convspec.corpora.cases import Case


def traits(spec: ConvSpec, input_shape: Sequence[int]) -> dict[str, str]:
    """Feature → value, e.g. ``{"rank": "2", "kernel": "odd", "padding": "same", …}``.

    Equal specs have equal traits. ``input_shape`` is canonical.
    """
    pairs = list(zip(spec.stride, spec.effective_kernel, strict=True))
    return {
        "rank": str(spec.ndim),
        "kernel": _kernel(spec.kernel_size),
        "stride": _spread(spec.stride, 1),
        "reach": "skips cells" if any(s > ke for s, ke in pairs) else "sees all cells",
        "padding": _padding(spec),
        "mode": spec.padding_mode,
        "dilation": _spread(spec.dilation, 1),
        "groups": _groups(spec),
        "bias": "bias" if spec.bias else "no bias",
        "direction": "transposed" if spec.transposed else "regular",
        "output_padding": _output_padding(spec),
        "batch": str(input_shape[0]) if input_shape[0] < 3 else "more",
    }


def case_traits(case: Case) -> dict[str, str]:
    """The traits of a case's layer, with ``layout``, ``dtype`` and ``size``, the class of its input and output sizes.

    Raises:
        ShapeError: if the layer has no output.
    """
    own = {"layout": case.layout, "dtype": case.dtype, "size": _size(case)}
    return traits(case.spec, case.input_shape) | own


def _size(case: Case) -> str:
    """``"single"``: one window along every axis; ``"coincident"``: as many pixels along every axis as channels;
    ``"large"``: enough outputs for the statistical bound; else ``"plain"``.
    """
    spatial = case.input_shape[2:]
    output = case.spec.output_shape(case.input_shape)
    windows = spatial if case.spec.transposed else output[2:]
    if all(n == 1 for n in windows):
        return "single"
    if set(spatial) == {case.spec.in_channels}:
        return "coincident"
    return "large" if product(output) >= STATISTICAL_MINIMUM else "plain"


def _kernel(size: tuple[int, ...]) -> str:
    if all(k == 1 for k in size):
        return "one"
    remainders = {k % 2 for k in size}
    return "mixed" if len(remainders) == 2 else "odd" if 1 in remainders else "even"


def _spread(values: tuple[int, ...], neutral: int) -> str:
    if all(v == neutral for v in values):
        return "one"
    return "equal" if len(set(values)) == 1 else "per axis"


def _padding(spec: ConvSpec) -> str:
    if isinstance(spec.padding, str):
        return spec.padding
    pads, spans = spec.padding, [ke - 1 for ke in spec.effective_kernel]
    if not any(map(any, pads)):
        return "none"
    if spec.ndim == 1 and pads == ((spans[0], 0),) and not spec.transposed:
        return "causal"
    if all(s == 1 for s in spec.stride) and not any(spec.output_padding):  # where the words mean these numbers
        halves = tuple((span // 2, span - span // 2) for span in spans)
        if pads in (halves, tuple(h[::-1] for h in halves)):
            return "same" if pads == halves else "same_lower"
    if any(lo != hi for lo, hi in pads):
        return "asymmetric"
    return "equal" if len(set(pads)) == 1 else "per axis"


def _groups(spec: ConvSpec) -> str:
    if spec.groups == 1:
        return "one"
    if spec.groups < spec.in_channels:
        return "some"
    return "depthwise" if spec.out_channels == spec.in_channels else "depthwise with multiplier"


def _output_padding(spec: ConvSpec) -> str:
    if not any(spec.output_padding):
        return "none"
    beyond = any(op >= s for op, s in zip(spec.output_padding, spec.stride, strict=True))
    return "beyond stride" if beyond else "some"
