"""Pools and resizing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from convspec.contract.tracing import Link, repeated
from convspec.spec import steps
from convspec_torch.network.meanings import LINEAR, resize
from convspec_torch.steps.calls import FIRST, Builder, Call, batched

_INDICES = "it returns the positions of the maxima too"


def _window(given: Mapping[str, Any], ndim: int) -> dict[str, Any]:
    """Return the fields that all pools with a window have."""
    stride = given.get("stride")
    return {
        "kernel_size": repeated(given["kernel_size"], ndim),
        "stride": repeated(stride, ndim) if stride or isinstance(stride, int) else None,
        "padding": tuple((n, n) for n in repeated(given.get("padding", 0), ndim)),
        "dilation": repeated(given.get("dilation", 1), ndim),
        "ceil_mode": bool(given.get("ceil_mode", False)),
    }


def _max(ndim: int) -> Builder:
    def build(call: Call) -> Iterable[Link]:
        given = call.given("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
        note = _INDICES if len(call.results) > 1 else ""
        return batched(call, steps.MaxPool(**_window(given, ndim)), ndim, note=note)

    return build


def _average(ndim: int) -> Builder:
    def build(call: Call) -> Iterable[Link]:
        given = call.given("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
        step = steps.AveragePool(
            **_window(given, ndim),
            count_include_pad=bool(given.get("count_include_pad", True)),
            divisor=given.get("divisor_override"),
        )
        return batched(call, step, ndim)

    return build


def _lp(ndim: int) -> Builder:
    def build(call: Call) -> Iterable[Link]:
        given = call.given("norm_type", "kernel_size", "stride", "ceil_mode")
        step = steps.LpPool(**_window(given, ndim), p=float(given["norm_type"]), signed=True, full_window=True)
        return batched(call, step, ndim)

    return build


def _adaptive(ndim: int, reduction: str) -> Builder:
    def build(call: Call) -> Iterable[Link]:
        given = call.given("output_size", "return_indices")
        step = steps.AdaptivePool(repeated(given["output_size"], ndim), reduction)
        return batched(call, step, ndim, note=_INDICES if len(call.results) > 1 else "")

    return build


# -- resizing ----------------------------------------------------------------------------------------------------------


def _interpolate(call: Call) -> Link:
    given = call.given(
        "size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias"
    )  # in this order
    mode = given.get("mode", "nearest")
    ndim = call.x.ndim - 2
    size, scale = given.get("size"), given.get("scale_factor")
    if mode == "area":
        return call.link(steps.AdaptivePool(tuple(call.y.shape[2:])), layout=FIRST)
    where = {"size": None if size is None else repeated(size, ndim),
             "scale": None if scale is None else repeated(scale, ndim)}  # fmt: skip
    recompute = bool(given.get("recompute_scale_factor"))
    align, antialias = (bool(given.get(name)) for name in ("align_corners", "antialias"))
    step = resize(mode, where, align=align, antialias=antialias, recompute=recompute)
    return call.link(step, layout=FIRST)


def _operator(mode: str, antialias: bool = False) -> Builder:
    """Return the builder of an ``upsample_…`` operator."""

    def build(call: Call) -> Link:
        given = call.given("output_size", "align_corners")
        ndim = call.x.ndim - 2
        scales = given.get("scale_factors") or [given[n] for n in ("scales_d", "scales_h", "scales_w", "scales")
                                                if given.get(n) is not None]  # fmt: skip
        scale = tuple(scales[-ndim:]) if scales else None
        where = {"scale": scale} if scale else {"size": tuple(given["output_size"])}
        return call.link(resize(mode, where, align=bool(given.get("align_corners")), antialias=antialias), layout=FIRST)

    return build


TABLE: dict[str, Builder] = {"interpolate": _interpolate, "upsample_bicubic2d": _operator("bicubic"),
                             "_upsample_bicubic2d_aa": _operator("bicubic", antialias=True),
                             "_upsample_bilinear2d_aa": _operator("bilinear", antialias=True)}  # fmt: skip
for _n in (1, 2, 3):
    TABLE |= {f"max_pool{_n}d": _max(_n), f"max_pool{_n}d_with_indices": _max(_n), f"avg_pool{_n}d": _average(_n)}
    TABLE |= {f"lp_pool{_n}d": _lp(_n)}
    for _reduction, _word in (("avg", "average"), ("max", "max")):
        TABLE |= dict.fromkeys((f"adaptive_{_reduction}_pool{_n}d", f"_adaptive_{_reduction}_pool{_n}d",
                                f"adaptive_{_reduction}_pool{_n}d_with_indices"), _adaptive(_n, _word))  # fmt: skip
    TABLE |= {
        f"upsample_nearest{_n}d": _operator("nearest"),
        f"_upsample_nearest_exact{_n}d": _operator("nearest-exact"),
    }
    TABLE |= {f"upsample_{LINEAR[_n - 1]}{_n}d": _operator(LINEAR[_n - 1])}
